r"""The rules by which two answers are equal, tried from the cheapest form to the dearest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from lightning_gfn.answers.equations import equation_is_true
from lightning_gfn.answers.normalisation import normalise
from lightning_gfn.answers.notation.expressions import exact_value
from lightning_gfn.answers.notation.inequalities import read_inequality, without_points
from lightning_gfn.answers.notation.plain_text import tidy
from lightning_gfn.answers.notation.quantities import read_quantity, same_quantity
from lightning_gfn.answers.notation.special_forms import (
    read_based,
    read_choice,
    read_clock,
    read_ratio,
    same_clock,
    same_ratio,
)
from lightning_gfn.answers.notation.structures import Structure, read_structure, same_structure, with_both_signs

MAX_DEPTH = 6
"""Structures within structures that are looked into."""

_BRACE = re.compile(r"(?<!\\)[{}]")
_PREFIX = re.compile(
    r"(?:(?:so|thus|therefore|hence),?\s+)?(?:the\s+)?(?:final\s+)?"
    r"(?:answer|result|solution)\s*(?:is|=|:)+\s*:?\s*|\\approx\s*",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"(?<![<>!=\\])=|\\approx(?![A-Za-z])")
_NAME = re.compile(
    r"[A-Za-z]+'?(?:_\{?\w+\}?)?(?:\([A-Za-z](?:,\s*[A-Za-z])*\))?|\\[a-z]+|\([A-Za-z](?:,\s*[A-Za-z])+\)"
)
_MEMBER = re.compile(r"([A-Za-z])\s*\\in(?![A-Za-z])\s*")
_WORD = re.compile(
    r"(?<![A-Za-z\\])"
    r"(?:(?![abcxyzpqr]{3}(?![A-Za-z]))[A-Za-z]{3,}|no|or|on|is|am|pm|of|so|us|if|in|it|at|to)"
    r"(?![A-Za-z(])",
    re.IGNORECASE,
)
_FUNCTIONS = re.compile(
    r"\\[A-Za-z]+|(?<![A-Za-z])(?:a?(?:sin|cos|tan)h?|arc(?:sin|cos|tan)|sec|csc|cot|log|exp|max|min|gcd|lcm|mod)"
    r"(?![A-Za-z])"
)
_SYNONYMS = {
    "all real numbers": "\\mathbb{R}",
    "all reals": "\\mathbb{R}",
    "real numbers": "\\mathbb{R}",
    "the set of all real numbers": "\\mathbb{R}",
    "all real x": "\\mathbb{R}",
    "empty set": "\\emptyset",
    "the empty set": "\\emptyset",
    "dne": "does not exist",
    "no solutions": "no solution",
    "there is no solution": "no solution",
    "there are no solutions": "no solution",
    "positive infinity": "\\infty",
    "+\\infty": "\\infty",
    "negative infinity": "-\\infty",
}


@dataclass(frozen=True)
class Judge:
    """Decides whether two answers are equal.

    Args:
        verify: asked about pairs that no rule decides, predicted first.
        depth: structures that the two answers stand in.
    """

    verify: Callable[[str, str], bool]
    depth: int = 0

    def same_answers(self, predicted: str, reference: str) -> bool:
        """Whether two answers as they are written are equal.

        Args:
            predicted: the answer of a model.
            reference: the right answer.
        """
        return self.same(_bare(predicted), _bare(reference))

    def same(self, predicted: str, reference: str) -> bool:
        """Whether two tidy answers are equal."""
        if not predicted or not reference or self.depth > MAX_DEPTH:
            return False
        if _same_text(predicted, reference):
            return True
        if not (_balanced(predicted) and _balanced(reference)):
            return False
        unknowns = {found[0] for text in (predicted, reference) if (found := read_inequality(text)) is not None}
        if len(unknowns - {""}) > 1:
            return False
        stripped = _without_names(predicted, reference)
        if stripped is None:
            return False
        if stripped != (predicted, reference):
            return self.same(*stripped)
        for rule in (self._special, self._quantities, self._chains, self._structures):
            verdict = rule(predicted, reference)
            if verdict is not None:
                return verdict
        if _is_wordy(predicted) or _is_wordy(reference):
            return False
        return self.verify(predicted, reference)

    def _special(self, predicted: str, reference: str) -> bool | None:
        """Choices, bases, times of day and ratios."""
        if re.fullmatch("[A-Za-z]", predicted) and re.fullmatch("[A-Za-z]", reference):
            return False
        choice = read_choice(reference)
        if choice is not None:
            found = read_choice(predicted)
            return found == choice if found is not None else None
        based, other = read_based(predicted), read_based(reference)
        if based is not None and other is not None:
            return based == other
        if based is not None:
            return exact_value(reference) == based[0]
        if other is not None:
            return False
        clocks = read_clock(predicted), read_clock(reference)
        if clocks[0] is not None and clocks[1] is not None:
            return same_clock(clocks[0], clocks[1])
        ratios = read_ratio(predicted), read_ratio(reference)
        if ratios[0] is not None and ratios[1] is not None:
            return same_ratio(ratios[0], ratios[1])
        for ratio, text in ((ratios[0], reference), (ratios[1], predicted)):
            if ratio is not None and len(ratio) == 2:
                return "/" in text.replace("\\frac", "/") and exact_value(text) == ratio[0] / ratio[1]
        return None

    def _quantities(self, predicted: str, reference: str) -> bool | None:
        first, second = read_quantity(predicted), read_quantity(reference)
        if first is None or second is None:
            one = first if first is not None else second
            if one is None or not one.wordy or one.percent:
                return None
            rest, other = (one.number, reference) if first is not None else (predicted, one.number)
            return None if _is_wordy(other) or _is_wordy(rest) else self._deeper().same(rest, other)
        verdict = same_quantity(first, second)
        if verdict is None and (first.wordy or second.wordy):
            return self._deeper().same(first.number, second.number)
        return verdict

    def _chains(self, predicted: str, reference: str) -> bool | None:
        """``a = b = c`` against something that is no equation."""
        sides, others = _sides(predicted), _sides(reference)
        if len(sides) == len(others) == 1 or min(len(sides), len(others)) > 1 or _is_list(predicted + reference):
            return None
        chain, single, turned = (sides, others[0], False) if len(sides) > 1 else (others, sides[0], True)
        if any(_NAME.fullmatch(side) or re.search(r"(?<![\\A-Za-z])[a-df-z](?![A-Za-z])", side) for side in chain):
            return None
        ordered = (lambda side: (single, side)) if turned else (lambda side: (side, single))
        if all(exact_value(side) is not None for side in chain):
            true = bool(equation_is_true("=".join(chain)))
            return true and any(self._deeper().same(*ordered(side)) for side in chain)
        return all(self._deeper().same(*ordered(side)) for side in chain)

    def _structures(self, predicted: str, reference: str) -> bool | None:
        first, second = _structure(predicted), _structure(reference)
        if first is None and second is None:
            return None
        if first is None or second is None:
            one, text = (first, reference) if first is not None else (second, predicted)
            assert one is not None
            if one.kind == "set" and len(one.parts) == 1:
                pair = (one.parts[0], text) if first is not None else (text, one.parts[0])
                return self._deeper().same(*pair)
            plain = one.kind in ("list", "set", "pair") or read_quantity(text) is not None
            return False if plain and not _EQUALS.search(text) else None
        first, second = _named_parts(first, second), _named_parts(second, first)
        if same_structure(first, second, self._deeper().same):
            return True
        return None if "union" in (first.kind, second.kind) else False

    def _deeper(self) -> Judge:
        return replace(self, depth=self.depth + 1)


def _bare(answer: str) -> str:
    """A tidy answer without the words that announce it."""
    text = tidy(answer)
    text = tidy(_PREFIX.sub("", text, count=1)) if _PREFIX.match(text) else text
    if not re.search(r"[^\W_]|\\[{}]", text):
        return ""
    return _SYNONYMS.get(text.lower(), text)


def _same_text(first: str, second: str) -> bool:
    one, other = normalise(first), normalise(second)
    if one == other:
        return True
    return one.lower() == other.lower() and _is_wordy(first) and _is_wordy(second)


def _is_wordy(text: str) -> bool:
    """Words stand in it that are no mathematics."""
    return _WORD.search(_FUNCTIONS.sub(" ", text)) is not None


def _balanced(text: str) -> bool:
    """Braces close in order: an answer must not break out of the braces that it is parsed in."""
    depth = 0
    for brace in _BRACE.finditer(text):
        depth += 1 if brace.group() == "{" else -1
        if depth < 0:
            return False
    return depth == 0


def _sides(text: str) -> list[str]:
    return [side.strip() for side in _EQUALS.split(text)]


def _is_list(text: str) -> bool:
    return any(sign in text for sign in (",", ";")) and exact_value(text) is None


def _named(text: str) -> tuple[str, str] | None:
    r"""Name and value of ``x = 5``, ``5 = x``, ``f(x) = x^2``, ``x \in (0,1)``; None for anything else."""
    member = _MEMBER.match(text)
    if member is not None:
        return member[1], text[member.end() :]
    sides = _sides(text)
    if len(sides) < 2 or not all(sides):
        return None
    if _NAME.fullmatch(sides[0]) and (len(sides) == 2 or not _is_list(text)):
        first = _EQUALS.search(text)
        assert first is not None
        return sides[0], text[first.end() :].strip()
    if len(sides) == 2 and _NAME.fullmatch(sides[1]) and re.search(r"[A-Za-z]", sides[0]) is None:
        return sides[1], sides[0]
    return None


def _without_names(predicted: str, reference: str) -> tuple[str, str] | None:
    """Both answers without the name of what they are equal to; None if the names say that they differ."""
    first, second = _named(predicted), _named(reference)
    if first is not None and second is not None:
        if normalise(first[0]) == normalise(second[0]):
            return first[1], second[1]
        letters = re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", first[1] + second[1]))
        return (predicted, reference) if letters else None
    if first is not None and not _EQUALS.search(reference):
        return first[1], reference
    if second is not None and not _EQUALS.search(predicted):
        return predicted, second[1]
    return predicted, reference


def _structure(text: str) -> Structure | None:
    """The parts of an answer; an inequality stands for the interval that it describes."""
    inequality = read_inequality(text)
    if inequality is not None:
        return read_structure(inequality[1])
    both = with_both_signs(text) if not text.startswith(("(", "[")) else None
    if both is not None:
        return Structure("list", both)
    found = read_structure(without_points(text))
    if found is not None and found.kind == "list" and read_quantity(text) is not None:
        return None
    if found is not None and found.kind == "list" and re.search(r"(?<![A-Za-z])or(?![A-Za-z])", text):
        intervals = [read_inequality(part) for part in found.parts]
        if all(interval is not None for interval in intervals):
            return Structure("union", tuple(interval[1] for interval in intervals if interval is not None))
    return found


def _named_parts(structure: Structure, other: Structure) -> Structure:
    """The values of ``x=1, x=2`` as a list, those of ``x=1, y=2`` as a tuple where the other answer is one."""
    if structure.kind not in ("list", "set"):
        return structure
    named = [_named(part) for part in structure.parts]
    pairs = [pair for pair in named if pair is not None]
    if not pairs or len(pairs) < len(named):
        return structure
    names = [name for name, _ in pairs]
    if len(set(names)) == 1:
        return replace(structure, parts=tuple(value for _, value in pairs))
    if other.kind == "pair":
        return Structure("pair", tuple(value for _, value in sorted(pairs)), "()")
    return structure
