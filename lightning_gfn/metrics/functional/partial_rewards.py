"""Separation measures ask whether partial rewards tell attempts that end in a proof from those that do not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from lightning_gfn.lean_types import Outcome
from lightning_gfn.metrics.functional.calibration import auroc

OUTCOMES: tuple[Outcome, ...] = ("proved", "unfinished", "error")


def reward_separation(scores: Sequence[float], outcomes: Sequence[Outcome], groups: Sequence[str]) -> dict[str, Any]:
    """Partial rewards of successful against unsuccessful attempts.

        AUROC = P(score of a proof > score of a failure) + P(equal) / 2

    Args:
        scores: partial reward of each attempt, of any scale.
        outcomes: how each ended.
        groups: theorem of each. ``auroc_within`` is the mean of the AUROC of each theorem that has both kinds: easy
            theorems, whose attempts all score high, do not count for it.

    Returns:
        ``auroc`` of proofs against all failures, ``auroc_unfinished`` against unfinished attempts alone,
        ``auroc_within``, ``theorems_with_both``, and for each outcome ``count``, ``mean``, ``median``, and the sorted
        ``scores`` for plots. NaN where there is nothing to compare.

    Raises:
        ValueError: if the sequences differ in length.
    """
    if not len(scores) == len(outcomes) == len(groups):
        raise ValueError(f"scores, outcomes and groups have {len(scores)}, {len(outcomes)} and {len(groups)} entries")
    by_group: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        by_group.setdefault(group, []).append(index)

    def auroc_of(chosen: Iterable[int]) -> float:
        members = list(chosen)
        proved = [outcomes[i] == "proved" for i in members]
        return auroc([scores[i] for i in members], proved) if members else math.nan

    both = [value for value in map(auroc_of, by_group.values()) if not math.isnan(value)]
    return {
        "auroc": auroc_of(range(len(scores))),
        "auroc_unfinished": auroc_of(i for i, outcome in enumerate(outcomes) if outcome != "error"),
        "auroc_within": fmean(both) if both else math.nan,
        "theorems_with_both": len(both),
        **{kind: _summary([s for s, o in zip(scores, outcomes, strict=True) if o == kind]) for kind in OUTCOMES},
    }


def separation_of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """``reward_separation`` of the log-probability of an action in the rows of ``results/<stage>_problems.jsonl``.

        s = log q(attempt) / (tokens + tactics)                 (nats; a stop ends each tactic)

    The frozen tactic model's partial reward has this form; a row's is the sampling policy's. A stop that the maximum
    length forced counts among the actions here, and has log-probability 0.

    Args:
        rows: with ``problem_id``, ``log_probs``, ``lengths``, ``num_tactics`` and ``outcomes``.
    """
    scores: list[float] = []
    outcomes: list[Outcome] = []
    groups: list[str] = []
    for row in rows:
        actions = [tokens + stops for tokens, stops in zip(row["lengths"], row["num_tactics"], strict=True)]
        scores += [value / max(1, count) for value, count in zip(row["log_probs"], actions, strict=True)]
        outcomes += row["outcomes"]
        groups += [row["problem_id"]] * len(actions)
    return reward_separation(scores, outcomes, groups)


def _summary(scores: Sequence[float]) -> dict[str, Any]:
    return {
        "count": len(scores),
        "mean": fmean(scores) if scores else math.nan,
        "median": median(scores) if scores else math.nan,
        "scores": sorted(scores),
    }
