"""A module whose arguments are of every kind that can be null, for tests of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from standins import NoisyModule


class Colour(Enum):
    red = 1


@dataclass(frozen=True)
class Inner:
    """Settings within settings.

    Args:
        depth: may be null.
        width: may not.
        names: may hold nulls.
    """

    depth: int | None = 3
    width: int = 4
    names: list[str | None] = field(default_factory=lambda: ["a"])


@dataclass(frozen=True)
class Settings:
    """Settings.

    Args:
        rate: may be null.
        inner: settings that may be null.
        fixed: settings that may not.
    """

    rate: float | None = 0.5
    inner: Inner | None = field(default_factory=Inner)
    fixed: Inner = field(default_factory=Inner)


class Part:
    """A part of its own class.

    Args:
        size: may be null.
        word: may be null.
        settings: of the part.
        below: a part below it.
        numbers: may hold nulls.
    """

    def __init__(
        self,
        size: int | None = 7,
        word: str | None = "w",
        settings: Settings | None = None,
        below: Part | None = None,
        numbers: list[float | None] | None = None,
    ) -> None:
        self.size, self.word, self.settings, self.below, self.numbers = size, word, settings, below, numbers


class KindsModule(NoisyModule):
    """Every kind.

    Args:
        flag: may be null.
        text: may be null.
        choice: may be null.
        colour: may be null.
        place: may be null.
        either: may be null.
        anything: may be null.
        numbers: may be null and hold nulls.
        pair: may hold nulls.
        table: may be null and hold nulls.
        lists: may hold nulls two levels down.
        settings: may be null.
        part: may be null.
        parts: may be null and hold nulls.
        named_parts: may be null and hold nulls.
        implicit: may be null because its default is.
    """

    def __init__(
        self,
        *,
        flag: bool | None = True,
        text: str | None = "t",
        choice: Literal["a", "b"] | None = "a",
        colour: Colour | None = Colour.red,
        place: Path | None = Path("here"),
        either: str | int | None = 1,
        anything: Any = 1,
        numbers: list[float | None] | None = None,
        pair: tuple[int | None, int | None] = (1, 2),
        table: dict[str, float | None] | None = None,
        lists: dict[str, list[int | None]] | None = None,
        settings: Settings | None = None,
        part: Part | None = None,
        parts: list[Part | None] | None = None,
        named_parts: dict[str, Part | None] | None = None,
        implicit: int = None,  # type: ignore[assignment]
        **more: Any,
    ) -> None:
        super().__init__(**more)
