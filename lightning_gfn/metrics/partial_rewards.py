"""Do partial rewards tell attempts that end in a proof from those that do not?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from lightning_gfn.metrics.calibration import auroc
from lightning_gfn.types import EvalRecord


def log_prob_per_token(record: EvalRecord) -> list[float]:
    """log q of each attempt divided by its actions (tokens, and one stop a tactic), nats.

    The frozen tactic model's partial reward has this form; of a record it is the sampling policy's.
    """
    tactics = [len(episode.tactics) for episode in record.episodes] or [1] * len(record.lengths)
    return [
        log_prob / max(1, length + steps)
        for log_prob, length, steps in zip(record.log_probs, record.lengths, tactics, strict=True)
    ]


def reward_separation(scores: Sequence[float], proved: Sequence[bool], groups: Sequence[str]) -> dict[str, Any]:
    """Partial rewards of successful against unsuccessful attempts.

        AUROC = P(score of a proof > score of a failure) + P(equal) / 2

    Args:
        scores: partial reward of each attempt, of any scale.
        proved: whether it ended in a proof.
        groups: theorem of each. ``auroc_within`` is the mean of the AUROC of each theorem that has both kinds: easy
            theorems, whose attempts all score high, do not count for it.

    Returns:
        ``auroc``, ``auroc_within``, ``theorems_with_both``, and for ``proved`` and ``unproved`` ``count``, ``mean``,
        ``median``, and the sorted ``scores`` for plots. NaN where there is nothing to compare.

    Raises:
        ValueError: if the sequences differ in length.
    """
    if not len(scores) == len(proved) == len(groups):
        raise ValueError(f"scores, proved and groups have {len(scores)}, {len(proved)} and {len(groups)} entries")
    by_group: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        by_group.setdefault(group, []).append(index)
    within = [auroc([scores[i] for i in members], [proved[i] for i in members]) for members in by_group.values()]
    both = [value for value in within if not math.isnan(value)]
    kinds = {
        "proved": sorted(score for score, right in zip(scores, proved, strict=True) if right),
        "unproved": sorted(score for score, right in zip(scores, proved, strict=True) if not right),
    }
    return {
        "auroc": auroc(scores, proved) if scores else math.nan,
        "auroc_within": fmean(both) if both else math.nan,
        "theorems_with_both": len(both),
        **{name: _summary(found) for name, found in kinds.items()},
    }


def separation_of_records(
    records: Iterable[EvalRecord], partial: Callable[[EvalRecord], Sequence[float]] = log_prob_per_token
) -> dict[str, Any]:
    """``reward_separation`` of evaluation records.

    Args:
        records: of theorems.
        partial: the partial reward of each attempt of a record.
    """
    scores: list[float] = []
    proved: list[bool] = []
    groups: list[str] = []
    for record in records:
        scores += partial(record)
        proved += record.correct
        groups += [record.problem.id] * len(record.correct)
    return reward_separation(scores, proved, groups)


def separation_of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """``reward_separation`` of the log-probability per token in the rows of ``results/<stage>_problems.jsonl``.

    Args:
        rows: with ``problem_id``, ``log_probs``, ``lengths`` and ``correct``; stops are not counted among the tokens.
    """
    scores: list[float] = []
    proved: list[bool] = []
    groups: list[str] = []
    for row in rows:
        scores += [value / max(1, length) for value, length in zip(row["log_probs"], row["lengths"], strict=True)]
        proved += row["correct"]
        groups += [row["problem_id"]] * len(row["correct"])
    return reward_separation(scores, proved, groups)


def _summary(scores: Sequence[float]) -> dict[str, Any]:
    return {
        "count": len(scores),
        "mean": fmean(scores) if scores else math.nan,
        "median": median(scores) if scores else math.nan,
        "scores": list(scores),
    }
