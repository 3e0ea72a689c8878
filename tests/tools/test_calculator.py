"""The calculator against values known from how expressions were made; whatever is no expression writes nothing."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from lightning_gfn.tools import calculator
from lightning_gfn.tools.calculator import Calculator

WHOLE = Calculator(operands=None, before="")


def made(random: Random, depth: int) -> tuple[str, int, int]:
    """A random expression, its value, and how tightly it binds: 0 sum, 1 product, 2 factor."""
    if depth == 0:
        number = random.randrange(100)
        return str(number), number, 2
    left, a, left_binds = made(random, depth - 1)
    right, b, right_binds = made(random, random.randrange(depth))
    sign = random.choice("+-*")
    binds = 1 if sign == "*" else 0
    left = left if left_binds >= binds else f"({left})"
    right = right if right_binds > binds else f"({right})"
    return f"{left} {sign} {right}", {"+": a + b, "-": a - b, "*": a * b}[sign], binds


def test_whole_expressions_have_the_values_that_they_were_made_with() -> None:
    random = Random(0)
    for _ in range(500):
        text, value, _ = made(random, random.randrange(1, 4))
        assert Calculator(operands=None, before="", max_characters=500).call(f"so {text} =") == str(value)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (" 6 - 0 =", " 6"), ("= 6, 6 - 4 =", " 2"), ("3 - 6 - 4 =", " 2"), (" -6 - 4 =", " -10"), ("6 - -4=", " 10"),
        ("1 + -2 - 3 =", " -5"), ("2 × 3 =", " 6"), ("5 − 7 =", " -2"), ("12 + 30 =", " 42"),
    ],
)  # fmt: skip
def test_the_last_two_operands_count(text: str, result: str) -> None:
    assert Calculator().call(text) == result


@pytest.mark.parametrize(
    "text", ["=", "5 =", "x =", "2 + =", "+ 2 =", "(2) + 3 =", "1 / 2 =", "2 ** 3 =", "9999999999 + 1 =", "٣ + ٤ ="]
)
def test_what_is_no_expression_writes_nothing_or_the_error(text: str) -> None:
    assert Calculator().call(text) is None
    assert Calculator(error=" error").call(text) == " error"


@pytest.mark.parametrize("text", ["(2 + 3 =", "2 + 3) =", "1 2 =", "()=", "--=", "2 * =", "1" * 10 + "+1="])
def test_whole_expressions_must_follow_the_grammar(text: str) -> None:
    assert WHOLE.call(text) is None


def test_expressions_have_a_longest() -> None:
    long = "+".join(["1"] * 70)
    assert WHOLE.call(f"{long}=") is None
    assert Calculator(operands=None, before="", max_characters=200).call(f"{long}=") == "70"
    signs = "-" * 5000  # each is a level of the grammar
    assert Calculator(error="?").call(f"1 {signs} 2 =") == "?"
    assert Calculator(max_characters=9).call("1 + 2 + 3 + 4 + 5 =") == " 9"


def test_nothing_is_run_as_code() -> None:
    assert Calculator().call("__import__('os').getpid() + 1 =") is None
    source = Path(calculator.__file__).read_text()
    assert not any(word in source for word in ("eval(", "exec(", 'compile("', "literal_eval", "import ast"))


@pytest.mark.parametrize("settings", [{"operands": 1}, {"trigger": ""}, {"max_digits": 0}, {"max_characters": 2}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"Calculator: .*{next(iter(settings))}"):
        Calculator(**settings)  # type: ignore[arg-type]
