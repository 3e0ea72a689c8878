"""How rollouts are sampled beside training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class AsynchronousSettings:
    """Samplers in Ray actors, which sample and reward the coming rollout batches while the trainer makes its steps.

    Rollout batch s, used from optimiser step v(s) on, is sampled by the weights of a step in [v(s) - max_staleness,
    v(s)]. Samples are keyed by seed, rollout batch, problem and sample, wherever they are drawn: with
    ``max_staleness: 0`` training is that without actors, number for number.

    Args:
        num_samplers: actors of each process of the trainer; each holds the policy, the reward and, where theorems are
            proved, an environment of its own.
        max_staleness: optimiser steps that the sampling weights may lie behind those that the batch trains.
        reproducible: sample with the weights of the moment in which the bound first allows the batch, so that a run
            does not depend on who was faster. False takes the newest ones when the batch is begun.
        address: of a Ray cluster (``auto``, ``host:port``); None takes ``RAY_ADDRESS``; where that is not set, each
            process of the trainer starts Ray on its machine.
        num_cpus: that Ray reserves for each actor; also its number of threads.
        num_gpus: that Ray reserves for each actor, which samples on its GPU; 0 samples on the processor.
        resources: further Ray resources of each actor, by name.
        max_deaths: actors that may die over one rollout batch before the run ends; each is replaced, and samples the
            batch again under the same keys.

    Raises:
        ValueError: a number is out of range; names it.

    Source: bounded staleness Fu et al. 2025 (AReaL), arXiv:2505.24298; asynchronous off-policy GFlowNet training
    Bartoldson et al. 2025 (TBA), arXiv:2503.18929.
    """

    num_samplers: int = 1
    max_staleness: int = 1
    reproducible: bool = False
    address: str | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    resources: Mapping[str, float] | None = None
    max_deaths: int = 3

    def __post_init__(self) -> None:
        least = {"num_samplers": 1, "max_staleness": 0, "num_cpus": 0, "num_gpus": 0, "max_deaths": 1}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"asynchronous.{name} is {getattr(self, name)}, expected at least {lowest}")

    def needs(self) -> dict[str, float]:
        """Ray resources of one actor, by Ray's names."""
        return {"CPU": self.num_cpus, "GPU": self.num_gpus, **(self.resources or {})}
