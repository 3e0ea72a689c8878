"""What the quickstart in Lean prints, and what it says where Lean is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_gfn.commands.lean_commands.quickstart import main, report
from lightning_gfn.environments.embedded import EmbeddedLean


def write_run(folder: Path, solve_rate: float) -> Path:
    metrics = {
        name: {"value": solve_rate, "ci95": [0.0, 1.0]}
        for name in ("solve_rate", "pass_at_8", "distinct_correct_rouge_0.7")
    }
    proofs = [
        {"problem_id": problem, "theorem": problem, "statement": ": p", "script": script, "verified": verified}
        for problem, script, verified in (
            ("a", ["one"], True),
            ("b", ["one", "two"], True),
            ("b", ["one", "two", "three"], True),
            ("c", ["one", "two", "three", "four"], False),
            ("d", ["one", "two"], True),
            ("e", ["one"], True),
        )
    ]
    for name, text in (
        ("results/test_metrics.json", json.dumps({"metrics": metrics})),
        ("proofs/test/proofs.jsonl", "".join(json.dumps(row) + "\n" for row in proofs)),
    ):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    return folder


def test_the_report_shows_rates_and_the_three_longest_checked_proofs(tmp_path: Path) -> None:
    text = report({"sft": write_run(tmp_path / "sft", 0.25), "gfn": write_run(tmp_path / "gfn", 0.5)})
    assert "0.250 [0.000, 1.000]" in text and "0.500 [0.000, 1.000]" in text
    shown = [line for line in text.splitlines() if line.startswith("theorem")]
    assert shown == ["theorem b : p := by", "theorem d : p := by", "theorem a : p := by"]
    assert "  three" in text and "  four" not in text


def test_without_lean_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(EmbeddedLean, "unavailable", classmethod(lambda cls: "lightning-gfn lean install"))
    assert main([]) == 2
    assert "lean install" in capsys.readouterr().err
