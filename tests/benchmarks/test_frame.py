"""Turns, ratios, targets and loops of the benchmarks, on ways whose cost is known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from benchmarks.frame.measure import measure
from benchmarks.frame.meters import METERS, no_peak_memory
from benchmarks.frame.row import Contest, Measured, Options, Row, Seconds, Target, Way, ratio, time_at_most
from benchmarks.frame.stepping import Stepper


def costs(values: list[float], order: list[str], name: str) -> Way:
    """A way of given seconds, turn by turn, that notes when it runs and when it is closed."""
    left = iter(values)

    def run() -> Seconds:
        order.append(name)
        return Seconds(next(left))

    return Way(run, lambda: order.append(f"{name} closed"))


def test_sides_take_turns_after_a_warm_up_that_does_not_count() -> None:
    order: list[str] = []
    contest = Contest(
        ours=lambda: costs([99.0, 1.0, 2.0, 4.0], order, "ours"),
        peers={"peer": lambda: costs([0.1, 3.0, 4.0, 20.0], order, "peer")},
    )
    outcome = measure(Row("row", "what", lambda options: contest, Target(ratio=3.0)), Options(), "run", {})
    assert order == ["peer", "ours", *["ours", "peer"] * 3, "ours closed", "peer closed"]
    assert outcome.ratio is not None and outcome.ours is not None and outcome.peer is not None
    assert (outcome.ratio.median, outcome.ratio.low, outcome.ratio.high) == (3.0, 2.0, 5.0)
    assert outcome.ours.values == (1.0, 2.0, 4.0) and outcome.is_met is True


def test_a_long_turn_is_not_warmed_up() -> None:
    order: list[str] = []
    contest = Contest(ours=lambda: costs([2.0], order, "ours"), peers={"peer": lambda: costs([3.0], order, "peer")})
    outcome = measure(Row("row", "what", lambda options: contest, rounds=1, warm_up=False), Options(), "run", {})
    assert order[:2] == ["ours", "peer"] and outcome.ratio is not None and outcome.ratio.median == 1.5


def contest_of_three(order: list[str]) -> Contest:
    return Contest(
        ours=lambda: costs([1.0] * 3, order, "ours"),
        peers={
            "slow": lambda: costs([1.0, 9.0], order, "slow"),
            "best": lambda: costs([50.0, 2.0, 3.0], order, "best"),
            "late": lambda: costs([1.0, 5.0], order, "late"),
        },
        settings_of="three",
    )


def test_the_best_setting_of_the_peer_is_measured_and_the_others_are_closed() -> None:
    order: list[str] = []
    known: dict[str, str] = {}
    row = Row("row", "what", lambda options: contest_of_three(order), rounds=1)
    outcome = measure(row, Options(), "run", known)
    assert outcome.peer is not None and outcome.peer.name == "best" and outcome.peer.values == (3.0,)
    assert outcome.tried == (("slow", 9.0), ("best", 2.0), ("late", 5.0))
    assert order.index("slow closed") < order.index("late") and order.count("best closed") == 1
    order.clear()
    again = measure(row, Options(), "run", known)
    assert again.peer is not None and again.peer.values == (2.0,) and "slow" not in order


def test_rows_that_cannot_run_and_rows_that_fail_say_why() -> None:
    def fail(options: Options) -> Contest:
        raise RuntimeError("no such thing\nmore")

    missing = Row("a", "what", fail, needs=[lambda: None, lambda: "no GPU here"])
    assert measure(missing, Options(), "run", {}).reason == "no GPU here"
    failed = measure(Row("b", "what", fail), Options(), "run", {})
    assert failed.failed and failed.reason == "RuntimeError: no such thing" and failed.is_met is None


def test_figures_of_two_runs_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different runs are not comparable"):
        ratio(Measured("ours", "monday", (1.0,)), Measured("peer", "tuesday", (2.0,)))
    with pytest.raises(ValueError, match="1 turns and peer 2"):
        ratio(Measured("ours", "monday", (1.0,)), Measured("peer", "monday", (2.0, 2.0)))


@pytest.mark.parametrize(
    ("target", "value", "share", "met"),
    [
        (Target(ratio=2.0), 2.0, None, True),
        (Target(ratio=2.0), 1.99, None, False),
        (Target(ratio=2.0, share=0.5), 3.0, 0.4, False),
        (Target(ratio=2.0, share=0.5), 3.0, None, None),
        (time_at_most(1.25), 0.8, None, True),
        (time_at_most(1.25), 0.79, None, False),
        (Target(), 3.0, 0.4, None),
    ],
)
def test_targets(target: Target, value: float, share: float | None, met: bool | None) -> None:
    assert target.is_met(value, share) is met


def test_a_loop_goes_on_for_one_step_at_a_time() -> None:
    done: list[int] = []

    def loop(mark: Callable[[], None]) -> None:
        for number in range(100):
            done.append(number)
            mark()

    stepper = Stepper(loop)
    assert done == []
    for expected in (1, 2, 3):
        stepper.step()
        assert len(done) == expected
    stepper.close()
    assert len(done) == 3 and not stepper.thread.is_alive()


def test_errors_and_early_ends_of_a_loop_reach_the_caller() -> None:
    def fails(mark: Callable[[], None]) -> None:
        mark()
        raise ZeroDivisionError("in the loop")

    failing, short = Stepper(fails), Stepper(lambda mark: mark())
    failing.step()
    with pytest.raises(ZeroDivisionError, match="in the loop"):
        failing.step()
    short.step()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="give it more steps"):
            short.step()
    failing.close()
    short.close()


def test_a_loop_that_was_never_asked_ends_without_running() -> None:
    ran = threading.Event()
    stepper = Stepper(lambda mark: ran.set())
    stepper.close()
    assert not ran.is_set() and not stepper.thread.is_alive()


@pytest.mark.skipif(no_peak_memory() is not None, reason="no peak of memory here")
def test_memory_is_the_peak_within_the_turn() -> None:
    size = 200 * 2**20
    kept = bytearray(size)  # before the turn: does not count

    def run() -> None:
        held = bytearray(b"x" * size)
        del held

    added = METERS["added_bytes"](Way(run))
    assert size <= added <= 2.5 * size and len(kept) == size
    assert METERS["added_bytes"](Way(lambda: None)) < 0.1 * size


def test_processor_seconds_leave_waiting_out() -> None:
    way = Way(lambda: time.sleep(0.3))
    assert METERS["cpu_seconds"](way) < 0.2 < METERS["wall_seconds"](way)
    assert METERS["cpu_seconds"](Way(lambda: Seconds(7.0), before=lambda: None)) == 7.0
