r"""Numbers as answers write them: with currency, unit, percent sign or words around, and how two of them compare."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from lightning_gfn.answers.notation.expressions import DECIMAL, SCIENTIFIC, exact_value
from lightning_gfn.answers.notation.number_words import in_digits
from lightning_gfn.answers.notation.units import CURRENCIES, CURRENCY_SIGNS, UNITS, Unit, known_unit

MIN_ROUNDED_DIGITS = 6
"""A decimal stands for a value that no decimal equals only if it shows at least so many correct digits."""

_SIGNS = "|".join(map(re.escape, CURRENCY_SIGNS))
_LEADING_SIGN = re.compile(rf"([-+]?)\s*({_SIGNS})\s*(?=[-+0-9.\\(])")
_NUMBER_END = r"(?:[0-9)}!]|(?<=[0-9])\.|\\pi|\\infty)"
_TAIL = re.compile(
    rf"(?P<number>.*?{_NUMBER_END})(?P<gap>[\s-]*)"
    r"(?P<tail>(?:[A-Za-z%€£¥¢₹$(]|\^\{\\circ\}|\\frac\{[A-Za-z])(?:[^0-9]|(?<=[\^{])[23](?![0-9]))*)"
)
_LEAD = re.compile(r"(?P<lead>(?:[A-Za-z][A-Za-z,' ]*?)?[A-Za-z']{2,})(?:\s*:\s*|\s+)(?=-?[$€£¥₹]?\s?-?[0-9.])")
_WORD_FRACTION = re.compile(r"\\frac\{\s*([A-Za-z ]+?)\s*\}\{\s*([A-Za-z ]+?)\s*\}")
_PERCENT = re.compile(r"\s*(?:%|percent(?:age points?)?|per cent|pct)(?![A-Za-z])", re.IGNORECASE)
_AND_FRACTION = re.compile(r"(?<=[0-9]) and (?:an? )?(?=[0-9]+/[0-9])")
_AND_PART = re.compile(r"(?<=[0-9]) and (?:an?|one)[ -](half|third|quarter|fourth|fifth)(?![A-Za-z])", re.IGNORECASE)
_OUT_OF = re.compile(r"^([0-9]+) (?:out of|in) ([0-9]+)$")
_COMPOUND = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\.?(?:,?\s+(?:and\s+)?|$)")
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_PARTS = {
    "half": 2, "quarter": 4, "halves": 2, "third": 3, "thirds": 3, "fourth": 4, "fourths": 4, "fifth": 5, "fifths": 5,
    "sixth": 6, "sixths": 6, "seventh": 7, "sevenths": 7, "eighth": 8, "eighths": 8, "ninth": 9, "ninths": 9,
    "tenth": 10, "tenths": 10, "hundredths": 100, "thousandths": 1000,
}  # fmt: skip
_SINGLE_LETTER_UNITS = frozenset("mgshlL")
_OPERATIONS = frozenset([
    "or", "not", "no", "nor", "isn't", "neither", "minus", "plus", "divided", "multiplied", "squared", "cubed",
    "factorial", "mod", "modulo", "choose", "root", "maybe", "perhaps", "either", "versus", "vs", "base", "half",
    "quarter",
])  # fmt: skip
"""Words behind a number that make another number, or none, of it."""
_HARMLESS = frozenset([
    "a", "about", "age", "all", "altogether", "amount", "an", "answer", "approximately", "are", "area", "around",
    "average", "be", "been", "cost", "costs", "distance", "earn", "earned", "earns", "equals", "exactly", "final",
    "from", "get", "gets", "gives", "had", "has", "have", "he", "her", "here's", "his", "i've", "in", "is", "it",
    "it's", "just", "lasts", "leaves", "length", "made", "makes", "mean", "nearly", "need", "needs", "now",
    "number", "of", "on", "only", "paid", "pays", "price", "probability", "profit", "read", "reads", "received",
    "receives", "result", "result's", "roughly", "save", "saved", "saves", "she", "so", "solution", "speed",
    "spend", "spends", "spent", "sum", "take", "takes", "that", "that's", "the", "their", "then", "there",
    "there's", "therefore", "they", "this", "time", "to", "total", "us", "usd", "value", "volume", "was", "we",
    "we've", "weighs", "were", "will", "with", "you",
])  # fmt: skip
"""Words in front of a number that leave it as it is."""


@dataclass(frozen=True)
class Quantity:
    """A number as it is written in an answer.

    Args:
        number: the text of the number alone.
        value: its exact value; None if it is not rational or not plain arithmetic.
        percent: a percent sign stands behind it.
        unit: its unit, if that is one of the known ones.
        wordy: words or signs stand around the number.
    """

    number: str
    value: Fraction | None
    percent: bool = False
    unit: Unit | None = None
    wordy: bool = False

    @property
    def is_dozen(self) -> bool:
        """Its unit only counts."""
        return self.unit is not None and self.unit.dimension == "count"

    @property
    def pieces(self) -> Fraction:
        """How many single things one of it is."""
        return self.unit.factor if self.unit is not None and self.is_dozen else Fraction(1)


def read_quantity(text: str) -> Quantity | None:
    r"""The quantity that an answer states: ``45 dollars``, ``$1,200``, ``50\%``, ``about 3.5 km/h``, ``2\sqrt{3}`` cm.

    Args:
        text: a tidy answer.

    Returns:
        The quantity; None if the text is no single number, with or without words around it.
    """
    text = _AND_FRACTION.sub(" ", _WORD_FRACTION.sub(r" \1/\2", text))
    text = text.replace("U.S.", "US")
    text = _OUT_OF.sub(r"\1/\2", text)
    text = _AND_PART.sub(lambda part: f" 1/{_PARTS[part[1].lower()]}", text)
    plain = exact_value(text)
    if plain is not None:
        return Quantity(text, plain)
    if not any(character.isdigit() for character in text):
        text = in_digits(text)
    lead = _LEAD.match(text)
    if lead is not None and not _is_harmless(lead):
        sign = _LEADING_SIGN.match(text)
        if sign is None:
            return None
        lead = None
    body = text[lead.end() :] if lead is not None else text
    compound = _compound(body)
    if compound is not None:
        return compound
    currency = _LEADING_SIGN.match(body)
    if currency is not None:
        body = currency[1] + body[currency.end() :]
    found = _with_tail(body)
    if found is None:
        return None
    if currency is not None:
        unit = UNITS[currency[2].lower()]
        named = found.unit
        if named is not None and named.dimension in CURRENCIES and named != unit:
            return None
        found = replace(found, unit=unit, wordy=True)
    return replace(found, wordy=found.wordy or lead is not None)


def _is_harmless(lead: re.Match[str]) -> bool:
    """The words in front of a number leave it as it is; a label with a colon may say anything but an operation."""
    words = set(re.findall(r"[a-z']+", lead["lead"].lower()))
    return words <= _HARMLESS or (":" in lead.group() and not words & _OPERATIONS)


def same_quantity(first: Quantity, second: Quantity) -> bool | None:
    """Whether two quantities are equal: exact values, converted where both name a unit.

    A percent sign may be left out or carried out (``50%`` is 50 and 0.5). A unit may be left out. Units that are known
    to differ make two numbers different, and those of one dimension are converted (``$0.45`` is ``45 cents``).

    Args:
        first: a quantity.
        second: another one.

    Returns:
        The verdict; None where a value is not exact, so that the numbers' texts must be compared.
    """
    if first.unit is not None and second.unit is not None:
        if first.unit.dimension != second.unit.dimension:
            return False
        if first.unit.factor != second.unit.factor:
            if first.value is None or second.value is None:
                return False
            return first.value * first.unit.factor == second.value * second.unit.factor
    if first.value is None or second.value is None:
        return None
    if first.is_dozen != second.is_dozen and first.value * first.pieces == second.value * second.pieces:
        return True
    if first.percent == second.percent:
        return first.value == second.value or _rounds(first, second) or _rounds(second, first)
    share, other = (first.value, second.value) if first.percent else (second.value, first.value)
    return other in (share, share / 100)


def written_digits(number: str) -> tuple[int, int] | None:
    """Decimals and significant digits of a decimal literal; None if the text is none or has no point."""
    found = re.fullmatch(rf"[-+]?(?:{DECIMAL})", number.strip())
    if found is None or "." not in number:
        return None
    digits = re.sub("[^0-9.]", "", number)
    return len(digits.partition(".")[2]), len(digits.replace(".", "").lstrip("0"))


def _rounds(decimal: Quantity, exact: Quantity) -> bool:
    """A long decimal for a fraction that has none of its own."""
    digits = written_digits(decimal.number)
    assert decimal.value is not None and exact.value is not None
    if digits is None or digits[1] < MIN_ROUNDED_DIGITS or _terminates(exact.value):
        return False
    return abs(decimal.value - exact.value) <= Fraction(1, 2 * 10 ** digits[0])


def _terminates(value: Fraction) -> bool:
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _compound(text: str) -> Quantity | None:
    """Several numbers of one dimension, the larger unit first: ``1 hour and 30 minutes``."""
    found, position = list[tuple[Fraction, Unit]](), 0
    while (match := _COMPOUND.match(text, position)) is not None:
        unit = known_unit(match[2])
        if unit is None or (found and (unit.dimension != found[-1][1].dimension or unit.factor >= found[-1][1].factor)):
            return None
        found.append((Fraction(match[1]), unit))
        position = match.end()
    if position < len(text) or len(found) < 2:
        return None
    total = sum((value * unit.factor for value, unit in found), Fraction(0))
    return Quantity(text, total, unit=replace(found[0][1], factor=Fraction(1)), wordy=True)


def _with_tail(text: str) -> Quantity | None:
    """A number and what stands behind it."""
    value = exact_value(text)
    if value is not None:
        return Quantity(text, value)
    match = _TAIL.fullmatch(text)
    if match is None or re.search(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", match["number"])):
        return None
    number, gap, tail = match["number"], match["gap"], match["tail"].strip()
    if re.fullmatch(SCIENTIFIC, text):
        return None
    value = exact_value(number)
    percent = _PERCENT.match(tail)
    if percent is not None:
        rest = tail[percent.end() :].strip(" .")
        return Quantity(number, value, percent=True, wordy=True) if _is_wordy(rest, " ") else None
    first, _, rest = tail.partition(" ")
    if value is not None and first.lower() in _SCALES:
        whole = Quantity(number, value * 10 ** _SCALES[first.lower()], wordy=True)
        return replace(whole, unit=known_unit(rest)) if _is_wordy(rest, " ") else None
    part = first.lower().strip(",.")
    if value is not None and value.denominator == 1 and part in _PARTS and re.match(r"(of\b|$)", rest):
        return Quantity(number, value / _PARTS[part], wordy=True)
    if not _is_wordy(tail, gap):
        return None
    return Quantity(number, value, unit=known_unit(tail), wordy=True)


def _is_wordy(tail: str, gap: str) -> bool:
    """The text behind a number is words or a unit, and does not change the number."""
    if not tail:
        return True
    unit = known_unit(tail)
    if tail[0] in "%€£¥¢₹$" or tail.startswith("^{\\circ}"):
        return re.search(r"[=<>*\\|]", tail.removeprefix("^{\\circ}")) is None
    if re.search(r"[=<>*\\|+]", tail) or (tail[0] == "(" and not tail.endswith(")")):
        return False
    words = re.findall(r"[A-Za-z']+", tail)
    if not words or _OPERATIONS & {word.lower() for word in words}:
        return False
    if len(words[0]) == 1 and words[0] not in _SINGLE_LETTER_UNITS and words[0].lower() != "a":
        return False
    if len(words) == 1 and len(words[0]) == 1:
        return words[0] in _SINGLE_LETTER_UNITS and unit is not None
    return bool(gap) or unit is not None or tail[0] == "("
