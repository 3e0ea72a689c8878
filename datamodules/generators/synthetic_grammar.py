"""The language of the synthetic word problems: sums of products, each with every way of solving it written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

NAMES = ("Ann", "Ben", "Eva", "Ian", "Joy", "Leo", "Mia", "Sam")
ITEMS = ("pens", "eggs", "nuts", "cards", "coins", "beads")
CONTAINERS = ("bags", "jars", "boxes", "trays")
REST = "rest"
DIRECTIONS: Mapping[str, int] = {"forward": 1, "backward": -1}


@dataclass(frozen=True)
class Difficulty:
    """Bounds of a level; all numbers are at least 2.

    Args:
        num_groups: products in the sum; one more summand is a plain number.
        max_count: largest number of containers of a kind.
        max_size: largest content of a container.
        max_rest: largest plain number.
    """

    num_groups: int
    max_count: int
    max_size: int
    max_rest: int


LEVELS: Mapping[int, Difficulty] = {
    1: Difficulty(num_groups=1, max_count=6, max_size=9, max_rest=20),
    2: Difficulty(num_groups=2, max_count=5, max_size=6, max_rest=9),
    3: Difficulty(num_groups=3, max_count=5, max_size=6, max_rest=9),
    4: Difficulty(num_groups=3, max_count=6, max_size=12, max_rest=40),
    5: Difficulty(num_groups=4, max_count=6, max_size=12, max_rest=40),
}
"""Two, three and four summands of small numbers; then four and five of larger ones."""


@dataclass(frozen=True)
class Summand:
    """``count`` containers of ``size`` items, or ``size`` loose items.

    Args:
        container: what holds the items; "rest" for the loose ones.
        size: items in each container.
        count: number of containers; None for the loose ones.
    """

    container: str
    size: int
    count: int | None = None

    @property
    def value(self) -> int:
        """Items altogether."""
        return self.size if self.count is None else self.count * self.size

    @property
    def product(self) -> str:
        """The value as it is read off the question."""
        return str(self.size) if self.count is None else f"{self.count} * {self.size}"


@dataclass(frozen=True)
class WordProblem:
    """A question about the sum of its summands.

    Args:
        name: who has the items.
        item: what is counted.
        summands: groups in the order of the question, the loose items last.
        level: key of ``LEVELS``.
    """

    name: str
    item: str
    summands: tuple[Summand, ...]
    level: int

    @property
    def question(self) -> str:
        """The question in words."""
        groups = ", ".join(f"{group.count} {group.container} of {group.size}" for group in self.summands[:-1])
        return f"{self.name} has {groups} and {self.summands[-1].size} more {self.item}. How many {self.item}?"

    @property
    def answer(self) -> int:
        """The sum."""
        return sum(summand.value for summand in self.summands)

    @property
    def numbers(self) -> tuple[tuple[int, int], ...]:
        """The sum without words and without order; problems that share it are the same problem to a solver."""
        return tuple(sorted((1 if summand.count is None else summand.count, summand.size) for summand in self.summands))

    @property
    def metadata(self) -> dict[str, int]:
        """Strata of reports."""
        return {"level": self.level}

    def solutions(self) -> dict[str, str]:
        """Every correct completion, mapped to its path: a style and a direction in which the summands are taken.

        Where the two directions of a style read the same (equal summands), the text stands once, under the first.
        """
        found: dict[str, str] = {}
        for style, write in STYLES.items():
            for direction, step in DIRECTIONS.items():
                found.setdefault(
                    f"{write(self.summands[::step])}\nThe answer is: {self.answer}", f"{style}/{direction}"
                )
        return found


def sample_problem(random: Random, level: int) -> WordProblem:
    """Draw a problem of a level."""
    bounds = LEVELS[level]
    groups = [
        Summand(container, random.randint(2, bounds.max_size), random.randint(2, bounds.max_count))
        for container in CONTAINERS[: bounds.num_groups]
    ]
    rest = Summand(REST, random.randint(2, bounds.max_rest))
    return WordProblem(random.choice(NAMES), random.choice(ITEMS), (*groups, rest), level)


def totals(summands: Sequence[Summand]) -> list[int]:
    """The running totals."""
    return list(accumulate(summand.value for summand in summands))


def write_steps(summands: Sequence[Summand]) -> str:
    """Multiply and add in turn, one sentence an operation."""
    sentences = []
    for i, summand in enumerate(summands):
        if summand.count is not None:
            sentences.append(f"{summand.count} {summand.container} hold {summand.product} = {summand.value}.")
        if i:
            before, after = totals(summands)[i - 1 : i + 1]
            sentences.append(f"{before} + {summand.value} = {after}.")
    return " ".join(sentences)


def write_story(summands: Sequence[Summand]) -> str:
    """A running total told in words, the products done in the head."""
    parts = [f"Take {summands[0].value} from the {summands[0].container}"]
    for summand, total in zip(summands[1:], totals(summands)[1:], strict=True):
        parts.append(f"adding {summand.value} from the {summand.container} makes {total}")
    return ", ".join(parts) + "."


def write_equation(summands: Sequence[Summand]) -> str:
    """One expression for the whole, simplified from the left."""
    values = [summand.value for summand in summands]
    lines = [" + ".join(summand.product for summand in summands)]
    for i, total in enumerate(totals(summands)):
        lines.append(" + ".join(map(str, [total, *values[i + 1 :]])))
    return f"Let x be the total. x = {' = '.join(lines)}."


def write_count(summands: Sequence[Summand]) -> str:
    """Skip counting instead of products and sums."""
    parts, total = [], 0
    for summand in summands:
        steps = [total + summand.size * (i + 1) for i in range(1 if summand.count is None else summand.count)]
        total = steps[-1]
        parts.append(f"{summand.container} {', '.join(map(str, steps))}")
    return f"Count up {' then '.join(parts)}."


def write_undo(summands: Sequence[Summand]) -> str:
    """An unknown from which summands were taken away, given back one by one."""
    values = [summand.value for summand in summands]
    lines = [
        "x" + "".join(f" - {value}" for value in reversed(values[i + 1 :])) + f" = {total}"
        for i, total in enumerate(totals(summands))
    ]
    return f"Undo it: {' so '.join(lines)}."


def write_places(summands: Sequence[Summand]) -> str:
    """Tens and ones apart."""
    tens = [summand.value // 10 * 10 for summand in summands]
    ones = [summand.value % 10 for summand in summands]
    parts = [
        f"{name}: {' + '.join(map(str, values))} = {sum(values)}." for name, values in (("Tens", tens), ("Ones", ones))
    ]
    return f"{' '.join(parts)} Both: {sum(tens)} + {sum(ones)} = {sum(tens) + sum(ones)}."


STYLES: Mapping[str, Callable[[Sequence[Summand]], str]] = {
    "steps": write_steps,
    "story": write_story,
    "equation": write_equation,
    "count": write_count,
    "undo": write_undo,
    "places": write_places,
}
"""Solution styles; texts of different styles are less than 0.7 alike by ROUGE-L F1."""
