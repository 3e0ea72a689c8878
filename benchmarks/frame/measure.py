"""Measuring a row: both sides are built and warmed up, the best setting of the peer is found, then they take turns."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.frame.meters import METERS
from benchmarks.frame.row import Contest, Floor, Measured, Options, Ratio, Row, Way, ratio


@dataclass(frozen=True)
class Outcome:
    """What a row gave.

    Args:
        row: that was measured.
        reason: why there are no figures; None if there are.
        failed: the reason is an error.
        ours: what our side cost.
        peer: what the best setting of the peer cost.
        tried: the first turn of every setting of the peer.
        ratio: peer / ours.
        amount: work of a turn, see ``Contest``.
        unit: of the amount.
        floor: the bound, if there is one.
        seconds: that the row took in all, on the wall.
        cpu_seconds: that this process computed for it.
    """

    row: Row
    reason: str | None = None
    failed: bool = False
    ours: Measured | None = None
    peer: Measured | None = None
    tried: tuple[tuple[str, float], ...] = ()
    ratio: Ratio | None = None
    amount: float | None = None
    unit: str = ""
    floor: Floor | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def share(self) -> float | None:
        """Share of the floor that our side reaches."""
        if self.floor is None or self.ours is None:
            return None
        return self.floor.value / statistics.median(self.ours.values)

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met."""
        return self.row.target.is_met(self.ratio.median if self.ratio is not None else None, self.share)


def seed_everything() -> None:
    """The same random numbers for every row, whichever rows run before it."""
    import torch

    random.seed(0)
    torch.manual_seed(0)


def best_peer(
    row: Row, contest: Contest, meter: Callable[[Way], float], stack: ExitStack, known: dict[str, str]
) -> tuple[str, Way, tuple[tuple[str, float], ...]]:
    """The setting of the peer with the cheapest turn after warm-up; at most two settings exist at a time."""
    best: tuple[float, str, Way] | None = None
    tried = []
    names = [known[contest.settings_of]] if contest.settings_of in known else list(contest.peers)
    alone = len(names) == 1
    for name in names:
        build = contest.peers[name]
        seed_everything()
        way = build()
        if row.warm_up:
            meter(way)
        cost = 0.0 if alone else meter(way)
        if not alone:
            tried.append((name, cost))
        if best is None or cost < best[0]:
            loser, best = best, (cost, name, way)
        else:
            loser = (cost, name, way)
        if loser is not None:
            loser[2].close()
            gc.collect()
    assert best is not None
    if contest.settings_of:
        known[contest.settings_of] = best[1]
    stack.callback(best[2].close)
    return best[1], best[2], tuple(tried)


def take_turns(
    row: Row, contest: Contest, options: Options, run: str, stack: ExitStack, known: dict[str, str]
) -> dict[str, object]:
    """Our side and the peer's best setting in turn; fields of ``Outcome``."""
    meter, rounds = METERS[row.meter], options.rounds or row.rounds
    tried: tuple[tuple[str, float], ...] = ()
    ways: list[tuple[str, Way]] = []
    if contest.peers:
        name, way, tried = best_peer(row, contest, meter, stack, known)
        ways.append((name, way))
    seed_everything()
    ours = contest.ours()
    stack.callback(ours.close)
    ways.insert(0, ("ours", ours))
    if row.warm_up:
        meter(ours)
    values: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for number, (_, way) in enumerate(ways):
            values[number].append(meter(way))
    measured = [Measured(name, run, tuple(costs)) for (name, _), costs in zip(ways, values, strict=True)]
    peer = measured[1] if len(measured) > 1 else None
    return {
        "ours": measured[0],
        "peer": peer,
        "tried": tried,
        "ratio": ratio(measured[0], peer) if peer is not None else None,
    }


def measure(row: Row, options: Options, run: str, known: dict[str, str]) -> Outcome:
    """The figures of a row, or the reason why there are none; an error of one row ends no other.

    Args:
        row: to measure.
        options: of the command line.
        run: names the run.
        known: the best settings of peers that several rows share, found so far in this run.
    """
    if (reason := row.reason_to_skip()) is not None:
        return Outcome(row, reason=reason)
    started, cpu_started = time.perf_counter(), time.process_time()
    try:
        with ExitStack() as stack:
            seed_everything()
            contest = row.build(options)
            fields = take_turns(row, contest, options, run, stack, known)
        gc.collect()
        floor = contest.floor() if contest.floor is not None else None
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {lines[0]}"
        return Outcome(row, reason=reason, failed=True, seconds=time.perf_counter() - started)
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
    fields |= {"amount": contest.amount, "unit": contest.unit, "floor": floor}
    return Outcome(row, **spent, **fields)  # type: ignore[arg-type]
