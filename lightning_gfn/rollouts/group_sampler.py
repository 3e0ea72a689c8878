"""What all samplers share: a group of trajectories for every problem, by a behaviour mix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from lightning_gfn.interfaces import Buffer, Policy
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.keyed_random import keyed_uniforms
from lightning_gfn.rollouts.keyed_sampling import KeyedDraw
from lightning_gfn.rollouts.rollout_batch import SampledBatch
from lightning_gfn.types import Problem, Rollouts, Source, Trajectory

GIVEN: tuple[Source, ...] = ("replay", "reference", "search")
"""Sources of rows that nobody samples in the step."""


class GroupSampler(ABC):
    """Fills a group of trajectories for every problem, by a behaviour mix.

    Given actions that the policy could not produce (by their length, or a token that is not allowed) are
    refused, never cut. A problem whose group gets no given row where its source is ``replay``, ``reference`` or
    ``search`` is sampled on-policy and counted in the metric ``fallbacks_<source>``.

    Args:
        num_samples: trajectories for each problem.
        behaviour: where they come from.
        seed: key of all random numbers.

    Raises:
        ValueError: if ``num_samples`` is below 1.
    """

    def __init__(self, *, num_samples: int, behaviour: BehaviourMix, seed: int) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples={num_samples} must be at least 1")
        self.num_samples = num_samples
        self.behaviour = behaviour
        self.seed = seed

    @abstractmethod
    def collect(
        self,
        policy: Policy,
        problems: Sequence[Problem],
        *,
        rollout_step: int,
        buffer: Buffer | None,
        device: torch.device | str,
        attempt: int = 0,
    ) -> SampledBatch:
        """Sample, replay and look up trajectories, grouped by problem: ``num_samples`` each, one more with references.

        Until ``evaluate_rewards``, ``terms`` and ``correct_B`` hold what replayed rows bring along (NaN and False in
        all others), or nothing. Behaviour log-probabilities are given only if every row was sampled.

        Args:
            policy: samples; its lengths bound what may be given.
            problems: P problems with different ids.
            rollout_step: rollout batch counter, part of the random key.
            buffer: to replay from.
            device: of the returned tensors.
            attempt: the r-th attempt at these problems in a rollout batch draws their samples r · num_samples and
                following, so that its random numbers are no other's.

        Raises:
            ValueError: if a problem occurs twice, or there is no buffer to replay from.
        """

    def check(self, problems: Sequence[Problem], buffer: Buffer | None) -> None:
        """Refuse a batch that cannot be sampled right.

        Raises:
            ValueError: if a problem occurs twice, or there is no buffer to replay from.
        """
        if len({problem.id for problem in problems}) != len(problems):
            raise ValueError(
                "a batch holds the same problem id twice; their samples would be equal: shuffle without replacement"
            )
        if buffer is None and self.behaviour.replay > 0.0:
            raise ValueError(f"behaviour.replay is {self.behaviour.replay} but there is no buffer to replay from")

    def fallbacks(self, rollouts: Rollouts, rollout_step: int) -> dict[str, float]:
        """Problems without a given row where the mix asks for one, as ``fallbacks_<source>`` for its given sources."""
        found: dict[int, set[Source]] = {}
        for p, source in zip(rollouts.problem_index_B.tolist(), rollouts.sources, strict=True):
            found.setdefault(p, set()).add(source)
        beside: set[Source] = {"reference"} if self.behaviour.always_reference else set()
        shares = self.behaviour.shares
        counts = {source: 0.0 for source in GIVEN if shares[source] > 0.0 or source in beside}
        for p, sources in found.items():
            asked = {self.behaviour.source(rollouts.problems[p].id, seed=self.seed, rollout_step=rollout_step)} | beside
            for source in asked & counts.keys() - sources:
                counts[source] += 1.0
        return {f"fallbacks_{source}": count for source, count in counts.items()}

    def draw_at(self, rollout_step: int) -> KeyedDraw:
        """The calls to the policy in a rollout batch."""
        return KeyedDraw("action", self.seed, rollout_step, self.behaviour.top_k, self.behaviour.top_p)

    def source_of(self, problem: Problem, rollout_step: int) -> Source:
        """The source of a problem's group in a rollout batch."""
        return self.behaviour.source(problem.id, seed=self.seed, rollout_step=rollout_step)

    def drawn(self, problem_id: str, rollout_step: int, buffer: Buffer) -> list[Trajectory]:
        """What a buffer gives for a problem in a rollout batch, at most ``num_samples``."""
        uniforms = keyed_uniforms(
            "replay",
            seed=self.seed,
            rollout_step=rollout_step,
            problem_ids=[problem_id],
            samples=[0],
            length=self.num_samples,
        )
        return buffer.sample(problem_id, self.num_samples, uniforms[0].tolist())

    def stored(self, problem: Problem, policy: Policy, rollout_step: int, buffer: Buffer) -> list[Trajectory]:
        """Trajectories of a problem from the buffer that the policy could produce, at most ``num_samples``."""
        drawn = self.drawn(problem.id, rollout_step, buffer)
        return [found for found in drawn if all(policy.can_produce(step.action, step.inserted) for step in found.steps)]
