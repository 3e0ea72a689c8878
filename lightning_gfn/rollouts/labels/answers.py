"""Classifications whose labels are the completions: answered by the labels' probabilities, without sampling tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from lightning_gfn.interfaces import Policy
from lightning_gfn.rollouts.keyed_random import keyed_uniforms
from lightning_gfn.rollouts.labels.scores import label_scores, label_tokens
from lightning_gfn.types import EvalRecord, Problem


def answers_by_label(problem: Problem) -> bool:
    """True if the completions of a problem are the texts of its labels, so that it is answered without sampling."""
    return problem.labels is not None and problem.evidence is None


def label_records(
    policy: Policy,
    problems: Sequence[Problem],
    *,
    num_samples: int,
    temperature: float = 1.0,
    seed: int = 0,
    max_rows: int = 512,
    reference: bool = False,
    swap: bool = False,
) -> list[EvalRecord]:
    """Answers to problems whose completions are the texts of their labels: drawn from p(y | x) over the labels alone.

        p(y | x) ∝ p_LM(text of y | x)^(1 / temperature)

    Args:
        policy: a language model.
        problems: P problems with labels and without evidence.
        num_samples: draws of each.
        temperature: of the draws, above 0; the scores are at temperature 1.
        seed: key of the uniforms.
        max_rows: prompts read at once.
        reference: score by the policy as this stage began.
        swap: exchanged rationales are asked for: there are none here, so that the scores stay the same.

    Returns:
        One record a problem, in order; ``log_probs`` are at temperature 1, entropies that of the label.
    """
    bare = [record_of(problem, temperature) for problem in problems]
    scores = label_scores(policy, bare, {i: [()] for i in range(len(bare))}, max_rows, reference)
    drawn = [_drawn(policy, record, scores[i, ()], num_samples=num_samples, seed=seed) for i, record in enumerate(bare)]
    return [replace(record, swapped_label_log_probs=record.label_log_probs) for record in drawn] if swap else drawn


def record_of(problem: Problem, temperature: float) -> EvalRecord:
    """A record without samples."""
    return EvalRecord(problem, temperature, (), (), (), (), (), ())


def _drawn(
    policy: Policy, record: EvalRecord, label_log_probs: tuple[float, ...], *, num_samples: int, seed: int
) -> EvalRecord:
    problem = record.problem
    assert problem.labels is not None
    uniforms = keyed_uniforms(
        "evaluation",
        seed=seed,
        rollout_step=0,
        problem_ids=[problem.id] * num_samples,
        samples=list(range(num_samples)),
        length=1,
    )[:, 0]
    log_p = normalised(label_log_probs)
    behaviour = [math.exp(x) for x in normalised([x / record.temperature for x in label_log_probs])]
    picks = [place_of(float(u), behaviour) for u in uniforms]
    names, texts = list(problem.labels), list(problem.labels.values())
    tokens = [tuple(ids) for ids in label_tokens(policy, problem)]
    entropy = -math.fsum(math.exp(x) * x for x in log_p)
    return replace(
        record,
        completions=tuple(texts[k] for k in picks),
        correct=tuple(names[k] == problem.answer for k in picks),
        log_probs=tuple(log_p[k] for k in picks),
        lengths=tuple(len(tokens[k]) for k in picks),
        entropies=(entropy,) * num_samples,
        truncated=(False,) * num_samples,
        actions=tuple(tokens[k] for k in picks),
        label_log_probs=(label_log_probs,),
    )


def normalised(log_weights: Sequence[float]) -> list[float]:
    """Log-probabilities in proportion to weights, nats."""
    largest = max(log_weights)
    total = largest + math.log(math.fsum(math.exp(w - largest) for w in log_weights))
    return [w - total for w in log_weights]


def place_of(uniform: float, shares: Sequence[float]) -> int:
    """The share that a number in [0, 1) falls into."""
    bound = 0.0
    for place, share in enumerate(shares):
        bound += share
        if uniform < bound:
            return place
    return len(shares) - 1
