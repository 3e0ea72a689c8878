"""Rollout batches with their log rewards, where groups of equal rewards may be sampled again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_gfn.interfaces import Buffer, Objective, Policy, Reward
from lightning_gfn.objectives.advantages import in_mixed_group
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.rewarding import evaluate_rewards
from lightning_gfn.rollouts.sampler import RolloutSampler
from lightning_gfn.types import LogReward, Problem, Rollouts


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
    if behaviour.on_policy < 1.0:
        raise ValueError(
            f"model.resample draws groups from the present policy, but behaviour has the shares {behaviour.shares}: "
            "set model.behaviour.on_policy to 1 and the others to 0, or remove model.resample"
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


@dataclass(frozen=True)
class RolloutBatch:
    """A rollout batch and what it cost, all rounds included.

    Args:
        rollouts: with reward terms.
        log_reward: of its trajectories.
        generated_tokens: action tokens that were sampled.
        reward_calls: trajectories that the reward was asked about.
        statistics: figures for the log; none unless groups may be sampled again.
    """

    rollouts: Rollouts
    log_reward: LogReward
    generated_tokens: int
    reward_calls: int
    statistics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RewardedSampler:
    """Collects rollout batches and their log rewards; needs no other rank, however many rounds it makes.

    Args:
        sampler: draws the trajectories.
        reward: judges them.
        prefixes: reward terms per prefix.
        resample: draw groups of equal rewards again; never if None.
    """

    sampler: RolloutSampler
    reward: Reward
    prefixes: bool
    resample: ResampleSettings | None = None

    def collect(
        self,
        policy: Policy,
        problems: Sequence[Problem],
        *,
        number: int,
        step: int,
        buffer: Buffer | None,
        device: torch.device | str,
    ) -> RolloutBatch:
        """Sample and reward, again where it is asked for.

        Args:
            policy: samples.
            problems: P problems with different ids.
            number: rollout batch counter, part of the random key.
            step: optimiser step, for rewards that change with it.
            buffer: to replay from.
            device: of the returned tensors.

        Returns:
            P · num_samples trajectories, grouped by problem.
        """

        def draw(chosen: Sequence[Problem], attempt: int) -> RolloutBatch:
            rollouts = self.sampler.collect(policy, chosen, step=number, buffer=buffer, device=device, attempt=attempt)
            tokens = sampled_tokens(rollouts)
            rollouts, calls = evaluate_rewards(rollouts, self.reward, policy, prefixes=self.prefixes)
            return RolloutBatch(rollouts, self.reward.combine(rollouts.terms, rollouts, step), tokens, calls)

        batch = draw(problems, 0)
        if self.resample is None:
            return batch
        equal = waiting = equal_groups(batch)
        rounds = 0
        while waiting and rounds < self.resample.max_rounds:
            rounds += 1
            again = draw([problems[p] for p in waiting], rounds)
            batch, waiting = refilled(batch, again, waiting, self.sampler.num_samples)
        return replace(
            batch,
            log_reward=self.reward.combine(batch.rollouts.terms, batch.rollouts, step),
            statistics={
                "resample_rounds": float(rounds),
                "share_groups_refilled": (len(equal) - len(waiting)) / len(problems),
                "share_groups_left_equal": len(waiting) / len(problems),
            },
        )


def equal_groups(batch: RolloutBatch) -> list[int]:
    """The problems of a batch whose trajectories all have the same log reward, in order."""
    group_B = batch.rollouts.problem_index_B
    is_mixed_B = in_mixed_group(batch.log_reward.terminal_B, group_B)
    return sorted(set(group_B[~is_mixed_B].tolist()))


def refilled(
    batch: RolloutBatch, again: RolloutBatch, waiting: Sequence[int], num_samples: int
) -> tuple[RolloutBatch, list[int]]:
    """Take over the mixed groups of another round.

    Args:
        batch: the batch so far; its log rewards are left as they are.
        again: new groups of the problems ``waiting``, in this order.
        waiting: problems of ``batch`` whose groups are equal.
        num_samples: trajectories of each group.

    Returns:
        The batch with the costs of both, and the problems that still wait.
    """
    still = set(equal_groups(again))
    rows = {
        p * num_samples + sample: new * num_samples + sample
        for new, p in enumerate(waiting)
        if new not in still
        for sample in range(num_samples)
    }
    joined = replace(
        batch,
        rollouts=exchange_rows(batch.rollouts, again.rollouts, rows),
        generated_tokens=batch.generated_tokens + again.generated_tokens,
        reward_calls=batch.reward_calls + again.reward_calls,
    )
    return joined, [p for new, p in enumerate(waiting) if new in still]


def exchange_rows(rollouts: Rollouts, others: Rollouts, rows: Mapping[int, int]) -> Rollouts:
    """A copy with some trajectories replaced by others of the same problems; all have one step and one reward value.

    Args:
        rollouts: B trajectories, each sampled.
        others: further ones.
        rows: which trajectory of ``others`` takes the place of which of ``rollouts``.

    Returns:
        B trajectories, padded to the longest.
    """
    device = rollouts.problem_index_B.device
    index, taken = (torch.tensor(list(part), dtype=torch.int64, device=device) for part in (rows, rows.values()))
    mask = _exchanged(rollouts.action_mask_NT, others.action_mask_NT, index, taken)
    width = int(mask.sum(1).max())
    before, after = rollouts.behaviour_log_pf_NT, others.behaviour_log_pf_NT
    assert before is not None and after is not None
    completions = list(rollouts.completions)
    for b, new in rows.items():
        completions[b] = others.completions[new]
    correct_B, verdicts_B = rollouts.correct_B, others.correct_B
    if correct_B is not None and verdicts_B is not None:
        correct_B = correct_B.index_copy(0, index, verdicts_B[taken])
    terms = {name: values.index_copy(0, index, others.terms[name][taken]) for name, values in rollouts.terms.items()}
    return replace(
        rollouts,
        action_ids_NT=_exchanged(rollouts.action_ids_NT, others.action_ids_NT, index, taken)[:, :width],
        action_mask_NT=mask[:, :width],
        behaviour_log_pf_NT=_exchanged(before, after, index, taken)[:, :width],
        completions=tuple(completions),
        terms=terms,
        correct_B=correct_B,
    )


def _exchanged(values_NT: Tensor, others_NT: Tensor, index: Tensor, taken: Tensor) -> Tensor:
    """Rows ``index`` replaced by rows ``taken`` of another table, both padded with 0 to the same width."""
    width = max(values_NT.shape[1], others_NT.shape[1])
    wide, other = (pad(values, (0, width - values.shape[1])) for values in (values_NT, others_NT))
    return wide.index_copy(0, index, other[taken])


def sampled_tokens(rollouts: Rollouts) -> int:
    """Action tokens that were sampled for a batch, not replayed or given."""
    sampled_B = torch.tensor([source in ("on_policy", "tempered") for source in rollouts.sources])
    lengths_N = rollouts.action_mask_NT.sum(1).cpu()
    return int(lengths_N[sampled_B[rollouts.trajectory_index_N.cpu()]].sum())
