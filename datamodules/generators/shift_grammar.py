"""The second family of word problems: the first one reworded, then comparisons, rates and ages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from datamodules.generators.generated import GeneratedProblem
from datamodules.generators.shift_voices import VOICES, Quantity
from datamodules.generators.synthetic_grammar import CONTAINERS, ITEMS, REST, Summand, WordProblem, sample_problem

NEW_NAMES = ("Ada", "Kim", "Max", "Roy", "Tom", "Zoe")
NEW_VERBS = ("finds", "gets", "buys", "sees")
NEW_ITEMS = ("keys", "rings", "seeds", "stamps", "shells", "plums")
NEW_CONTAINERS = ("cups", "tins", "packs", "crates")


@dataclass(frozen=True)
class RewordedProblem:
    """A sum of products, its solutions those of the first family, asked in other words.

    Args:
        sum: the problem of the first family.
        question: the other words.
        level: level in this family.
    """

    sum: WordProblem
    question: str
    level: int

    @property
    def answer(self) -> int:
        """The sum."""
        return self.sum.answer

    @property
    def numbers(self) -> tuple[tuple[int, int], ...]:
        """As in the first family, so that both put it into the same split."""
        return self.sum.numbers

    @property
    def metadata(self) -> dict[str, Any]:
        """Strata of reports."""
        return {"level": self.level, "kind": "sum"}

    def solutions(self) -> dict[str, str]:
        """Every correct completion, mapped to its path."""
        return self.sum.solutions()


@dataclass(frozen=True)
class PlannedProblem:
    """A question with several plans, each a tree of operations that ends in the answer.

    Args:
        kind: its structure.
        level: level of difficulty.
        question: the question in words.
        given: its numbers.
        plans: label of each plan and its last operation.
    """

    kind: str
    level: int
    question: str
    given: tuple[int, ...]
    plans: Mapping[str, Quantity] = field(hash=False)

    @property
    def answer(self) -> int:
        """The answer is the number that every plan ends in."""
        return next(iter(self.plans.values())).value

    @property
    def numbers(self) -> tuple[Any, ...]:
        """Kind and numbers."""
        return (self.kind, *self.given)

    @property
    def metadata(self) -> dict[str, Any]:
        """Strata of reports."""
        return {"level": self.level, "kind": self.kind}

    def solutions(self) -> dict[str, str]:
        """Every correct completion, mapped to its path: a plan and a voice."""
        found: dict[str, str] = {}
        for plan, goal in self.plans.items():
            for voice, write in VOICES.items():
                found.setdefault(f"{write(goal)}\nThe answer is: {self.answer}", f"{plan}/{voice}")
        return found


def reworded(random: Random) -> RewordedProblem:
    """The first family's first level with new names and verbs."""
    return _ask_anew(random, sample_problem(random, 1))


def enlarged(random: Random) -> RewordedProblem:
    """The same with other containers and larger numbers."""
    group = Summand(random.choice(CONTAINERS), random.randint(2, 12), random.randint(2, 9))
    rest = Summand(REST, random.randint(2, 60))
    return _ask_anew(random, WordProblem(random.choice(NEW_NAMES), random.choice(ITEMS), (group, rest), 2))


def _ask_anew(random: Random, drawn: WordProblem) -> RewordedProblem:
    group, rest = drawn.summands
    question = (
        f"{random.choice(NEW_NAMES)} {random.choice(NEW_VERBS)} {group.count} {group.container} of {group.size} and "
        f"{rest.size} more {drawn.item}. How many {drawn.item}?"
    )
    return RewordedProblem(drawn, question, drawn.level)


def comparison(random: Random) -> PlannedProblem:
    """Two people, one of whom has some more or fewer than the other."""
    first, second = random.sample(NEW_NAMES, 2)
    item, container = random.choice((*ITEMS, *NEW_ITEMS)), random.choice((*CONTAINERS, *NEW_CONTAINERS))
    count, size, change = random.randint(2, 9), random.randint(3, 12), random.randint(2, 20)
    more = change >= count * size or random.random() < 0.5
    sign, word = ("+", "more") if more else ("-", "fewer")
    question = (
        f"{first} has {count} {container} of {size} {item}. {second} has {change} {word} than {first}. "
        f"How many {item} have both?"
    )
    own = Quantity(first, count, "*", size)
    other = Quantity(second, own, sign, change)  # type: ignore[arg-type]
    double = Quantity("double", own, "*", 2)
    groups = Quantity(container, count, "*", 2)
    plans = {
        "apart": Quantity("both", own, "+", other),
        "double": Quantity("both", double, sign, change),  # type: ignore[arg-type]
        "groups": Quantity("both", Quantity("equal", groups, "*", size), sign, change),  # type: ignore[arg-type]
    }
    return PlannedProblem("comparison", 3, question, (count, size, change if more else -change), plans)


def rate(random: Random) -> PlannedProblem:
    """Two people who work at rates of their own."""
    first, second = random.sample(NEW_NAMES, 2)
    item = random.choice((*ITEMS, *NEW_ITEMS))
    speed, hours, times, other = (random.randint(low, high) for low, high in ((2, 9), (2, 6), (2, 5), (2, 12)))
    made, total = speed * hours, hours * times
    question = (
        f"{first} makes {made} {item} in {hours} hours and {second} makes {other} an hour. "
        f"How many {item} do both make in {total} hours?"
    )
    hourly = Quantity("rate", made, "/", hours)
    helper = Quantity(second, other, "*", total)
    plans = {
        "apart": Quantity("both", Quantity(first, hourly, "*", total), "+", helper),
        "joint": Quantity("both", Quantity("speed", hourly, "+", other), "*", total),
        "scale": Quantity("both", Quantity(first, Quantity("rounds", total, "/", hours), "*", made), "+", helper),
    }
    return PlannedProblem("rate", 4, question, (made, hours, other, total), plans)


def age(random: Random) -> PlannedProblem:
    """Two ages from their ratio and their sum in some years."""
    first, second = random.sample(NEW_NAMES, 2)
    ratio, young, years = random.randint(2, 6), random.randint(3, 20), random.randint(2, 15)
    later = (ratio + 1) * young + 2 * years
    question = (
        f"{first} is {ratio} times as old as {second}. In {years} years they will be {later} years old together. "
        f"How old is {first}?"
    )
    gain = Quantity("gain", years, "*", 2)
    now = Quantity("now", later, "-", gain)
    stepwise = Quantity("now", Quantity("midway", later, "-", years), "-", years)
    parts = Quantity("parts", ratio, "+", 1)
    plans = {
        "multiply": Quantity(first, Quantity(second, now, "/", parts), "*", ratio),
        "subtract": Quantity(first, now, "-", Quantity(second, now, "/", parts)),
        "singly": Quantity(first, Quantity(second, stepwise, "/", parts), "*", ratio),
    }
    return PlannedProblem("age", 5, question, (ratio, years, later), plans)


FAMILY: Mapping[int, Callable[[Random], GeneratedProblem]] = {
    1: reworded,
    2: enlarged,
    3: comparison,
    4: rate,
    5: age,
}
"""The structure of each level; only the first two are solved by what the first family teaches."""
