"""Where a module's rollout batches are sampled: within its step, or by actors beside it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lightning_gfn.cluster import ray_cluster
from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.importance import BEHAVIOUR_COLUMNS
from lightning_gfn.objectives.regimes import POLICY_GRADIENT, served_by
from lightning_gfn.rollouts.asynchronous.actor_pool import ActorPool, check_resources
from lightning_gfn.rollouts.asynchronous.lookahead import Course, ForeseenBatches, Place
from lightning_gfn.rollouts.asynchronous.replay_rows import drawn_rows
from lightning_gfn.rollouts.asynchronous.rollout_actor import Delivery, Equipment, Order, moved
from lightning_gfn.rollouts.asynchronous.settings import AsynchronousSettings
from lightning_gfn.rollouts.asynchronous.weights import trained_state, whole_state
from lightning_gfn.rollouts.rollout_batch import RolloutBatch
from lightning_gfn.types import Problem

if TYPE_CHECKING:
    from lightning_gfn.modules.rollout import RolloutModule


class _Waiting:
    """Measures how long the trainer waits for samples and rewards."""

    def __init__(self) -> None:
        self.ended: float | None = None

    def measured(self, began: float) -> dict[str, float]:
        """``idle_seconds`` of a wait that ends now, and their share of the time since the last one ended.

        Args:
            began: when it began, on the monotonic clock.
        """
        before, self.ended = self.ended, time.monotonic()
        idle = self.ended - began
        return {"idle_seconds": idle, **({} if before is None else {"idle_share": idle / (self.ended - before)})}


class RolloutSource(ABC):
    """Gives a rollout module its rollout batches."""

    def start(self, module: RolloutModule) -> None:  # noqa: B027 - sampling in the step needs nothing
        """Refuse what cannot work, before a model is loaded."""

    @abstractmethod
    def next(self, module: RolloutModule, problems: list[Problem]) -> tuple[RolloutBatch, dict[str, float]]:
        """The rollout batch of the problems at hand, and metrics of the wait for it."""

    def advance(self, module: RolloutModule) -> None:  # noqa: B027
        """The weights or the place in the data have moved on."""

    def environment_gain(self) -> Mapping[str, float]:
        """What the counters of proof environments elsewhere have gained since the last call."""
        return {}

    def close(self) -> None:  # noqa: B027
        """End what runs elsewhere."""


class InStep(RolloutSource):
    """Samples when the batch is needed, with the present weights."""

    def __init__(self) -> None:
        self.waiting = _Waiting()

    def next(self, module: RolloutModule, problems: list[Problem]) -> tuple[RolloutBatch, dict[str, float]]:
        """Sample and reward now."""
        began = time.monotonic()
        drawn = module.collector.collect(
            module.policy,
            problems,
            rollout_step=module.num_rollout_batches,
            optimizer_step=module.global_step,
            buffer=module.buffer,
            device=module.device,
        )
        return drawn, self.waiting.measured(began)


@dataclass(frozen=True)
class _Foreseen:
    """What was foreseen of a rollout batch that was asked for."""

    optimizer_step: int
    problem_ids: tuple[str, ...]


class FromActors(RolloutSource):
    """Rollout batches from Ray actors, asked for as soon as the bound on staleness allows.

    Replayed rows are drawn from the trainer's buffer when a batch is asked for, and travel with it. A checkpoint holds
    nothing of batches under way: after a resume they are asked for again, with the restored weights.

    Args:
        settings: actors and bound.
    """

    def __init__(self, settings: AsynchronousSettings) -> None:
        self.settings = settings
        self.pool: ActorPool | None = None
        self.waiting = _Waiting()
        self.parts = b""
        self.foreseen: dict[int, _Foreseen] = {}
        self.offered: int | None = None
        self.largest = 0
        self.gained: dict[str, float] = {}

    # ---------------------------------------------------------------- beginning and end

    def start(self, module: RolloutModule) -> None:
        """Join the cluster, and pickle policy, sampler and reward as they are before anything is loaded.

        Raises:
            ValueError: Ray or the data cannot serve, there are too few resources, or a part cannot be sent.
        """
        self.close()
        if getattr(module.policy, "engine", None) is not None:
            raise ValueError(
                "model.asynchronous and model.policy.vllm do not go together: actors and trainer would push different "
                "weights to one server; set one of them to null"
            )
        data = getattr(module.trainer, "datamodule", None)
        if data is not None:
            foreseeable(data.train_dataloader())
        ray, trainer = self.connected(), module.trainer
        own = ray_cluster.is_own(self.settings.address)
        check_resources(ray, self.settings, trainer.num_devices if own else trainer.world_size)
        self.warn_of_idle_actors(module)
        try:
            self.parts = ray.cloudpickle.dumps((module.policy, module.collector))
        except (TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"model.policy, model.reward or model.proving cannot be sent to samplers ({error}): name functions by "
                "their path, or set model.asynchronous to null"
            ) from error

    def connected(self) -> Any:
        """The package ``ray``, in a cluster; without one, every process of the trainer starts a Ray of its own.

        Raises:
            ValueError: there is no cluster.
        """
        try:
            ray = ray_cluster.load_ray()
            ray_cluster.connect(ray, self.settings.address)
        except ray_cluster.RayUnavailable as error:
            raise ValueError(f"model.asynchronous: {error}, or set model.asynchronous to null") from error
        return ray

    def warn_of_idle_actors(self, module: RolloutModule) -> None:
        """Say how many batches the bound lets be sampled at a time, if there are more actors."""
        accumulate, repeats = module.trainer.accumulate_grad_batches, module.updates_per_rollout
        at_once = self.settings.max_staleness * accumulate // repeats + max(1, accumulate // repeats)
        if at_once < self.settings.num_samplers:
            rank_zero_warn(
                f"asynchronous.max_staleness={self.settings.max_staleness} lets {at_once} rollout batches be sampled "
                f"at a time, {self.settings.num_samplers - at_once} of {self.settings.num_samplers} samplers will "
                "wait: raise it or lower asynchronous.num_samplers"
            )

    def launch(self, module: RolloutModule) -> ActorPool:
        """The actors, with the policy as it is now."""
        device = module.device.type
        autocast = (device, torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None
        on_gpu = self.settings.num_gpus > 0
        if autocast is not None and on_gpu != (device == "cuda"):
            autocast = ("cuda" if on_gpu else "cpu", autocast[1])
        equipment = Equipment(
            self.parts, module.policy.tokenizer_state(), module.needs_reference, autocast, on_gpu=on_gpu
        )
        return ActorPool(ray_cluster.load_ray(), self.settings, equipment, whole_state(module.policy))

    def close(self) -> None:
        """End the actors."""
        pool, self.pool = self.pool, None
        self.foreseen, self.offered = {}, None
        if pool is not None:
            pool.close()

    # ---------------------------------------------------------------- training

    def next(self, module: RolloutModule, problems: list[Problem]) -> tuple[RolloutBatch, dict[str, float]]:
        """Wait for the batch.

        Raises:
            ValueError: training took another course than was foreseen.
        """
        began = time.monotonic()
        self.ask(module, next_batch=foreseeable(module.trainer.train_dataloader).batch - 1)
        assert self.pool is not None
        number, step = module.num_rollout_batches, module.global_step
        foreseen = self.foreseen.pop(number, None)
        if foreseen != _Foreseen(step, tuple(problem.id for problem in problems)):
            raise ValueError(
                f"rollout batch {number} at optimiser step {step} is not what was foreseen ({foreseen}): asynchronous "
                "rollouts need a fixed trainer.accumulate_grad_batches and data that nothing but the trainer moves on"
            )
        batch, metrics = self.arrived(self.pool.take(number), module, problems)
        return batch, {**self.waiting.measured(began), **metrics}

    def arrived(
        self, delivery: Delivery, module: RolloutModule, problems: list[Problem]
    ) -> tuple[RolloutBatch, dict[str, float]]:
        """A delivery on the trainer's device, and how old its weights are."""
        assert self.pool is not None
        for name, value in delivery.environment.items():
            self.gained[name] = self.gained.get(name, 0.0) + value
        staleness = module.global_step - delivery.version
        self.largest = max(self.largest, staleness)
        whole = replace(delivery.batch, rollouts=replace(delivery.batch.rollouts, problems=tuple(problems)))
        metrics = {
            "staleness": float(staleness),
            "staleness_max": float(self.largest),
            "samplers_replaced": float(self.pool.replaced),
        }
        return moved(whole, module.device), metrics

    def advance(self, module: RolloutModule) -> None:
        """Offer the new weights and ask for what they allow."""
        if self.pool is not None:
            self.ask(module, next_batch=foreseeable(module.trainer.train_dataloader).batch)

    def ask(self, module: RolloutModule, *, next_batch: int) -> None:
        """Ask for every rollout batch that will be used within ``max_staleness`` optimiser steps from now.

        Args:
            module: that trains.
            next_batch: training batch of the epoch that is done next, or being done.
        """
        loader, step = foreseeable(module.trainer.train_dataloader), module.global_step
        if self.pool is None:
            self.pool = self.launch(module)
        if self.offered != step:
            self.pool.offer(step, trained_state(module.policy))
            self.offered = step
        if module.buffer is not None:
            module.buffer.rank_by(module.reward, step)
        places = course(module, loader, next_batch).places()
        if module.buffer is not None and self.settings.max_staleness == 0:
            places = islice(places, 1)  # what the present batch puts into the buffer may be replayed in the next one
        for place in takewhile(lambda place: place.optimizer_step - step <= self.settings.max_staleness, places):
            if place.rollout_step not in self.foreseen:
                self.order(module, place, loader.batch_at(place.epoch, place.batch))

    def order(self, module: RolloutModule, place: Place, problems: list[Problem]) -> None:
        """Ask for one rollout batch."""
        assert self.pool is not None
        rows = drawn_rows(module.sampler, problems, module.buffer, place.rollout_step)
        self.foreseen[place.rollout_step] = _Foreseen(place.optimizer_step, tuple(one.id for one in problems))
        order = Order(place.rollout_step, place.optimizer_step, tuple(problems), rows)
        self.pool.submit(order, tied=self.settings.reproducible)

    def environment_gain(self) -> Mapping[str, float]:
        """What the actors' environments have done for the batches that arrived."""
        gained, self.gained = self.gained, {}
        return gained


def foreseeable(loader: Any) -> ForeseenBatches:
    """A training loader whose coming batches can be asked for.

    Raises:
        ValueError: it cannot say what comes.
    """
    if not isinstance(loader, ForeseenBatches):
        raise ValueError(
            f"model.asynchronous samples coming batches, which {type(loader).__name__} cannot tell: use a datamodule "
            "of datamodules (or give the training loader a method batch_at, see datamodules.common.order.TrainLoader), "
            "or set model.asynchronous to null"
        )
    return loader


def course(module: RolloutModule, loader: ForeseenBatches, next_batch: int) -> Course:
    """How training goes on from here.

    Args:
        module: that trains.
        loader: of its training batches.
        next_batch: training batch of the epoch that is done next, or being done.
    """
    trainer = module.trainer
    epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs >= 0 else None
    return Course(
        epoch=loader.epoch,
        batch=next_batch,
        optimizer_step=module.global_step,
        rollout_step=module.num_rollout_batches,
        epoch_batches=int(min(len(loader), trainer.num_training_batches)),
        epochs_left=None if epochs is None else epochs - trainer.current_epoch,
        max_steps=trainer.max_steps if trainer.max_steps >= 0 else None,
        accumulate=trainer.accumulate_grad_batches,
        repeats=module.updates_per_rollout,
    )


def old_is_sampler(objective: Objective, served: Collection[str], settings: AsynchronousSettings | None) -> bool:
    """Whether q_old of a policy gradient is the policy that sampled, rather than the one that updates begin with.

    Where samples may be older, a ratio q / q_old corrects for it only if q_old is the sampler. With
    ``objective.importance`` q_old stays the policy that updates begin with: its weights correct the rest. Says in a
    line if nothing corrects. Balance objectives hold for samples of any policy.

    Args:
        objective: of the module.
        served: regimes of the module, for an objective of one's own.
        settings: None if every batch is sampled in its step.
    """
    if settings is None or settings.max_staleness == 0:
        return False
    regime = served_by(objective) or (next(iter(served)) if len(served) == 1 else None)
    if regime != POLICY_GRADIENT or objective.requires & BEHAVIOUR_COLUMNS:
        return False
    compares = "old_log_pf_BT" in objective.requires and getattr(objective, "ratio", None) != "none"
    if not compares:
        rank_zero_warn(
            f"objective {type(objective).__name__} takes samples for the present policy's, but they are up to "
            f"asynchronous.max_staleness={settings.max_staleness} optimiser steps older: set objective.importance, "
            "objective.ratio to token, or max_staleness to 0"
        )
    return compares
