"""How many classes of solutions samples hold, and how evenly: exact functions of counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

from lightning_gfn.metrics.functional.estimates import pass_at_k


def cover_at_k(num_samples: int, class_sizes: Sequence[int], k: int) -> float:
    """Expected number of different classes among k of n samples that are drawn without replacement.

        cover@k = Σ_c 1 - C(n - m_c, k) / C(n, k)

    Args:
        num_samples: n, samples of one problem, those that belong to no class included.
        class_sizes: m_c, samples of each class.
        k: samples drawn, between 1 and n.

    Raises:
        ValueError: 1 ≤ k ≤ n does not hold, or a class has more than n samples.

    Source: rarefaction, Hurlbert 1971, Ecology 52(4); with one class it is pass@k.
    """
    return math.fsum(pass_at_k(num_samples, size, k) for size in class_sizes)


def cover_area(num_samples: int, class_sizes: Sequence[int]) -> float:
    """Area under cover@k over all k from 1 to n, as a share of that where every sample is a class of its own.

        Σ_k cover@k / Σ_k k = Σ_c 2 m_c / (n (m_c + 1))

    Args:
        num_samples: n, samples of one problem, at least 1.
        class_sizes: m_c, samples of each class.

    Returns:
        A number in [0, 1].
    """
    return math.fsum(2 * size / (num_samples * (size + 1)) for size in class_sizes)


def effective_classes(class_sizes: Sequence[int]) -> float:
    """exp of the Shannon entropy of the classes' shares: as many equally frequent classes have that entropy.

        exp(-Σ_c p_c log p_c),  p_c = m_c / Σ m

    Args:
        class_sizes: m_c, samples of each class.

    Returns:
        A number between 1 and the number of classes; 0 without any.

    Source: Hill 1973, Ecology 54(2), the number of order 1.
    """
    total = sum(class_sizes)
    shares = [size / total for size in class_sizes if size]
    return math.exp(-math.fsum(p * math.log(p) for p in shares)) if shares else 0.0


def uniform_distance(labels: Collection[str], known: Collection[str]) -> float:
    """Total variation of the samples' classes from the uniform distribution over the known classes.

        ½ Σ_c |p_c - u_c|,  u_c = 1 / K on the K known classes and 0 elsewhere

    Args:
        labels: the class of each sample; other classes than known ones may occur.
        known: the different known classes.

    Returns:
        A number in [0, 1]; NaN without samples or known classes.
    """
    if not labels or not known:
        return math.nan
    counts, uniform = Counter(labels), dict.fromkeys(known, 1 / len(set(known)))
    classes = counts.keys() | uniform.keys()
    return math.fsum(abs(counts[c] / len(labels) - uniform.get(c, 0.0)) for c in classes) / 2
