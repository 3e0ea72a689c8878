"""Equality of two final answers, as a teacher would judge it: exact rules first, math-verify in killable processes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache

from lightning_gfn.answers.checker import MathVerifyChecker
from lightning_gfn.answers.forms import Judge
from lightning_gfn.answers.normalisation import MAX_ANSWER_LENGTH, parse_number
from lightning_gfn.answers.notation.special_forms import read_choice
from lightning_gfn.answers.process import TimeLeft

_OPTION = re.compile(r"([A-E])\) *(.+)", re.DOTALL)
_PLAIN = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_CHECKER = MathVerifyChecker()


def is_equivalent(predicted: str | None, reference: str | None) -> bool:
    r"""Whether a predicted answer equals the reference answer.

    ``None`` and the empty text equal nothing, each other included. Markdown, math delimiters, layout and Unicode forms
    do not matter. Numbers are compared exactly, so tiny ones differ; a decimal stands for a fraction that has none of
    its own only if it shows six or more digits of it. Words, units and currency around a number may be left out, but
    two known units that differ make a difference, and those of one dimension are converted. ``50%`` is 50 and 0.5.
    ``1 000`` is a grouped number, ``1,2,3`` and ``2, 100`` are lists. ``101_2`` is five. Lists and sets are equal in
    any order, tuples, intervals and matrices in the same one. An equation of numbers (``2 + 3 = 5``) is right only if
    it is true. Words are compared without regard to case. What is left is math-verify's to decide, in a process that
    is killed when the time of the answer is over (2 s, however many parts it has; it is wrong then). A reference
    ``B) 27`` is an option of a multiple-choice question: ``B``, ``(B)``, ``B) 27`` and ``27`` equal it; a letter
    decides, whatever stands behind it. Verdicts are cached.

    Args:
        predicted: the answer extracted from a completion, or None.
        reference: the right answer, or None if unknown.

    Returns:
        The verdict.

    Raises:
        RuntimeError: if math-verify is needed and its process cannot start.
    """
    compared = _compare(predicted, reference)
    return compared if isinstance(compared, bool) else compared.verdict()


def are_equivalent(pairs: Sequence[tuple[str | None, str | None]]) -> list[bool]:
    """Whether the two answers of each pair are equal, as ``is_equivalent`` says; hard pairs are checked side by side.

    What no rule decides goes to several math-verify processes, so that a pair that takes long holds up no other.

    Args:
        pairs: predicted answer and reference, each a text or None.

    Returns:
        One verdict a pair, in their order.

    Raises:
        RuntimeError: if math-verify is needed and its process cannot start.
    """
    compared = [_compare(predicted, reference) for predicted, reference in pairs]
    open_ones = {id(one): one for one in compared if isinstance(one, _Comparison) and one.by_rules() is None}
    num_threads = min(len(open_ones), _CHECKER.num_workers)
    if num_threads > 1:
        with ThreadPoolExecutor(num_threads, thread_name_prefix="answers") as threads:
            list(threads.map(_Comparison.verdict, open_ones.values()))
    return [one if isinstance(one, bool) else one.verdict() for one in compared]


def checker_counters() -> dict[str, int]:
    """Checks, timeouts, crashes, errors and oversized answers of this process so far; cached verdicts do not count."""
    return asdict(_CHECKER.counters)


def _compare(predicted: str | None, reference: str | None) -> bool | _Comparison:
    """The verdict on a pair that needs no thought, else what is known of it."""
    if predicted is None or reference is None:
        return False
    predicted, reference = predicted.strip(), reference.strip()
    if not predicted or not reference:
        return False
    if predicted == reference:
        return True
    if _PLAIN.fullmatch(predicted) and _PLAIN.fullmatch(reference):
        return parse_number(predicted) == parse_number(reference)
    if max(len(predicted), len(reference)) > MAX_ANSWER_LENGTH:
        _CHECKER.counters.oversized += 1
        return False
    option = _OPTION.fullmatch(reference)
    if option is not None:
        chosen = read_choice(predicted)
        return chosen == option[1] if chosen is not None else _compare(predicted, option[2])
    return _comparison(predicted, reference)


class _Undecided(Exception):
    """No rule decides on a pair."""


class _Comparison:
    """What is known of one pair of answers: its verdict, or that the rules give none."""

    def __init__(self, predicted: str, reference: str) -> None:
        self.predicted, self.reference = predicted, reference
        self._verdict: bool | None = None
        self._undecided = False

    def by_rules(self) -> bool | None:
        """The verdict if no process is needed for it, or if it is known; else None."""
        if self._verdict is None and not self._undecided:
            try:
                self._verdict = Judge(_postpone).same_answers(self.predicted, self.reference)
            except _Undecided:
                self._undecided = True
        return self._verdict

    def verdict(self) -> bool:
        """The verdict, by math-verify where no rule gives one."""
        if self._verdict is None:
            time_left = TimeLeft(_CHECKER.time_limit)
            judge = Judge(lambda first, second: _CHECKER.verify(first, second, time_left))
            self._verdict = judge.same_answers(self.predicted, self.reference)
        return self._verdict


def _postpone(predicted: str, reference: str) -> bool:
    raise _Undecided


_comparison = lru_cache(maxsize=16384)(_Comparison)
