"""Words of prompts that ask a language model for incentives, and the grammar by which its answers are read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

NUMBER = r"[-+]?\d+(?:\.\d+)?"
_RUN = re.compile(rf"(?<![\d.]){NUMBER}(?:\s*[,;]\s*{NUMBER}|\s+{NUMBER})*")
NO_NUMBERS, WRONG_COUNT, OUT_OF_RANGE = "no numbers", "wrong number of numbers", "out of range"
FAILURES = (NO_NUMBERS, WRONG_COUNT, OUT_OF_RANGE)


class UnusableAnswer(ValueError):
    """An answer that the grammar cannot read; the message is one of ``FAILURES``."""


def written_number(value: float) -> str:
    """A number as prompts show it: at most two decimals, none where it is whole."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def incentive_prompt(
    rules: str,
    context: str,
    names: Sequence[str],
    bounds: tuple[float, float],
    history: Sequence[tuple[Sequence[float], float, Mapping[str, float]]],
) -> str:
    """What a language model reads before it decides.

    Args:
        rules: the game.
        context: what is known of the next round; empty if all rounds are alike.
        names: of the incentives, in the order of the answer.
        bounds: smallest and largest incentive.
        history: earlier rounds of this context: incentives, social welfare, and figures of the world by name.
    """
    low, high = map(written_number, bounds)
    lines = [rules, "New agents learn in every round. Make their total reward as high as possible; paying is free."]
    if context:
        lines.append(f"Active: {context}.")
    lines.append(f"Answer with {len(names)} numbers from {low} to {high}: [{', '.join(names)}].")
    if history:
        lines.append("Earlier answers:")
        lines += [history_line(*entry) for entry in history]
    return "\n".join(lines)


def history_line(incentives: Sequence[float], welfare: float, facts: Mapping[str, float]) -> str:
    """One earlier round."""
    told = "".join(f", {name} {written_number(round(value, 1))}" for name, value in facts.items())
    return f"[{', '.join(map(written_number, incentives))}] -> reward {written_number(round(welfare))}{told}"


def read_incentives(text: str, names: Sequence[str], bounds: tuple[float, float]) -> tuple[float, ...]:
    """The K incentives that an answer gives; nothing of it is ever evaluated as code.

        answer  = digits | any text with one of: labelled, list
        digits  = K digits and nothing else, one for each incentive
        labelled = every name once or more, each followed by a number:  lever 1: 0, lever 2 = 5, …
        list    = K numbers between commas, semicolons or spaces:       [0, 5, 0, 0, 0]

    The first list of K numbers counts, before labels; brackets are not needed.

    Args:
        text: what a model wrote.
        names: of the incentives.
        bounds: smallest and largest incentive.

    Raises:
        UnusableAnswer: there is no number, no list of K numbers, or one of them is out of bounds.
    """
    stripped = text.strip()
    if len(names) > 1 and re.fullmatch(rf"[0-9]{{{len(names)}}}", stripped):
        return within([float(digit) for digit in stripped], bounds)
    runs = [re.findall(NUMBER, run) for run in _RUN.findall(text)]
    if not runs:
        raise UnusableAnswer(NO_NUMBERS)
    for run in runs:
        if len(run) == len(names):
            return within([float(number) for number in run], bounds)
    labels = [re.search(rf"{re.escape(name)}\W{{1,4}}?({NUMBER})", text, re.IGNORECASE) for name in names]
    if all(labels):
        return within([float(found[1]) for found in labels if found], bounds)
    raise UnusableAnswer(WRONG_COUNT)


def within(values: Sequence[float], bounds: tuple[float, float]) -> tuple[float, ...]:
    """The values, if all are within the bounds.

    Raises:
        UnusableAnswer: one is not.
    """
    if not all(bounds[0] <= value <= bounds[1] for value in values):
        raise UnusableAnswer(OUT_OF_RANGE)
    return tuple(values)
