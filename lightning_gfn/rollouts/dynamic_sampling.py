"""Dynamic sampling: groups of equal rewards are drawn again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.advantages import in_mixed_group
from lightning_gfn.rollouts.batching import concatenated, select_trajectories
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.rollout_batch import RolloutBatch
from lightning_gfn.types import Rollouts


@dataclass(frozen=True)
class ResampleSettings:
    """DAPO's dynamic sampling, on the problems of the batch: groups whose rewards are all equal are sampled again.

    A problem whose trajectories all have the same reward gives no advantage. Its whole group is drawn again from the
    same policy until the rewards differ; the first such group is kept. What is still equal after the last round stays
    as it was first drawn, and is left out of the loss by objectives that drop equal groups. Rewards are compared as the
    reward gives them, before the objective adds penalties.

    The paper goes on to *further problems* until the batch is full of mixed groups. Here the problems stay: every
    method sees the same data in the same order, and no rank waits for more than ``max_rounds`` rounds. So the number of
    mixed groups rises but may stay below the batch size, and problems that are almost always (or almost never) solved
    weigh more than in the paper and cost more samples. Training figures such as the solve rate are those of the batch
    after this choice, closer to a half than the policy's own; budgets count every sample.

    Args:
        max_rounds: how often a group is drawn again at most.

    Raises:
        ValueError: if ``max_rounds`` is below 1.

    Source: Yu et al. 2025 (DAPO), arXiv:2503.14476, section 3.2.
    """

    max_rounds: int = 3

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise ValueError(
                f"resample.max_rounds must be at least 1, got {self.max_rounds}; without model.resample groups are "
                "sampled once"
            )


def check_resampling(objective: Objective, behaviour: BehaviourMix) -> None:
    """Refuse to sample groups again where that makes no sense.

    Raises:
        ValueError: if trajectories may come from elsewhere than the policy, the objective does not compare
            trajectories of one problem, or it needs a reward for every prefix.
    """
    name = type(objective).__name__
    if behaviour.on_policy < 1.0 or behaviour.always_reference:
        raise ValueError(
            f"model.resample draws groups from the present policy, but behaviour has the shares {behaviour.shares}: "
            "set model.behaviour.on_policy to 1 and the others to 0, always_reference to false, or remove "
            "model.resample"
        )
    if "group_B" not in objective.requires:
        raise ValueError(
            f"objective {name} does not compare trajectories of one problem, so that groups of equal rewards teach it "
            "as others do: remove model.resample"
        )
    if "log_reward_BT1" in objective.requires:
        raise ValueError(
            f"objective {name} needs a reward for every prefix, which differ even where the finished trajectories' are "
            "equal: remove model.resample"
        )


def equal_groups(batch: RolloutBatch) -> list[int]:
    """The problems of a batch whose trajectories all have the same log reward, in order."""
    group_B = batch.rollouts.problem_index_B
    is_mixed_B = in_mixed_group(batch.log_reward.terminal_B, group_B)
    return sorted(set(group_B[~is_mixed_B].tolist()))


def refilled(batch: RolloutBatch, again: RolloutBatch, waiting: Sequence[int]) -> tuple[RolloutBatch, list[int]]:
    """Take over the mixed groups of another round.

    Args:
        batch: the batch so far; its log rewards are left as they are.
        again: new groups of the problems ``waiting``, in this order.
        waiting: problems of ``batch`` whose groups are equal.

    Returns:
        The batch with the costs of both, and the problems that still wait.
    """
    groups, others = (_trajectories_of(part.rollouts) for part in (batch, again))
    unusable = set(equal_groups(again)) | {new for new, p in enumerate(waiting) if len(others[new]) != len(groups[p])}
    rows = {
        old: other
        for new, p in enumerate(waiting)
        if new not in unusable
        for old, other in zip(groups[p], others[new], strict=True)
    }
    joined = replace(
        batch,
        rollouts=exchange_rows(batch.rollouts, again.rollouts, rows),
        generated_tokens=batch.generated_tokens + again.generated_tokens,
        reward_calls=batch.reward_calls + again.reward_calls,
        environment_steps=batch.environment_steps + again.environment_steps,
    )
    return joined, [p for new, p in enumerate(waiting) if new in unusable]


def _trajectories_of(rollouts: Rollouts) -> list[list[int]]:
    """The trajectories of each problem."""
    groups: list[list[int]] = [[] for _ in rollouts.problems]
    for b, p in enumerate(rollouts.problem_index_B.tolist()):
        groups[p].append(b)
    return groups


def exchange_rows(rollouts: Rollouts, others: Rollouts, rows: Mapping[int, int]) -> Rollouts:
    """A copy with some trajectories replaced by others of the same problems; all have one reward value.

    Args:
        rollouts: B trajectories, each sampled.
        others: further ones.
        rows: which trajectory of ``others`` takes the place of which of ``rollouts``.

    Returns:
        B trajectories, padded to the longest.
    """
    count = rollouts.num_trajectories
    index = [count + rows[b] if b in rows else b for b in range(count)]
    index_B = torch.tensor(index, dtype=torch.int64, device=rollouts.problem_index_B.device)
    correct_B, verdicts_B = rollouts.correct_B, others.correct_B
    joined = select_trajectories(concatenated(rollouts, others), index)
    steps = joined.steps.trimmed()
    assert joined.behaviour_log_pf_NT is not None
    return replace(
        joined,
        steps=steps,
        behaviour_log_pf_NT=joined.behaviour_log_pf_NT[:, : steps.action_ids_NT.shape[1]],
        problem_index_B=rollouts.problem_index_B,
        terms={name: torch.cat([values, others.terms[name]])[index_B] for name, values in rollouts.terms.items()},
        correct_B=torch.cat([correct_B, verdicts_B])[index_B]
        if correct_B is not None and verdicts_B is not None
        else correct_B,
    )
