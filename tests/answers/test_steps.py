"""Solutions in steps, and equations that are true or not."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lightning_gfn.answers.equations import equation_is_true, side_value
from lightning_gfn.answers.steps import split_steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a\nb\nc", ["a\n", "b\n", "c"]),
        ("a\nb\n", ["a\n", "b\n"]),
        ("a\n\nb", ["a\n\n", "b"]),
        ("\n a\nb", ["\n a\n", "b"]),
        ("a", ["a"]),
        ("a\n  ", ["a\n  "]),
        ("", []),
        (" \n", []),
    ],
)
def test_steps_join_to_the_text(text: str, steps: list[str]) -> None:
    assert split_steps(text) == steps
    assert "".join(steps) == text or not text.strip()


def test_other_separators() -> None:
    assert split_steps("a. b. c", ". ") == ["a. ", "b. ", "c"]
    with pytest.raises(ValueError, match="separator"):
        split_steps("a", "")


@pytest.mark.parametrize(
    ("chain", "unknown", "truth"),
    [
        ("3*9=27", None, True),
        ("3*9=26", None, False),
        ("3*9+5=27+5=32", None, True),
        ("3*9+5=28+5=32", None, False),
        ("1/3+1/3=2/3", None, True),
        ("0.1+0.2=0.3", None, True),
        ("x-5=27", 32, True),
        ("x-5=27", 31, False),
        ("x-5=27", None, None),
        ("x=3*9=28", None, False),
        ("1/0=1", None, None),
        ("(2=3", None, None),
        ("-2-3=-5", None, True),
        ("2**9=512", None, True),
        ("2^9=513", None, False),
        ("y=3*9=28", 28, False),
        ("y-5=27", 32, None),
    ],
)
def test_equations(chain: str, unknown: int | None, truth: bool | None) -> None:
    assert equation_is_true(chain, Fraction(unknown) if unknown is not None else None) is truth


def test_what_is_no_number_has_no_value_and_runs_no_code() -> None:
    for side in ("__import__('os').getcwd()", "'a'", "9" * 1600, "(" * 400, "[1, 2]", "f(1)", "1 if 1 else 2"):
        assert side_value(side, None) is None
