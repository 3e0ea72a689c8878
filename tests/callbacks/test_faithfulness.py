"""The callback that changes rationales: figures, files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from answering_policy import AnsweringPolicy, copy_last_number, read_the_question

from lightning_gfn.callbacks.faithfulness import Faithfulness
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM


def run_test(replay: ModuleType, make_trainer: Any, policy: Any, **settings: Any) -> Any:
    module = replay.ReplayModule()
    module.policy = policy
    trainer = make_trainer(Faithfulness(**settings))
    trainer.test(module, replay.make_loader(replay.make_problems(9)), verbose=False)
    return trainer


def test_figures_and_files(replay: ModuleType, make_trainer: Any, tmp_path: Path) -> None:
    """Fabricated completions end their rationale in the number that they answer; the question holds the right one."""
    policy = AnsweringPolicy(copy_last_number)
    trainer = run_test(replay, make_trainer, policy)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert figures["test/answer_follows_corrupted"] == figures["test/answer_follows_swapped"] == 1.0
    assert figures["test/accuracy_corrupted"] == 0.0
    content = json.loads((tmp_path / "results" / "test_faithfulness.json").read_text())
    assert content["problems"] == 9 and content["metrics"]["answer_follows_swapped"] == {
        "value": 1.0,
        "ci95": [1.0, 1.0],
    }
    lines = (tmp_path / "results" / "test_faithfulness.jsonl").read_text().splitlines()
    row = json.loads(lines[0])
    assert len(lines) == 9 and row["problem_id"] == "p000" and row["method"] == "replay"
    assert row["answered"]["intact"]["rationale"].endswith(row["answered"]["intact"]["answer"])


def test_a_policy_that_knows_the_answer(replay: ModuleType, make_trainer: Any) -> None:
    figures = run_test(replay, make_trainer, AnsweringPolicy(read_the_question), num_problems=5).callback_metrics
    names = ("answer_follows_truncated", "answer_follows_corrupted", "answer_follows_swapped")
    assert [float(figures[f"test/{name}"]) for name in names] == [0.0, 0.0, 0.0]
    assert float(figures["test/accuracy_intact"]) == float(figures["test/accuracy_swapped"]) == 1.0


def test_what_is_refused(replay: ModuleType, make_trainer: Any) -> None:
    with pytest.raises(ValueError, match="num_problems=0"):
        Faithfulness(num_problems=0)
    policy = Seq2SeqLM(config={"model_type": "t5"})
    with pytest.raises(ValueError, match="Seq2SeqLM cannot: choose CausalLM"):
        run_test(replay, make_trainer, policy)
