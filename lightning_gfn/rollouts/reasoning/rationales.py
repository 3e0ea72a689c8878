"""Completions as a rationale and an answer, and rationales changed on purpose."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from lightning_gfn.answers import answer_place
from lightning_gfn.answers.steps import split_steps
from lightning_gfn.types import AnswerStyle

Perturbation = Literal["truncated", "corrupted", "swapped"]

_NUMBER = re.compile(r"\d+")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=\S)")
_WORD = re.compile(r"(?<=\S)\s+(?=\S)")


@dataclass(frozen=True)
class Reasoned:
    """A completion in parts.

    Args:
        rationale: what stands before the answer is announced, without the blanks at its end.
        cue: what follows it up to the answer, without the blanks at its end: a model goes on with the answer.
        answer: the answer.
    """

    rationale: str
    cue: str
    answer: str


def reasoned(completion: str, style: AnswerStyle) -> Reasoned | None:
    """A completion as rationale, cue and answer; None if it has no answer, or nothing before it.

    The cue begins with the words that announce the answer (``####``, ``The answer is:``, a match of a pattern of one's
    own), or with their line if that holds no digits before them.

    Args:
        completion: its text.
        style: how it writes its answer.
    """
    place = answer_place(completion, style)
    if place is None:
        return None
    line = completion.rfind("\n", 0, place.marker) + 1
    begin = place.marker if _NUMBER.search(completion, line, place.marker) else line
    rationale = completion[:begin].rstrip()
    if not rationale.strip():
        return None
    return Reasoned(rationale, completion[len(rationale) : place.start].rstrip(" \t"), place.answer)


def units(rationale: str) -> list[str]:
    """The steps of a rationale: its lines if there are several, else its sentences, else its words."""
    lines = split_steps(rationale)
    for pattern in (_SENTENCE, _WORD):
        if len(lines) > 1:
            break
        cuts = [0, *(match.end() for match in pattern.finditer(rationale)), len(rationale)]
        lines = [rationale[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]
    return lines


def truncated(rationale: str, other: str, uniform: float) -> str:
    """The first half of the steps, rounded down: of a single one nothing."""
    steps = units(rationale)
    return "".join(steps[: len(steps) // 2]).rstrip()


def corrupted(rationale: str, other: str, uniform: float) -> str | None:
    """The rationale with another last number: 1 to 9 more, by the uniform; None if it has no number."""
    found = list(_NUMBER.finditer(rationale))
    if not found:
        return None
    last = found[-1]
    return f"{rationale[: last.start()]}{int(last[0]) + 1 + int(9 * uniform)}{rationale[last.end() :]}"


def swapped(rationale: str, other: str, uniform: float) -> str:
    """The rationale of another problem."""
    return other


PERTURBATIONS: Mapping[Perturbation, Callable[[str, str, float], str | None]] = {
    "truncated": truncated,
    "corrupted": corrupted,
    "swapped": swapped,
}
"""Each makes another rationale from a rationale, that of another problem, and a uniform in [0, 1)."""
