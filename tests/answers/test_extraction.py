"""Extraction against the published rules, on real solutions and on hostile text."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_gfn.answers import extract_answer, extraction, first_answer_position

GSM8K = Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k"
STYLES = ("gsm8k", "math", "metamath")


def gsm8k_oracle(text: str) -> str | None:
    """The rule of lm-evaluation-harness written as two regular expressions on the whole text."""
    found = re.findall(r"#### (\-?[0-9\.\,]+)", text)
    return re.sub(r"\.$", "", re.sub(",", "", found[-1])) if found else None


def box_oracle(text: str) -> str | None:
    """Counts braces one character at a time from the last box."""
    start = max(text.rfind("\\boxed{"), -1)
    if start < 0:
        start = text.rfind("\\fbox{")
    if start < 0:
        return None
    depth, content = 0, ""
    for character in text[text.index("{", start) :]:
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return content[1:]
        content += character
    return None


@pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K files are not here")
def test_every_gsm8k_answer_is_extracted() -> None:
    rows = [json.loads(line) for name in ("train", "test") for line in (GSM8K / f"{name}.jsonl").open(encoding="utf-8")]
    assert len(rows) == 8792
    for row in rows:
        answer = extract_answer(row["answer"], "gsm8k")
        assert answer == gsm8k_oracle(row["answer"])
        assert answer == row["answer"].rsplit("#### ", 1)[1].replace(",", "")
        assert re.fullmatch("-?[0-9]+", answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so\n#### 72", "72"),
        ("#### -1,234.50", "-1234.50"),
        ("#### 1,200.", "1200"),
        ("#### 5\nwait\n#### 7", "7"),
        ("#### 1.5.", "1.5"),
        ("####72", None),
        ("#### $18", None),
        ("#### ١٨", None),
        ("#### ,", None),
        ("#### ", None),
        ("", None),
    ],
)
def test_gsm8k_rule(text: str, answer: str | None) -> None:
    assert extract_answer(text, "gsm8k") == answer
    if answer is not None:
        assert gsm8k_oracle(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so $\boxed{\frac{1}{\sqrt{2}}}$.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\text{a {nested {set}}}}", r"\text{a {nested {set}}}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"the sum is $\boxed 5$, thus", "5"),
        ("\\boxed 12\nDone.", "12"),
        (r"\boxed {7}", "7"),
        (r"\fbox{9}", "9"),
        (r"\boxed{1} and \fbox{9}", "1"),
        (r"\boxed{4} then \boxed{5", None),
        (r"\boxed{}", None),
        (r"\boxedfigure{5}", None),
        ("nothing", None),
    ],
)
def test_math_rule(text: str, answer: str | None) -> None:
    assert extract_answer(text, "math") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("x = 5.\n#### 5\nThe answer is: 5", "5"),
        ("The answer is: 5.\n", "5"),
        ("The answer is: 1,200", "1200"),
        ("The answer is: $1,200.50.", "$1200.50"),
        ("The answer is: (1,200)", "(1,200)"),
        ("The answer is: \\frac{1}{2}\r\nmore", "\\frac{1}{2}"),
        ("The answer is: 3\nNo. The answer is: 4 apples", "4 apples"),
        ("The answer is:", None),
        ("The answer is: \n5", None),
        ("the answer is 5", None),
    ],
)
def test_metamath_rule(text: str, answer: str | None) -> None:
    assert extract_answer(text, "metamath") == answer


def random_text(generator: random.Random) -> str:
    pieces = [
        "\\boxed{",
        "\\boxed ",
        "\\fbox{",
        "}",
        "{",
        "5",
        "12",
        "1,200",
        ".",
        "$",
        "\n",
        " x ",
        "#### ",
        "The answer is:",
    ]
    return "".join(generator.choices(pieces, k=generator.randrange(1, 25)))


def test_random_boxes_agree_with_counted_braces() -> None:
    generator = random.Random(0)
    compared = 0
    for _ in range(5000):
        text = random_text(generator).replace("\\boxed ", "")
        expected = box_oracle(text)
        assert extract_answer(text, "math") == (expected.strip() or None if expected is not None else None), text
        compared += expected is not None
    assert compared > 500


def test_random_gsm8k_texts_agree_with_the_regular_expression() -> None:
    generator = random.Random(1)
    texts = [random_text(generator) for _ in range(5000)]
    expected = [gsm8k_oracle(text) for text in texts]
    assert sum(bool(answer) for answer in expected) > 300
    assert [extract_answer(text, "gsm8k") for text in texts] == [answer if answer else None for answer in expected]


def test_first_answer_position_bounds_every_prefix() -> None:
    generator = random.Random(2)
    with_answer = 0
    for _ in range(600):
        text = random_text(generator)
        for style in STYLES:
            position = first_answer_position(text, style)
            answers = [extract_answer(text[:end], style) for end in range(len(text) + 1)]
            if position is None:
                assert set(answers) == {None}
            else:
                assert set(answers[: position + 1]) == {None}
                with_answer += any(answers)
    assert with_answer > 100


def test_the_first_box_instead_of_the_last_one_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
        return pattern.search(text)

    monkeypatch.setattr(extraction, "_last", first)
    assert extract_answer(r"\boxed{1} then \boxed{2}", "math") == "1"


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 150_000,
        "\\boxed{" + "{" * 500_000 + "}" * 500_000,
        "#### " + "1," * 500_000,
        "The answer is:" * 70_000,
    ],
)
@pytest.mark.parametrize("function", [extract_answer, first_answer_position])
def test_a_megabyte_is_quick(text: str, function: Callable[[str, str], object]) -> None:
    for style in STYLES:
        started = time.monotonic()
        function(text, style)
        assert time.monotonic() - started < 2.0


def test_unknown_style_is_named() -> None:
    with pytest.raises(ValueError, match="style.*'latex'.*gsm8k, math, metamath"):
        extract_answer("5", "latex")  # type: ignore[arg-type]
