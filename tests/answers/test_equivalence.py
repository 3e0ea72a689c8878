"""Equality of answers: exact rules, math-verify's verdicts, and hostile input."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from lightning_gfn.answers import canonical_answer, checker_counters, is_equivalent
from lightning_gfn.answers.normalisation import normalise, parse_number

EQUAL_WITHOUT_A_PROCESS = [
    ("1,200", "1200"),
    ("1200.0", "1,200"),
    ("$1,200$", "1200"),
    ("\\$5", "5"),
    (".5", "\\frac12"),
    ("1/2", "\\dfrac{1}{2}"),
    ("-\\frac{1}{2}", "-0.5"),
    ("2/4", "1/2"),
    ("x=18", "18"),
    ("50\\%", "50"),
    ("90^\\circ", "90"),
    ("5\\text{ cm}", "5"),
    ("\\text{east}", "east"),
    ("\\left( 1 , 2 \\right)", "(1,2)"),
    ("\\sqrt3", "\\sqrt{3}"),
    ("10{,}000", "10000"),
    ("10,\\!000", "10000"),
    ("18.", "18"),
]
DIFFERENT_WITHOUT_A_PROCESS = [
    ("17", "18"),
    ("0.3", "1/3"),
    ("1.5", "15"),
    ("-5", "5"),
    ("18}{19", "18"),
    ("{18", "18"),
    ("5=18", "18"),
    ("1,20", "3/4"),
]
BY_MATH_VERIFY = [
    ("x+1", "1+x", True),
    ("(x+1)^2", "x^2+2x+1", True),
    ("\\{1,2\\}", "\\{2,1\\}", True),
    ("1/3", "0.333333", True),
    ("18 apples", "18", True),
    ("2+3=5", "5", True),
    ("a-b", "b-a", False),
    ("12 or maybe 18", "18", False),
    ("1 8", "18", False),
    ("18!", "18", False),
]


@pytest.mark.parametrize(("predicted", "reference"), EQUAL_WITHOUT_A_PROCESS)
def test_equal_by_text_and_exact_numbers(predicted: str, reference: str) -> None:
    before = checker_counters()["checks"]
    assert is_equivalent(predicted, reference)
    assert is_equivalent(reference, predicted)
    assert checker_counters()["checks"] == before


@pytest.mark.parametrize(("predicted", "reference"), DIFFERENT_WITHOUT_A_PROCESS[:-1])
def test_different_without_asking_the_process(predicted: str, reference: str) -> None:
    before = checker_counters()["checks"]
    assert not is_equivalent(predicted, reference)
    assert checker_counters()["checks"] == before


@pytest.mark.parametrize(("predicted", "reference", "equal"), BY_MATH_VERIFY)
def test_verdicts_of_math_verify(predicted: str, reference: str, equal: bool) -> None:
    assert is_equivalent(predicted, reference) is equal


@pytest.mark.parametrize(
    ("predicted", "reference"), [(None, None), (None, "5"), ("5", None), ("", ""), (" ", "5"), ("$", "$$")]
)
def test_no_answer_equals_nothing(predicted: str | None, reference: str | None) -> None:
    assert not is_equivalent(predicted, reference)


def test_tower_of_powers_ends_as_wrong_and_is_counted_once() -> None:
    before = checker_counters()["timeouts"]
    started = time.monotonic()
    assert not is_equivalent("9^{9^{9^9}}", "5")
    assert time.monotonic() - started < 5.0
    assert checker_counters()["timeouts"] == before + 1
    started = time.monotonic()
    assert not is_equivalent("9^{9^{9^9}}", "5")
    assert time.monotonic() - started < 0.1
    assert checker_counters()["timeouts"] == before + 1
    assert is_equivalent("y+1", "1+y")


@pytest.mark.parametrize(
    "predicted",
    [
        "{" * 400 + "1" + "}" * 400,
        "\\frac{" * 60,
        "9" * 900,
        "1e999999999",
        "²",
        "\x00",
        "\\u0031",
        "__import__('os')",
        "√()",
        "1=" * 480,
        "or " * 300,
        "🙂" * 99,
    ],
)
def test_hostile_answers_are_wrong_and_never_raise(predicted: str) -> None:
    started = time.monotonic()
    assert not is_equivalent(predicted, "18")
    assert time.monotonic() - started < 5.0


@pytest.mark.parametrize(
    ("predicted", "reference"),
    [
        ("=".join(["2^{2^{2^{30}}}"] * 20), "5"),
        (", ".join(f"9^{{9^{{9^{{{n}}}}}}}" for n in range(2, 22)), ", ".join("8^{9^{9^9}}" for _ in range(20))),
        (r"\{" + ",".join(rf"\sqrt{{{n}}}" for n in range(2, 38)) + r"\}", r"\{" + ",".join(["x"] * 36) + r"\}"),
    ],
)
def test_one_deadline_holds_for_all_parts_of_an_answer(predicted: str, reference: str) -> None:
    is_equivalent("x+1", "1+x")
    before = checker_counters()["timeouts"]
    started = time.monotonic()
    assert not is_equivalent(predicted, reference)
    # Twenty parts of two seconds each would take 40 s; a restart of the worker is no time of the answer's.
    assert time.monotonic() - started < 12.0
    assert checker_counters()["timeouts"] <= before + 1


def test_long_texts_are_equal_only_as_the_same_text() -> None:
    before = checker_counters()["oversized"]
    assert is_equivalent("1" * 1_000_000, "1" * 1_000_000)
    assert not is_equivalent("1" * 1_000_000, "18")
    assert checker_counters()["oversized"] == before + 1


def test_nothing_is_executed(tmp_path: object) -> None:
    target = f"{tmp_path}/made"
    assert not is_equivalent(f"__import__('os').system('touch {target}')", "18")
    assert not __import__("pathlib").Path(target).exists()


def test_canonical_answers_group_equal_numbers() -> None:
    assert {canonical_answer(text) for text in ("1,200", "1200", "1200.0", "\\$1200")} == {"1200"}
    assert canonical_answer("0.50") == canonical_answer("\\frac{1}{2}") == "1/2"
    assert canonical_answer("1 8") != canonical_answer("18")
    assert canonical_answer(" ." * 100_000) == " ." * 100_000


def test_numbers_are_exact_and_ascii() -> None:
    assert parse_number("0.1") + parse_number("0.2") == parse_number("0.3")
    for text in ("", ".", "-", "1,20", "1e5", "1/0", "٣", "1_000", "9" * 101):
        assert parse_number(text) is None, text


def test_normalisation_is_idempotent() -> None:
    for pair in EQUAL_WITHOUT_A_PROCESS + DIFFERENT_WITHOUT_A_PROCESS:
        for text in pair:
            assert normalise(normalise(text)) == normalise(text)


def test_import_is_light() -> None:
    heavy = ("torch", "sympy", "math_verify", "numpy")
    code = f"import sys, lightning_gfn.answers; print([name for name in {heavy} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
