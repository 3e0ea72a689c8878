"""Orders and actors, with a stand-in for Ray whose actors are objects of this process."""

from __future__ import annotations

import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lightning_gfn.rollouts.asynchronous.actor_pool import ActorPool, SamplersLost, check_resources
from lightning_gfn.rollouts.asynchronous.rollout_actor import Order
from lightning_gfn.rollouts.asynchronous.settings import AsynchronousSettings


class RayError(Exception):
    """As in Ray."""


class RayTaskError(RayError):
    """As in Ray: what a call in an actor raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"remote traceback\n{cause}")
        self.cause = cause


class StandIn:
    """As much of Ray as the pool needs; calls run in the thread that waits for them."""

    exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, work: Callable[[int, Order, int, Any], Any]) -> None:
        self.work, self.started, self.killed = work, 0, 0
        self.sampled: list[tuple[int, int, int, Any]] = []

    def is_initialized(self) -> bool:
        return True

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Any:
        def start() -> Any:
            number, self.started = self.started, self.started + 1

            def sample(order: Order, version: int, weights: Any) -> Any:
                self.sampled.append((number, order.rollout_step, version, weights))
                return self.work(number, order, version, weights)

            later = lambda call: types.SimpleNamespace(remote=lambda *arguments: lambda: call(*arguments))  # noqa: E731
            parts = {"prepare": lambda *_: 1000 + number, "sample": sample, "close": lambda: None}
            return types.SimpleNamespace(**{name: later(call) for name, call in parts.items()})

        return lambda host: types.SimpleNamespace(remote=start)

    def get(self, call: Callable[[], Any]) -> Any:
        return call()

    def wait(self, calls: list[Any], num_returns: int, timeout: float) -> None:
        pass

    def kill(self, actor: Any) -> None:
        self.killed += 1

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0, "memory": 1e9}


Begin = Callable[..., tuple[ActorPool, StandIn]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    pools: list[ActorPool] = []

    def make(work: Callable[[int, Order, int, Any], Any], **settings: Any) -> tuple[ActorPool, StandIn]:
        ray = StandIn(work)
        pool = ActorPool(ray, AsynchronousSettings(**settings), None, None)  # type: ignore[arg-type]
        pools.append(pool)
        return pool, ray

    yield make
    for pool in pools:
        pool.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rollout actor")]


def order(number: int) -> Order:
    return Order(number, number, ())


def gated(gate: threading.Event, began: threading.Event) -> Callable[[int, Order, int, Any], Any]:
    """Work whose first order waits until it may end."""

    def work(number: int, asked: Order, version: int, weights: Any) -> str:
        if asked.rollout_step == 9:
            began.set()
            assert gate.wait(10)
        return f"batch {asked.rollout_step}"

    return work


def test_the_earliest_goes_first_with_the_newest_weights(begin: Begin) -> None:
    gate, began = threading.Event(), threading.Event()
    pool, ray = begin(gated(gate, began))
    pool.offer(0, "old")
    pool.submit(order(9), tied=False)
    assert began.wait(10)
    pool.submit(order(3), tied=False)
    pool.submit(order(2), tied=True)
    pool.submit(order(1), tied=False)
    pool.offer(4, "new")
    gate.set()
    assert [pool.take(number) for number in (1, 2, 3, 9)] == ["batch 1", "batch 2", "batch 3", "batch 9"]
    assert ray.sampled == [(0, 9, 0, "old"), (0, 1, 4, "new"), (0, 2, 0, "old"), (0, 3, 4, "new")]


def test_weights_that_an_actor_holds_are_not_sent_again(begin: Begin) -> None:
    pool, ray = begin(lambda *_: "batch")
    pool.offer(5, "weights")
    for number in range(3):
        pool.submit(order(number), tied=False)
        pool.take(number)
    assert [sent for *_, sent in ray.sampled] == ["weights", None, None]


def test_an_actor_that_dies_is_replaced_and_its_order_repeated(begin: Begin) -> None:
    def work(actor: int, asked: Order, version: int, weights: Any) -> str:
        if actor == 0 and asked.rollout_step == 1:
            raise RayError("died")
        return f"batch {asked.rollout_step} of actor {actor}"

    pool, ray = begin(work)
    pool.offer(0, "weights")
    for number in range(3):
        pool.submit(order(number), tied=True)
    assert [pool.take(n) for n in range(3)] == ["batch 0 of actor 0", "batch 1 of actor 1", "batch 2 of actor 1"]
    assert pool.replaced == 1 and ray.killed == 1 and ray.started == 2
    assert [(number, sent) for _, number, _, sent in ray.sampled] == [
        (0, "weights"), (1, None), (1, "weights"), (2, None)
    ]  # fmt: skip


def test_too_many_deaths_end_the_run(begin: Begin) -> None:
    def work(*_: Any) -> None:
        raise RayError("some words\nout of memory")

    pool, ray = begin(work, max_deaths=2, num_samplers=2)
    pool.offer(0, "weights")
    pool.submit(order(7), tied=False)
    with pytest.raises(SamplersLost, match="2 samplers died over rollout batch 7, the last one so: out of memory"):
        pool.take(7)
    assert len(ray.sampled) == 2


def test_an_error_in_an_actor_is_raised_as_what_it_was(begin: Begin) -> None:
    def work(*_: Any) -> None:
        raise RayTaskError(ValueError("log rewards must be finite"))

    pool, _ = begin(work)
    pool.offer(0, "weights")
    pool.submit(order(0), tied=False)
    with pytest.raises(ValueError, match="log rewards must be finite") as caught:
        pool.take(0)
    assert "remote traceback" in str(caught.value.__cause__)


def test_waiting_for_a_batch_that_is_late(begin: Begin) -> None:
    def work(*_: Any) -> str:
        time.sleep(0.2)
        return "batch"

    pool, _ = begin(work)
    pool.offer(0, "weights")
    pool.submit(order(0), tied=False)
    assert pool.take(0) == "batch"


def test_more_than_the_cluster_has_is_refused() -> None:
    ray = StandIn(lambda *_: None)
    check_resources(ray, AsynchronousSettings(num_samplers=2), 1)
    with pytest.raises(ValueError, match="4 samplers need 4 CPU, the Ray cluster has 2: lower asynchronous.num_sampl"):
        check_resources(ray, AsynchronousSettings(num_samplers=2), 2)
    with pytest.raises(ValueError, match="1 samplers need 0.5 GPU, the Ray cluster has 0"):
        check_resources(ray, AsynchronousSettings(num_gpus=0.5), 1)
    with pytest.raises(ValueError, match="need 1 fast"):
        check_resources(ray, AsynchronousSettings(resources={"fast": 1.0}), 1)


@pytest.mark.parametrize(
    "settings", [{"num_samplers": 0}, {"max_staleness": -1}, {"num_cpus": -0.5}, {"max_deaths": 0}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"asynchronous.{next(iter(settings))} is"):
        AsynchronousSettings(**settings)
