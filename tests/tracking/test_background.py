from __future__ import annotations

import threading
import time

from lightning_gfn.tracking.background import DeliveryQueue


class Server:
    """Collects what is delivered; can be down, and refuses the items it is told to."""

    def __init__(self, refused: set[int] | None = None) -> None:
        self.received: list[int] = []
        self.batches: list[int] = []
        self.down = threading.Event()
        self.refused = refused if refused is not None else set()

    def __call__(self, items: list[int]) -> None:
        if self.down.is_set():
            raise ConnectionError("down")
        if self.refused & set(items):
            raise ValueError("refused")
        self.batches.append(len(items))
        self.received += items


def make_queue(server: Server, failures: list[tuple[str, bool]], capacity: int = 1000) -> DeliveryQueue[int]:
    return DeliveryQueue(
        server,
        is_permanent=lambda error: isinstance(error, ValueError),
        on_failure=lambda error, permanent: failures.append((str(error), permanent)),
        capacity=capacity,
        batch_size=50,
        linger_seconds=0.02,
        first_pause_seconds=0.05,
    )


def test_everything_arrives_once_in_order_and_in_batches() -> None:
    server, failures = Server(), []
    queue = make_queue(server, failures)
    for item in range(500):
        queue.put(item)
    assert queue.flush(5.0)
    assert server.received == list(range(500)) and len(server.batches) < 100
    assert max(server.batches) <= 50 and not failures and queue.num_dropped == 0


def test_refused_items_are_dropped_alone() -> None:
    server, failures = Server(refused={3, 7}), []
    queue = make_queue(server, failures)
    for item in range(20):
        queue.put(item)
    assert queue.flush(5.0)
    assert server.received == [item for item in range(20) if item not in (3, 7)]
    assert failures == [("refused", True)] and queue.num_dropped == 2


def test_items_wait_while_the_server_is_down() -> None:
    server, failures = Server(), []
    server.down.set()
    queue = make_queue(server, failures)
    for item in range(100):
        queue.put(item)
    time.sleep(0.3)
    assert not server.received and queue.is_failing and failures == [("down", False)]
    server.down.clear()
    assert queue.flush(5.0)
    assert server.received == list(range(100)) and queue.num_failures >= 2 and not queue.is_failing


def test_a_dead_server_costs_no_time_and_bounded_memory() -> None:
    server, failures = Server(), []
    server.down.set()
    queue = make_queue(server, failures, capacity=100)
    start = time.monotonic()
    for item in range(10_000):
        queue.put(item)
    assert time.monotonic() - start < 2.0
    start = time.monotonic()
    assert not queue.flush(0.3)
    assert time.monotonic() - start < 2.0
    assert queue.pending() <= 151 and queue.num_dropped >= 9_800
