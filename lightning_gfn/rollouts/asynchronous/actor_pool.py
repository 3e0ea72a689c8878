"""Actors that sample rollout batches in order of need; those that die are replaced."""

from __future__ import annotations

import contextlib
import heapq
import threading
import weakref
from dataclasses import dataclass
from typing import Any

from lightning_gfn.cluster.ray_cluster import last_line
from lightning_gfn.rollouts.asynchronous.rollout_actor import Delivery, Equipment, Order, RolloutActor
from lightning_gfn.rollouts.asynchronous.settings import AsynchronousSettings

CLOSING_SECONDS = 2.0


class SamplersLost(RuntimeError):
    """Actors died again and again over one rollout batch."""


@dataclass(frozen=True)
class Weights:
    """Weights that lie in Ray's object store.

    Args:
        version: optimiser steps that they have made.
        reference: of the object.
    """

    version: int
    reference: Any


@dataclass
class _Errand:
    """An order under way: the weights that it is tied to, if any, and the actors that died over it."""

    order: Order
    weights: Weights | None
    deaths: int = 0

    def __lt__(self, other: _Errand) -> bool:
        return self.order.rollout_step < other.order.rollout_step


class ActorPool:
    """Actors, each with a thread here that hands it one order after the other, the earliest first.

    Args:
        ray: the package, connected.
        settings: how many actors, of which resources, and how many may die over one order.
        equipment: what each is made of.
        state: of the weights at the start, packed.
    """

    def __init__(self, ray: Any, settings: AsynchronousSettings, equipment: Equipment, state: Any) -> None:
        self._ray, self._settings = ray, settings
        self._start = ray.put(equipment), ray.put(state)
        self._latest: Weights | None = None
        self._changed = threading.Condition()
        self._waiting: list[_Errand] = []
        self._done: dict[int, Delivery] = {}
        self._error: BaseException | None = None
        self._closed = False
        self._actors: dict[int, Any] = {}
        self.pids: dict[int, int] = {}
        """Process of each living actor."""
        self.replaced = 0
        """Actors that died and were replaced."""
        self._threads = [
            threading.Thread(target=_serve, args=(weakref.ref(self), i), name=f"rollout actor {i}", daemon=True)
            for i in range(settings.num_samplers)
        ]
        self._finalizer = weakref.finalize(self, _kill_all, ray, self._actors)
        for thread in self._threads:
            thread.start()

    # ---------------------------------------------------------------- called by the trainer

    def offer(self, version: int, state: Any) -> None:
        """From now on sample with these weights.

        Args:
            version: optimiser steps that they have made.
            state: packed weights that training changes.
        """
        self._latest = Weights(version, self._ray.put(state))

    def submit(self, order: Order, *, tied: bool) -> None:
        """Ask for a rollout batch.

        Args:
            order: the batch.
            tied: sample with the weights that were offered last, not with those at the time of sampling.
        """
        with self._changed:
            heapq.heappush(self._waiting, _Errand(order, self._latest if tied else None))
            self._changed.notify_all()

    def take(self, rollout_step: int) -> Delivery:
        """Wait for a rollout batch that was asked for.

        Raises:
            SamplersLost: too many actors died over one batch.
            BaseException: what sampling or the reward raised in an actor, of its own class.
        """
        with self._changed:
            while rollout_step not in self._done:
                if self._error is not None:
                    cause = getattr(self._error, "cause", None)
                    if isinstance(cause, BaseException):
                        raise cause from self._error
                    raise self._error
                self._changed.wait(0.5)  # so that signals are heard
            return self._done.pop(rollout_step)

    def close(self) -> None:
        """End all actors; what they were at is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        asked = [actor.close.remote() for actor in self._actors.values()]
        with contextlib.suppress(Exception):  # those that are at work are killed without
            self._ray.wait(asked, num_returns=len(asked), timeout=CLOSING_SECONDS)
        self._finalizer()
        for thread in self._threads:
            thread.join(timeout=CLOSING_SECONDS)

    # ---------------------------------------------------------------- in the threads

    def _next(self) -> _Errand | None:
        """The earliest order that waits, None after a moment without."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(0.5)
            return heapq.heappop(self._waiting) if self._waiting and not self._closed else None

    def _launch(self, index: int) -> Any:
        needs = self._settings.needs()
        host = self._ray.remote(
            num_cpus=needs.pop("CPU"), num_gpus=needs.pop("GPU"), resources=needs or None, max_restarts=0
        )(RolloutActor)
        actor = self._actors[index] = host.remote()
        self.pids[index] = self._ray.get(actor.prepare.remote(*self._start))
        return actor

    def _carry_out(self, index: int, held: int | None, errand: _Errand) -> int | None:
        """Have an order sampled; the version of the weights that the actor then holds, None if there is no actor."""
        exceptions = self._ray.exceptions
        try:
            actor = self._actors[index] if index in self._actors else self._launch(index)
            weights = errand.weights or self._latest
            assert weights is not None
            sent = weights.reference if weights.version != held else None
            delivery = self._ray.get(actor.sample.remote(errand.order, weights.version, sent))
        except exceptions.RayTaskError as error:
            self._fail(error)
            return None
        except exceptions.RayError as error:
            self._bury(index, errand, error)
            return None
        with self._changed:
            self._done[errand.order.rollout_step] = delivery
            self._changed.notify_all()
        return weights.version

    def _bury(self, index: int, errand: _Errand, error: BaseException) -> None:
        """An actor died: let another one take its order."""
        self.pids.pop(index, None)
        actor = self._actors.pop(index, None)
        if self._closed:
            return
        if actor is not None:
            self._ray.kill(actor)
        errand.deaths += 1
        self.replaced += 1
        if errand.deaths >= self._settings.max_deaths:
            lost = SamplersLost(
                f"{errand.deaths} samplers died over rollout batch {errand.order.rollout_step}, the last one so: "
                f"{last_line(error)}; look at their memory (asynchronous.num_samplers, policy.budget) and at the "
                "logs in /tmp/ray/session_latest/logs"
            )
            lost.__cause__ = error
            self._fail(lost)
            return
        with self._changed:
            heapq.heappush(self._waiting, errand)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error if self._error is not None else error
            self._changed.notify_all()


def _serve(reference: weakref.ref[ActorPool], index: int) -> None:
    """One actor's thread; it ends with the pool."""
    held: int | None = None
    while (pool := reference()) is not None and not pool._closed:
        errand = pool._next()
        if errand is not None:
            held = pool._carry_out(index, held, errand)
        del pool


def _kill_all(ray: Any, actors: dict[int, Any]) -> None:
    for actor in list(actors.values()) if ray.is_initialized() else ():
        with contextlib.suppress(Exception):
            ray.kill(actor)
    actors.clear()


def check_resources(ray: Any, settings: AsynchronousSettings, world_size: int) -> None:
    """Refuse more actors than the cluster can hold: Ray would wait for ever.

    Args:
        ray: the package, connected.
        settings: of the samplers.
        world_size: processes of the trainer on the cluster's machines, each of which starts its own.

    Raises:
        ValueError: names the resource.
    """
    there, count = ray.cluster_resources(), settings.num_samplers * world_size
    for name, each in settings.needs().items():
        if each * count > there.get(name, 0.0):
            raise ValueError(
                f"asynchronous: {count} samplers need {each * count:g} {name}, the Ray cluster has "
                f"{there.get(name, 0.0):g}: lower asynchronous.num_samplers or what each reserves "
                "(num_cpus, num_gpus, resources), or add machines"
            )
