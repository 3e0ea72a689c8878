"""Evaluation samples as rollouts: what the reward of training says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.padding import pad_steps
from lightning_gfn.rewards.likelihood import TERM
from lightning_gfn.rewards.schedules import LAST_STEP
from lightning_gfn.types import EvalRecord, Rollouts, Source


@torch.no_grad()
def with_sample_rewards(
    policy: Policy, reward: Reward, records: Sequence[EvalRecord], *, max_rows: int, device: torch.device | str
) -> list[EvalRecord]:
    """The records with the log reward of every sample, and its likelihood under the reference if the reward holds it.

        log R as the reward combines its terms when all schedules have come to their end        (nats)

    The tokens that were sampled are scored, not those that their text would be read as.

    Args:
        policy: handed to the reward.
        reward: scores finished trajectories.
        records: of any problems and temperatures; theorems stay as they are.
        max_rows: samples scored at once.
        device: of the policy.

    Returns:
        The records in order.
    """
    rows = [(r, sample) for r, record in enumerate(records) for sample in range(len(record.actions))]
    rewards: list[float] = []
    likelihoods: list[float] = []
    for start in range(0, len(rows), max_rows):
        rollouts = sampled_rollouts(policy, records, rows[start : start + max_rows], device)
        terms, _ = reward.terms(rollouts, policy, prefixes=False)
        rewards += reward.combine(terms, rollouts, LAST_STEP).terminal_B.tolist()
        likelihoods += likelihood_of(terms)
    left, also_left = iter(rewards), iter(likelihoods)
    return [
        replace(
            record,
            log_rewards=tuple(islice(left, len(record.actions))),
            log_likelihoods=tuple(islice(also_left, len(record.actions))),
        )
        for record in records
    ]


def likelihood_of(terms: dict[str, Tensor]) -> list[float]:
    """The term of the reference's likelihood, which may stand within a sum; empty if there is none."""
    found = (values for name, values in terms.items() if name.rpartition("/")[2] == TERM)
    values = next(found, None)
    return values.tolist() if values is not None else []


def sampled_rollouts(
    policy: Policy, records: Sequence[EvalRecord], rows: Sequence[tuple[int, int]], device: torch.device | str
) -> Rollouts:
    """Samples of records as trajectories of one step; a row is the index of a record and of a sample."""
    problems = {records[r].problem.id: records[r].problem for r, _ in rows}
    place = {id_: p for p, id_ in enumerate(problems)}
    prompts = [policy.encode_prompt(problem.prompt) for problem in problems.values()]
    source: Source = "on_policy"
    index = [place[records[r].problem.id] for r, _ in rows]
    actions = [records[r].actions[sample] for r, sample in rows]
    inserted = [records[r].inserted[sample] for r, sample in rows] if policy.uses_tools else None
    return Rollouts(
        problems=tuple(problems.values()),
        problem_index_B=torch.tensor(index, device=device),
        trajectory_index_N=torch.arange(len(rows), device=device),
        steps=pad_steps([prompts[p] for p in index], actions, device, inserted),
        completions=tuple(records[r].completions[sample] for r, sample in rows),
        sources=(source,) * len(rows),
    )
