"""A row of the table: what is compared, with whom, in which unit, and what is asked of the ratio."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

MeterName = Literal["cpu_seconds", "wall_seconds", "added_bytes", "device_bytes"]


@dataclass(frozen=True)
class Options:
    """What the command line chooses for all rows.

    Args:
        full: the shapes of the table of targets, also where they take many minutes.
        threads: of PyTorch.
        rounds: measured turns of each side; None for the row's own number.
    """

    full: bool = False
    threads: int = 1
    rounds: int | None = None


@dataclass(frozen=True)
class Seconds:
    """Seconds that a way measured itself, because it works in another process."""

    value: float


@dataclass(frozen=True)
class Way:
    """One side of a comparison.

    Args:
        run: does the work once; may return ``Seconds``.
        close: frees what the way holds.
        before: work of each turn that is not measured.
    """

    run: Callable[[], object]
    close: Callable[[], object] = lambda: None
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Floor:
    """The least that the work costs at a bound measured in the same run.

    Args:
        name: of the bound, with the rate that was measured.
        value: in the unit of the meter (seconds).
    """

    name: str
    value: float


@dataclass(frozen=True)
class Contest:
    """Both sides of a row, built.

    Args:
        ours: this library.
        peers: how to build each setting of the peer; the cheapest one in a first turn is measured further. Without
            any, the row is a figure alone.
        amount: work of one turn in ``unit``; None shows the time or memory of a turn.
        unit: what ``amount`` counts.
        floor: measures the bound, after the rounds; None if there is none.
        settings_of: rows with this name have the same peer: its best setting is looked for once in a run.
    """

    ours: Callable[[], Way]
    peers: Mapping[str, Callable[[], Way]] = field(default_factory=dict)
    amount: float | None = None
    unit: str = ""
    floor: Callable[[], Floor] | None = None
    settings_of: str = ""


@dataclass(frozen=True)
class Target:
    """What is asked: ratio (peer / ours, more is better) and share of the floor.

    Args:
        ratio: smallest ratio; None asks nothing.
        share: smallest share of the floor; None asks nothing.
        words: how the target was put, where that is not a ratio.
    """

    ratio: float | None = None
    share: float | None = None
    words: str = ""

    def is_met(self, ratio: float | None, share: float | None) -> bool | None:
        """Whether the figures reach it; None if nothing is asked or what is asked could not be measured."""
        asked = [(self.ratio, ratio), (self.share, share)]
        asked = [(least, value) for least, value in asked if least is not None]
        if not asked or any(value is None for _, value in asked):
            return None
        return all(value is not None and least is not None and value >= least for least, value in asked)

    def text(self) -> str:
        """For the table."""
        parts = [f"≥ {self.ratio:.3g}"] if self.ratio is not None else []
        parts += [f"≥ {100 * self.share:.0f}% of the floor"] if self.share is not None else []
        return " and ".join(parts) + (f" ({self.words})" if self.words else "") if parts else "–"


def time_at_most(factor: float) -> Target:
    """A target that allows more time than the peer's: ours ≤ factor · peer."""
    return Target(ratio=1.0 / factor, words=f"time ≤ {factor:g}×")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        name: by which it is chosen; unique.
        what: for the table.
        build: builds both sides from the options.
        target: what is asked.
        meter: what is counted.
        rounds: measured turns of each side.
        warm_up: one turn of each side before, which is not measured; False where a turn takes very long.
        needs: each gives the reason why the row cannot run here, or None.
        by_name_only: left out unless it is named.
    """

    name: str
    what: str
    build: Callable[[Options], Contest]
    target: Target = field(default_factory=Target)
    meter: MeterName = "cpu_seconds"
    rounds: int = 3
    warm_up: bool = True
    needs: Sequence[Callable[[], str | None]] = ()
    by_name_only: bool = False

    def reason_to_skip(self) -> str | None:
        """Why it cannot run here; None if it can."""
        return next((reason for need in self.needs if (reason := need()) is not None), None)


@dataclass(frozen=True)
class Measured:
    """What one way cost, in turns of one run.

    Args:
        name: of the way.
        run: the run that measured it.
        values: one for each turn.
    """

    name: str
    run: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Ratio:
    """Median, smallest and largest of peer / ours over neighbouring turns."""

    median: float
    low: float
    high: float


def ratio(ours: Measured, peer: Measured) -> Ratio:
    """Peer / ours, turn by turn.

    Raises:
        ValueError: the two are of different runs or have different numbers of turns.
    """
    if ours.run != peer.run:
        raise ValueError(
            f"{ours.name} was measured in run {ours.run} and {peer.name} in run {peer.run}: figures of different runs "
            "are not comparable; measure both in one run"
        )
    if len(ours.values) != len(peer.values) or not ours.values:
        raise ValueError(f"{ours.name} has {len(ours.values)} turns and {peer.name} {len(peer.values)}")
    quotients = sorted(b / a if a else math.inf for a, b in zip(ours.values, peer.values, strict=True))
    middle = len(quotients) // 2
    median = quotients[middle] if len(quotients) % 2 else 0.5 * (quotients[middle - 1] + quotients[middle])
    return Ratio(median, quotients[0], quotients[-1])
