"""What runs in an actor: a copy of the policy, the sampler and the reward, and the weights that it last took."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch

from lightning_gfn.cluster.ray_cluster import load_ray
from lightning_gfn.interfaces import Policy
from lightning_gfn.lean_interfaces import ProofEnvironment
from lightning_gfn.rollouts.asynchronous.replay_rows import ReplayRows
from lightning_gfn.rollouts.asynchronous.weights import PackedState, load_state, network_of
from lightning_gfn.rollouts.rewarded_sampler import RewardedSampler
from lightning_gfn.rollouts.rollout_batch import RolloutBatch
from lightning_gfn.types import Problem


@dataclass(frozen=True)
class Equipment:
    """What an actor is made of.

    Args:
        parts: policy (not built) and ``RewardedSampler``, pickled.
        tokenizer: state of the trainer's tokenizer.
        with_reference: keep a frozen reference.
        autocast: device type and dtype of the trainer's autocast; None without one.
        on_gpu: sample on the actor's GPU.
    """

    parts: bytes
    tokenizer: str
    with_reference: bool
    autocast: tuple[str, torch.dtype] | None
    on_gpu: bool


@dataclass(frozen=True)
class Order:
    """A rollout batch to be sampled.

    Args:
        rollout_step: its counter, part of the key of all random numbers.
        optimizer_step: at which it will be used, for rewards that change with it.
        problems: of the batch.
        replayed: what the trainer's buffer gave for it.
    """

    rollout_step: int
    optimizer_step: int
    problems: tuple[Problem, ...]
    replayed: ReplayRows | None = None


@dataclass(frozen=True)
class Delivery:
    """A rollout batch that an actor has sampled.

    Args:
        batch: on the processor, without the texts of the problems.
        version: optimiser steps that the weights had made.
        environment: what the counters of the actor's proof environment have gained.
    """

    batch: RolloutBatch
    version: int
    environment: Mapping[str, float] = field(default_factory=dict)


class RolloutActor:
    """Samples and rewards rollout batches; Ray calls it in another process."""

    def prepare(self, equipment: Equipment, state: PackedState) -> int:
        """Build the policy as the trainer did, and take the trainer's weights.

        Args:
            equipment: what it is made of.
            state: every weight that building does not give.

        Returns:
            The process's id.
        """
        self.policy: Policy
        self.collector: RewardedSampler
        self.policy, self.collector = load_ray().cloudpickle.loads(equipment.parts)
        self.autocast, self.device = equipment.autocast, torch.device("cuda" if equipment.on_gpu else "cpu")
        self.policy.load_tokenizer_state(equipment.tokenizer)
        self.policy.build(())
        if equipment.with_reference:
            self.policy.freeze_reference()
        load_state(self.policy, state)
        network_of(self.policy).to(self.device)
        self.counted: dict[str, float] = {}
        if (environment := self.environment()) is not None:
            environment.setup()
            self.gained()
        return os.getpid()

    def sample(self, order: Order, version: int, weights: PackedState | None) -> Delivery:
        """Sample and reward a rollout batch.

        Args:
            order: what is asked for.
            version: optimiser steps that the weights have made.
            weights: those that training changes; None keeps those of the batch before.
        """
        if weights is not None:
            load_state(self.policy, weights)
        with self.precision():
            batch = self.collector.collect(
                self.policy,
                order.problems,
                rollout_step=order.rollout_step,
                optimizer_step=order.optimizer_step,
                buffer=order.replayed,
                device=self.device,
            )
        bare = replace(batch, rollouts=replace(batch.rollouts, problems=()))
        return Delivery(moved(bare, "cpu"), version, self.gained())

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Inside, numbers are as precise as in the trainer's step."""
        if self.autocast is None:
            yield
            return
        with torch.autocast(self.autocast[0], self.autocast[1]):
            yield

    def environment(self) -> ProofEnvironment | None:
        """Where theorems are proved, if they are."""
        proving = getattr(self.collector.sampler, "proving", None)
        return proving.environment if proving is not None else None

    def gained(self) -> dict[str, float]:
        """What the environment's counters have gained since the last call."""
        environment = self.environment()
        if environment is None:
            return {}
        before, self.counted = self.counted, {name: float(value) for name, value in environment.counters().items()}
        return {name: value - before.get(name, 0.0) for name, value in self.counted.items()}

    def close(self) -> None:
        """End the workers of the environment."""
        if (environment := self.environment()) is not None:
            environment.close()


def moved(batch: RolloutBatch, device: torch.device | str) -> RolloutBatch:
    """A rollout batch with all tensors on a device."""
    return cast(RolloutBatch, _moved(batch, device))


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _moved(part, device) for name, part in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return replace(value, **{name: _moved(part, device) for name, part in vars(value).items()})
    return value
