"""Rollout batches with their log rewards, where groups of equal rewards may be sampled again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_gfn.interfaces import Buffer, Policy, Reward
from lightning_gfn.rollouts.batching import select_trajectories, to_trajectories
from lightning_gfn.rollouts.dynamic_sampling import ResampleSettings, equal_groups, refilled
from lightning_gfn.rollouts.group_sampler import GroupSampler
from lightning_gfn.rollouts.reference import text_rollouts
from lightning_gfn.rollouts.rollout_batch import RolloutBatch, environment_steps, sampled_tokens
from lightning_gfn.types import LogReward, Problem, Rollouts, Trajectory


@dataclass(frozen=True)
class RewardedSampler:
    """Collects rollout batches and their log rewards; needs no other rank, however many rounds it makes.

    Args:
        sampler: draws the trajectories.
        reward: judges them.
        prefixes: reward terms per prefix.
        resample: draw groups of equal rewards again; never if None.
    """

    sampler: GroupSampler
    reward: Reward
    prefixes: bool
    resample: ResampleSettings | None = None

    def collect(
        self,
        policy: Policy,
        problems: Sequence[Problem],
        *,
        rollout_step: int,
        optimizer_step: int,
        buffer: Buffer | None,
        device: torch.device | str,
    ) -> RolloutBatch:
        """Sample and reward, again where it is asked for.

        Args:
            policy: samples.
            problems: P problems with different ids.
            rollout_step: rollout batch counter, part of the random key.
            optimizer_step: optimiser step, for rewards that change with it.
            buffer: to replay from.
            device: of the returned tensors.

        Returns:
            P · num_samples trajectories, grouped by problem.

        Raises:
            ValueError: a log reward is not finite; no buffer ever holds one.
        """

        def draw(chosen: Sequence[Problem], attempt: int) -> RolloutBatch:
            drawn = self.sampler.collect(
                policy, chosen, rollout_step=rollout_step, buffer=buffer, device=device, attempt=attempt
            )
            tokens = sampled_tokens(drawn.rollouts) + drawn.costs.get("generated_tokens", 0)
            tactics = environment_steps(drawn.rollouts) + drawn.costs.get("environment_steps", 0)
            rollouts, calls = evaluate_rewards(drawn.rollouts, self.reward, policy, prefixes=self.prefixes)
            log_reward = self.reward.combine(rollouts.terms, rollouts, optimizer_step)
            check_finite(log_reward, rollouts, self.reward)
            return RolloutBatch(rollouts, log_reward, tokens, calls, tactics, dict(drawn.metrics))

        batch = draw(problems, 0)
        if self.resample is None:
            return batch
        equal = waiting = equal_groups(batch)
        rounds = 0
        while waiting and rounds < self.resample.max_rounds:
            rounds += 1
            again = draw([problems[p] for p in waiting], rounds)
            batch, waiting = refilled(batch, again, waiting)
        return replace(
            batch,
            log_reward=self.reward.combine(batch.rollouts.terms, batch.rollouts, optimizer_step),
            metrics={
                **batch.metrics,
                "resample_rounds": float(rounds),
                "share_groups_refilled": (len(equal) - len(waiting)) / len(problems),
                "share_groups_left_equal": len(waiting) / len(problems),
            },
        )

    @torch.no_grad()
    def references(
        self,
        policy: Policy,
        problems: Sequence[Problem],
        *,
        optimizer_step: int,
        device: torch.device | str,
        max_rows: int = 64,
    ) -> list[Trajectory]:
        """Every reference solution that the policy can produce, with its reward, as a buffer keeps trajectories.

        Args:
            policy: encodes texts; handed to the reward.
            problems: those without solutions give nothing.
            optimizer_step: optimiser step of their birth, for rewards that change with it.
            device: of the policy.
            max_rows: solutions that are rewarded at once.

        Raises:
            ValueError: a log reward is not finite.
        """
        rows = [(p, text) for p, problem in enumerate(problems) for text in problem.solutions]
        rows = [(p, text) for p, text in rows if policy.can_produce(*policy.encode_action(text))]
        found: list[Trajectory] = []
        for start in range(0, len(rows), max_rows):
            index, texts = zip(*rows[start : start + max_rows], strict=True)
            chosen = sorted(set(index))
            asked = [problems[p] for p in chosen]
            given, _ = text_rollouts(policy, asked, [chosen.index(p) for p in index], texts, device)
            rollouts, _ = evaluate_rewards(given, self.reward, policy, prefixes=self.prefixes)
            log_reward = self.reward.combine(rollouts.terms, rollouts, optimizer_step)
            check_finite(log_reward, rollouts, self.reward)
            found += to_trajectories(rollouts, log_reward, optimizer_step=optimizer_step)
        return found


def check_finite(log_reward: LogReward, rollouts: Rollouts, reward: Reward) -> None:
    """Refuse log rewards that are NaN or infinite, whether a term is or their weighted sum overflows.

    Raises:
        ValueError: names reward, term, value and problem.
    """
    values = {"log reward": log_reward.terminal_B, **rollouts.terms}
    if log_reward.prefix_BT1 is not None:
        values["log reward of prefixes"] = log_reward.prefix_BT1
    if bool(torch.stack([torch.isfinite(value).all() for value in values.values()]).all()):
        return
    bad = {name: value for name, value in values.items() if not bool(torch.isfinite(value).all())}
    name = next((term for term in rollouts.terms if term in bad), next(iter(bad)))  # the cause before its sum
    found = (~torch.isfinite(bad[name])).nonzero()[0]
    raise ValueError(
        f"reward {type(reward).__name__}: '{name}' of a completion of problem "
        f"{rollouts.problem_of(int(found[0])).id!r} is {float(bad[name][tuple(found)])}: log rewards must be finite "
        "float32 numbers; look at the reward (of a learned one, at its weights), its weight and its temperature"
    )


@torch.no_grad()
def evaluate_rewards(rollouts: Rollouts, reward: Reward, policy: Policy, *, prefixes: bool) -> tuple[Rollouts, int]:
    """Compute the reward terms of every trajectory that does not carry stored ones.

    Args:
        rollouts: as a sampler collected them.
        reward: computes terms.
        policy: handed to the reward.
        prefixes: terms per prefix, (B, T + 1), instead of (B,).

    Returns:
        The rollouts with all terms and verdicts, and the number of trajectories that the reward was asked about.

    Raises:
        ValueError: if replayed trajectories carry other terms than the reward gives.
    """
    fresh = [b for b, source in enumerate(rollouts.sources) if source != "replay"]
    if len(fresh) == rollouts.num_trajectories:
        terms, correct_B = reward.terms(rollouts, policy, prefixes=prefixes)
        return rollouts.with_terms(terms, correct_B), len(fresh)
    merged = {name: _shaped(name, values, rollouts, prefixes) for name, values in rollouts.terms.items()}
    correct_B = rollouts.correct_B
    if fresh:
        part = select_trajectories(rollouts, fresh)
        terms, verdicts_B = reward.terms(part, policy, prefixes=prefixes)
        if set(terms) != set(merged) or (correct_B is None) != (verdicts_B is None):
            raise ValueError(
                f"replayed trajectories carry the reward terms {sorted(merged)}, but {type(reward).__name__} gives "
                f"{sorted(terms)}: the buffer was filled under another reward; start with an empty one"
            )
        index = torch.tensor(fresh, device=rollouts.problem_index_B.device)
        merged = {name: values.index_copy(0, index, terms[name].to(values)) for name, values in merged.items()}
        if correct_B is not None and verdicts_B is not None:
            correct_B = correct_B.index_copy(0, index, verdicts_B.to(correct_B))
    return rollouts.with_terms(merged, correct_B), len(fresh)


def _shaped(name: str, values: Tensor, rollouts: Rollouts, prefixes: bool) -> Tensor:
    if values.dim() == 2:
        return values if prefixes else rollouts.at_last_prefix(values)
    if prefixes:
        raise ValueError(
            f"replayed trajectories carry '{name}' for finished trajectories only, but the objective needs it for "
            "every prefix: the buffer was filled under another objective; start with an empty one"
        )
    return values
