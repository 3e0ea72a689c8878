"""The verdicts that were published with four models' solutions of the GSM8K test set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_gfn.answers import extract_answer, is_equivalent

SOLUTIONS = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


@pytest.mark.skipif(not SOLUTIONS.is_file(), reason="the published solutions are not here")
@pytest.mark.parametrize("style", ["A: (.*)", "last_number"])
def test_every_published_verdict_is_ours(style: str) -> None:
    compared = 0
    for line in SOLUTIONS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        reference = extract_answer(row["ground_truth"], style)
        for model in MODELS:
            solution = row[model]
            assert is_equivalent(extract_answer(solution["solution"], style), reference) is solution["is_correct"]
            compared += 1
    assert compared == 5276
