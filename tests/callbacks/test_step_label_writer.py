"""Step labels on disk: the form, one label a text, going on after a kill, refusing other settings, the cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from datamodules.step_labels import StepwiseRows
from lightning_gfn.callbacks.common.costs import read_spent
from lightning_gfn.callbacks.step_labels import StepLabelWriter
from lightning_gfn.interfaces import Policy
from lightning_gfn.rollouts.step_labels import ExactArithmetic, StepLabeller, StepLabels, SteppedSolution


@dataclass(frozen=True)
class LastIsHalf(StepLabeller):
    """0, then 0.5 at the last step; says that it sampled ten tokens for each attempt."""

    name: str = "half"

    def __call__(self, attempts: Sequence[SteppedSolution], policy: Policy) -> StepLabels:
        CALLS.append([attempt.problem.id for attempt in attempts])
        shares = [[0.0] * (len(attempt.steps) - 1) + [0.5] for attempt in attempts]
        return StepLabels(shares, generated_tokens=10 * len(attempts), reward_calls=len(attempts))


CALLS: list[list[str]] = []


@pytest.fixture(autouse=True)
def forget_calls() -> None:
    CALLS.clear()


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def predict(make_trainer: Any, replay: Any) -> Any:
    """Sample and label five problems, two temperatures and eight samples each."""

    def run(writer: StepLabelWriter, module: Any = None) -> Any:
        trainer = make_trainer(writer)
        chosen = module if module is not None else replay.ReplayModule()
        chosen.policy = None
        trainer.predict(chosen, replay.make_loader(replay.make_problems(5)[::-1]), return_predictions=False)
        return trainer

    return run


def test_rows_are_stepwise_and_each_text_stands_once(predict: Any, replay: Any, tmp_path: Path) -> None:
    predict(StepLabelWriter(LastIsHalf()))
    rows = read_rows(tmp_path / "step_labels" / "step_labels.jsonl")
    texts = [(row["problem_id"], "".join(row["completions"])) for row in rows]
    drawn = {
        (p.id, text)
        for p in replay.make_problems(5)
        for t in (1.0, 0.7)
        for text in replay.make_record(p, t).completions
    }
    assert len(texts) == len(set(texts)) and set(texts) <= drawn and len(texts) > 10
    assert list(dict.fromkeys(row["problem_id"] for row in rows)) == ["p004", "p003", "p002", "p001", "p000"]
    for row in rows:
        assert len(row["completions"]) == 2 and row["completions"][0].endswith("\n")
        assert row["soft_labels"] == [0.0, 0.5] and row["labels"] == [False, True]
        assert row["prompt"].startswith("How much is")
    data = StepwiseRows(str(tmp_path / "step_labels" / "step_labels.jsonl"), val_fraction=0.0, test_fraction=0.0)
    assert len(data.problems("train")) == len(rows), "the data set reads what the callback writes"


def test_labels_differ_where_the_samples_do(predict: Any, tmp_path: Path) -> None:
    predict(StepLabelWriter(ExactArithmetic()))
    labels = {tuple(row["labels"]) for row in read_rows(tmp_path / "step_labels" / "step_labels.jsonl")}
    assert labels == {(True, True), (True, False)}


def test_a_killed_run_goes_on_and_ends_alike(predict: Any, replay: Any, tmp_path: Path) -> None:
    class Dies(replay.ReplayModule):  # type: ignore[name-defined, misc]
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 1:
                raise RuntimeError("killed")
            return super().predict_step(batch, batch_idx)

    predict(StepLabelWriter(LastIsHalf(), folder="whole"))
    whole = CALLS.copy()
    CALLS.clear()
    with pytest.raises(RuntimeError, match="killed"):
        predict(StepLabelWriter(LastIsHalf()), Dies())
    part = tmp_path / "step_labels" / "rank0.jsonl"
    done = set(CALLS[0])
    with part.open("a") as file:
        file.write('{"problem_id": "p000", "temperature": 1.0, "sample": 0, "half a li')
    CALLS.clear()
    predict(StepLabelWriter(LastIsHalf()))
    assert CALLS and not done & {id_ for call in CALLS for id_ in call}, "what was finished is not labelled again"
    assert sorted(done | {id_ for call in CALLS for id_ in call}) == sorted({id_ for call in whole for id_ in call})
    one, two = (tmp_path / folder / "step_labels.jsonl" for folder in ("whole", "step_labels"))
    assert one.read_text() == two.read_text()
    costs = [read_spent(tmp_path / folder / "budget.json") for folder in ("whole", "step_labels")]
    assert costs[0]["generated_tokens"] == costs[1]["generated_tokens"]


def test_the_cost_counts_samples_and_labels(predict: Any, replay: Any, tmp_path: Path) -> None:
    predict(StepLabelWriter(LastIsHalf()))
    spent = read_spent(tmp_path / "step_labels" / "budget.json")
    records = [replay.make_record(p, t) for p in replay.make_problems(5) for t in (1.0, 0.7)]
    labelled = len(read_rows(tmp_path / "step_labels" / "step_labels.jsonl"))
    assert spent["generated_tokens"] == sum(sum(record.lengths) for record in records) + 10 * labelled
    assert spent["reward_calls"] == 80 + labelled
    assert spent["wall_seconds"] > 0 and spent["peak_memory_mib"] > 50


def test_other_settings_do_not_mix(predict: Any) -> None:
    predict(StepLabelWriter(LastIsHalf()))
    with pytest.raises(ValueError, match="holds labels of other settings"):
        predict(StepLabelWriter(LastIsHalf(name="other")))
    with pytest.raises(ValueError, match="holds labels of other settings"):
        predict(StepLabelWriter(LastIsHalf(), separator="."))
