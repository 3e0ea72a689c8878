"""Equality of two final answers: text and exact numbers first, math-verify in a killable process for the rest."""

from __future__ import annotations

import re
from dataclasses import asdict
from functools import lru_cache

from lightning_gfn.answers.checker import MathVerifyChecker
from lightning_gfn.answers.normalisation import MAX_ANSWER_LENGTH, canonical_answer, normalise, parse_number

ROUNDED_TOLERANCE = 1e-5
"""A decimal may stand for a fraction only if they differ by less; math-verify then compares six decimals."""

_BRACE = re.compile(r"[{}]")
_LETTER = re.compile(r"[A-Za-z]")
_OPTION = re.compile(r"([A-E])\) *(.+)")
_CHOICE = re.compile(r"\(?([A-E])(?:\)|[.:]?$)")
_CHECKER = MathVerifyChecker()


def is_equivalent(predicted: str | None, reference: str | None) -> bool:
    """Whether a predicted answer equals the reference answer.

    The same text, the same canonical form, or else the verdict of math-verify, in a process that is killed at its time
    limit (2 s; the answer is wrong then). ``None`` and the empty text equal nothing, each other included. An equation
    of numbers (``2 + 3 = 5``) is right only if every side is. A reference ``B) 27`` is an option of a multiple-choice
    question: ``B``, ``(B)``, ``B) 27`` and ``27`` equal it; a letter decides, whatever stands behind it. Verdicts are
    cached.

    Args:
        predicted: the answer extracted from a completion, or None.
        reference: the right answer, or None if unknown.

    Returns:
        The verdict.

    Raises:
        RuntimeError: if math-verify is needed and its process cannot start.
    """
    if predicted is None or reference is None:
        return False
    predicted, reference = predicted.strip(), reference.strip()
    if not predicted or not reference:
        return False
    if predicted == reference:
        return True
    if max(len(predicted), len(reference)) > MAX_ANSWER_LENGTH:
        _CHECKER.counters.oversized += 1
        return False
    option = _OPTION.fullmatch(reference)
    if option is not None:
        chosen = _CHOICE.match(predicted)
        return chosen[1] == option[1] if chosen is not None else is_equivalent(predicted, option[2])
    return _compare(predicted, reference)


def checker_counters() -> dict[str, int]:
    """Checks, timeouts, crashes, errors and oversized answers of this process so far; cached verdicts do not count."""
    return asdict(_CHECKER.counters)


@lru_cache(maxsize=16384)
def _compare(predicted: str, reference: str) -> bool:
    first, second = normalise(predicted), normalise(reference)
    if not first or not second:
        return False
    if canonical_answer(predicted) == canonical_answer(reference):
        return True
    if not (_balanced(first) and _balanced(second)):
        return False
    if "%" not in predicted + reference and _differ_as_numbers(first, second):
        return False
    sides = first.split("=")
    if len(sides) > 1 and "=" not in second and not _LETTER.search("".join(sides[:-1])):
        return all(is_equivalent(side, reference) for side in sides)
    return _CHECKER.verify(_undollar(predicted), _undollar(reference))


def _differ_as_numbers(first: str, second: str) -> bool:
    """Two plain numbers that no rounding of a fraction can make equal: most wrong answers end here, at no cost."""
    first_value, second_value = parse_number(first), parse_number(second)
    if first_value is None or second_value is None:
        return False
    rounded = any("." in text for text in (first, second)) and any(
        re.search("/|frac", text) for text in (first, second)
    )
    return not rounded or abs(first_value - second_value) > ROUNDED_TOLERANCE


def _balanced(text: str) -> bool:
    """Braces close in order: an answer must not break out of the braces that it is parsed in."""
    depth = 0
    for brace in _BRACE.finditer(text):
        depth += 1 if brace.group() == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def _undollar(text: str) -> str:
    return text.replace("\\$", "").replace("$", "")
