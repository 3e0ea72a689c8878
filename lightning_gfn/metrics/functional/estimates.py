"""Exact definitions of every reported number, as functions of plain Python values and NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from numbers import Integral
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lightning_gfn.similarity.counting import components, distinct_in_order, expected_distinct, similar_pairs
from lightning_gfn.similarity.rouge import Tokenizer
from lightning_gfn.solution_classes.known_paths import paths_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


@overload
def pass_at_k(num_samples: int, num_correct: int, k: int) -> float: ...
@overload
def pass_at_k(num_samples: Any, num_correct: Any, k: int) -> Any: ...
def pass_at_k(num_samples: Any, num_correct: Any, k: int) -> Any:
    """Unbiased probability that at least one of k samples is correct, from n samples of which c are.

        pass@k = 1 - C(n - c, k) / C(n, k)

    Computed in whole numbers and divided once, so exact to one rounding for any n.

    Args:
        num_samples: n, a whole number, or an array or tensor of them.
        num_correct: c, a whole number, or an array or tensor of them.
        k: number of samples that a user would draw.

    Returns:
        A float for numbers, a float64 array for arrays, a float64 tensor where one argument is a tensor.

    Raises:
        ValueError: if 1 ≤ k ≤ n or 0 ≤ c ≤ n does not hold.

    Source: Chen et al. 2021, arXiv:2107.03374, equation 1.
    """
    if isinstance(num_samples, Integral) and isinstance(num_correct, Integral):
        return _pass_at_k(int(num_samples), int(num_correct), k)
    tensors = [value for value in (num_correct, num_samples) if hasattr(value, "detach")]
    samples, correct = np.broadcast_arrays(_to_numpy(num_samples), _to_numpy(num_correct))
    pairs = zip(samples.ravel().tolist(), correct.ravel().tolist(), strict=True)
    values = np.array([_pass_at_k(_whole(n), _whole(c), k) for n, c in pairs], dtype=np.float64).reshape(samples.shape)
    if not tensors:
        return values
    import torch

    return torch.as_tensor(values, device=tensors[0].device)


def maj_at_k(answers: Sequence[Hashable | None], correct: Sequence[bool], k: int) -> float:
    """Expected accuracy of the majority answer among k samples, exactly, over all k-subsets of the samples.

    Samples without an answer (None) do not vote, a tie is broken uniformly, and a subset without any vote is wrong.
    With k = n this is the plain majority vote; unlike the vote of the first k samples it does not depend on order.

    Args:
        answers: one canonical answer a sample, or None.
        correct: whether each sample is correct; samples with one answer should agree, else their mean is used.
        k: number of voters.

    Returns:
        A probability.

    Raises:
        ValueError: if the lengths differ or 1 ≤ k ≤ n does not hold.

    Source: Wang et al. 2023, arXiv:2203.11171 (self-consistency); the expectation over subsets is ours.
    """
    num_samples = len(answers)
    if len(correct) != num_samples:
        raise ValueError(f"correct: {len(correct)} verdicts for {num_samples} answers")
    _require_k(num_samples, k)
    votes: dict[Hashable, list[bool]] = {}
    for answer, is_correct in zip(answers, correct, strict=True):
        if answer is not None:
            votes.setdefault(answer, []).append(bool(is_correct))
    abstentions = num_samples - sum(len(group) for group in votes.values())
    accuracy = Fraction(0)
    for winner, group in votes.items():
        if any(group):
            rivals = [len(other) for answer, other in votes.items() if answer != winner]
            accuracy += _win_probability(len(group), rivals, abstentions, k) * Fraction(sum(group), len(group))
    return float(accuracy)


def distinct_correct(
    completions: Sequence[str], correct: Sequence[bool], threshold: float, tokenizer: Tokenizer = "rouge"
) -> int:
    """Number of distinct correct solutions: greedy in generation order.

    A correct sample is kept if its ROUGE-L F1 with every kept one is below the threshold and none is the same text.

    Args:
        completions: the samples of one problem, in generation order.
        correct: whether each sample is correct.
        threshold: ROUGE-L F1 from which on two solutions count as one, in (0, 1].
        tokenizer: ``rouge`` (ASCII words, as rouge-score) or ``unicode`` (words of any script).

    Returns:
        The number of kept samples; 0 if none is correct.

    Raises:
        ValueError: if the lengths differ or the threshold is outside (0, 1].
    """
    return distinct_in_order(similar_pairs(completions, correct, threshold, tokenizer))


def distinct_correct_expected(
    completions: Sequence[str],
    correct: Sequence[bool],
    threshold: float,
    tokenizer: Tokenizer = "rouge",
    *,
    num_orders: int = 2000,
    seed: int = 0,
) -> float:
    """``distinct_correct`` averaged over all orders of the correct samples.

        E(S) = 1 + mean_{v in S} E(S - v - similar(v)),  E(∅) = 0        for each connected component

    Exact wherever no component of similar samples has more than 12 members, so always for up to 12 correct samples; the
    mean over random orders otherwise.

    Args:
        completions: the samples of one problem.
        correct: whether each sample is correct.
        threshold: ROUGE-L F1 from which on two solutions count as one, in (0, 1].
        tokenizer: ``rouge`` (ASCII words, as rouge-score) or ``unicode`` (words of any script).
        num_orders: random orders for a component of more than 12 samples.
        seed: of those orders.

    Returns:
        The expected number of kept samples.

    Raises:
        ValueError: if the lengths differ or the threshold is outside (0, 1].
    """
    similar = similar_pairs(completions, correct, threshold, tokenizer)
    return expected_distinct(similar, num_orders=num_orders, seed=seed)


def distinct_correct_components(
    completions: Sequence[str], correct: Sequence[bool], threshold: float, tokenizer: Tokenizer = "rouge"
) -> int:
    """Connected components of the correct samples, two of which are linked where ROUGE-L F1 ≥ threshold.

    Args:
        completions: the samples of one problem.
        correct: whether each sample is correct.
        threshold: ROUGE-L F1 from which on two solutions count as one, in (0, 1].
        tokenizer: ``rouge`` (ASCII words, as rouge-score) or ``unicode`` (words of any script).

    Returns:
        The number of components; 0 if none is correct. Never more than the greedy count.

    Raises:
        ValueError: if the lengths differ or the threshold is outside (0, 1].
    """
    return len(components(similar_pairs(completions, correct, threshold, tokenizer)))


def coverage(completions: Iterable[str], solution_set: Mapping[str, str]) -> float:
    """Share of the known solution paths that the samples found.

        |paths found| / |paths|

    A completion finds a path if it is a text of the set, up to white space.

    Args:
        completions: the samples of one problem.
        solution_set: every correct completion, mapped to the label of its solution path.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: if the set is empty.
    """
    if not solution_set:
        raise ValueError("solution_set: the set of known solutions is empty; leave coverage out for this problem")
    return len(paths_found(completions, solution_set)) / len(set(solution_set.values()))


def paths_found(completions: Iterable[str], solution_set: Mapping[str, str]) -> set[str]:
    """Labels of the known solution paths that the samples found; see ``coverage``.

    Args:
        completions: the samples of one problem.
        solution_set: every correct completion, mapped to the label of its solution path.

    Returns:
        A set of labels.
    """
    return {path for path in paths_of(completions, solution_set) if path is not None}


def bootstrap_ci(
    values: Sequence[float] | NDArray[Any], level: float = 0.95, *, num_resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over problems.

    Args:
        values: one value a problem.
        level: coverage of the interval, in (0, 1).
        num_resamples: resampled data sets.
        seed: of the resampling.

    Returns:
        The lower and the upper bound.

    Raises:
        ValueError: if there is no value, or the level is outside (0, 1).

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    if sample.size == 0:
        raise ValueError("values: at least one value is needed")
    if not 0 < level < 1:
        raise ValueError(f"level: must lie in (0, 1), not {level}")
    generator = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    rows = max(1, 2_000_000 // sample.size)
    for start in range(0, num_resamples, rows):
        size = (min(rows, num_resamples - start), sample.size)
        means[start : start + size[0]] = sample[generator.integers(0, sample.size, size)].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@lru_cache(maxsize=65536)
def _pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    _require_k(num_samples, k)
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"num_correct: {num_correct} of {num_samples} samples is impossible")
    total = math.comb(num_samples, k)
    return (total - math.comb(num_samples - num_correct, k)) / total


def _win_probability(own: int, rivals: Sequence[int], abstentions: int, k: int) -> Fraction:
    """Probability that an answer with ``own`` votes wins among k drawn samples, exactly.

    Counts subsets by generating functions: ``ways[t][d]`` is the number of ways to draw d samples of other answers,
    none of them more often than the answer itself and t of them equally often.
    """
    favourable = Fraction(0)
    for drawn in range(1, min(own, k) + 1):
        others = k - drawn
        ways = [[math.comb(abstentions, size) for size in range(others + 1)]]
        for rival in rivals:
            longer = [[0] * (others + 1) for _ in range(len(ways) + (rival >= drawn))]
            for ties, row in enumerate(ways):
                for size, count in enumerate(row):
                    for taken in range(min(rival, drawn, others - size) + 1 if count else 0):
                        longer[ties + (taken == drawn)][size + taken] += count * math.comb(rival, taken)
            ways = longer
        wins = sum((Fraction(row[others], ties + 1) for ties, row in enumerate(ways)), Fraction(0))
        favourable += math.comb(own, drawn) * wins
    return favourable / math.comb(own + sum(rivals) + abstentions, k)


def _whole(value: float) -> int:
    if value != int(value):
        raise ValueError(f"num_samples and num_correct must be whole numbers, not {value}")
    return int(value)


def _to_numpy(value: Any) -> NDArray[Any]:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _require_k(num_samples: int, k: int) -> None:
    if not 1 <= k <= num_samples:
        raise ValueError(f"k: must lie between 1 and the number of samples ({num_samples}), not {k}; draw more samples")
