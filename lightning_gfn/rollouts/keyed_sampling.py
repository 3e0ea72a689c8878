"""Keyed calls to a policy: which rows are sampled together, and with which random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from lightning_gfn.interfaces import Policy
from lightning_gfn.rollouts.keyed_random import Stream, keyed_uniforms
from lightning_gfn.types import SampledActions


@dataclass(frozen=True)
class Call:
    """One action that a policy shall sample.

    Args:
        context: tokens that the policy sees.
        problem_id: part of the key of its random numbers.
        sample: index among the problem's samples; part of the key.
        turn: which model call of its trajectory it is, from 0; part of the key.
        temperature: of sampling.
        truncated: top-k and top-p apply to it.
    """

    context: Sequence[int]
    problem_id: str
    sample: int
    turn: int = 0
    temperature: float = 1.0
    truncated: bool = False


@dataclass(frozen=True)
class KeyedDraw:
    """Samples actions whose random numbers depend on what they are for.

    Args:
        stream: purpose of the numbers.
        seed: of the run.
        rollout_step: rollout batch counter.
        top_k: truncated calls keep the k most likely actions; None keeps all.
        top_p: truncated calls keep the smallest set of actions with this probability; None keeps all.
        entropy: ask for entropies where they need no further pass.
    """

    stream: Stream
    seed: int
    rollout_step: int
    top_k: int | None = None
    top_p: float | None = None
    entropy: bool = False

    def __call__(
        self, policy: Policy, calls: Sequence[Call], device: torch.device | str
    ) -> Iterator[tuple[list[int], SampledActions]]:
        """Indices of calls that were sampled together, and their actions; first those that are not truncated."""
        truncates = self.top_k is not None or self.top_p is not None
        for truncated in (False, True):
            chosen = [n for n, call in enumerate(calls) if (call.truncated and truncates) == truncated]
            if chosen:
                yield chosen, self._sample(policy, [calls[n] for n in chosen], truncated, device)

    def _sample(
        self, policy: Policy, calls: Sequence[Call], truncated: bool, device: torch.device | str
    ) -> SampledActions:
        uniforms = keyed_uniforms(
            self.stream,
            seed=self.seed,
            rollout_step=self.rollout_step,
            problem_ids=[call.problem_id for call in calls],
            samples=[call.sample for call in calls],
            turns=[call.turn for call in calls],
            length=policy.max_new_tokens + 1,
        )
        temperatures = [call.temperature for call in calls]
        is_tempered = any(temperature != 1.0 for temperature in temperatures)
        return policy.sample(
            [call.context for call in calls],
            torch.from_numpy(uniforms).to(device),
            temperature_N=torch.tensor(temperatures, device=device) if is_tempered else None,
            top_k=self.top_k if truncated else None,
            top_p=self.top_p if truncated else None,
            entropy=self.entropy,
        )
