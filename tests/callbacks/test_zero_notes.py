"""A table of zeros is explained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from lightning_gfn.callbacks.common.run_files import where_it_lies
from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.callbacks.health.zero_notes import zero_notes

Row = dict[str, Any]


def row(
    answers: list[str | None], correct: list[bool], truncated: list[bool], temperature: float = 1.0, **more: Any
) -> Row:
    return {
        "temperature": temperature, "num_samples": len(answers), "answers": answers, "correct": correct,
        "truncated": truncated, **more,
    }  # fmt: skip


NONE, YES, NO = [None, None], [True, True], [False, False]


@pytest.mark.parametrize(
    ("rows", "start", "end"),
    [
        (
            [row(NONE, NO, YES)] * 3,
            "0 of 6 samples ended with an answer: 6 were cut at max_new_tokens=8 (raise",
            "(SFT))",
        ),
        (
            [row(NONE, NO, NO)],
            "0 of 2 samples ended with an answer: 2 ended by themselves without",
            "data.answer_style)",
        ),
        (
            [row(NONE, NO, [True, False])],
            "0 of 2 samples ended with an answer: 1 were cut at max_new_tokens=8 (raise",
            "set data.answer_style)",
        ),
        (
            [row(["1", None], NO, [False, True])],
            "0 of 2 samples were right: 1 gave an answer, a wrong one; 1 were cut at",
            "max_new_tokens=8",
        ),
        ([row(["1", "1"], YES, YES)], "all 2 samples were cut at max_new_tokens=8: raise", "(SFT)"),
        (
            [row(NONE, NO, NO, outcomes=["failed", "unfinished"]), row(NONE, NO, NO, outcomes=["failed", "failed"])],
            "0 of 4 attempts proved their theorem: 3 failed, 1 unfinished",
            "problems.jsonl",
        ),
    ],
)
def test_each_kind_of_zero_has_its_sentence(rows: list[Row], start: str, end: str) -> None:
    (note,) = zero_notes(rows, 8)
    assert note.startswith(start) and note.endswith(end)


def test_what_is_not_zero_is_not_explained() -> None:
    good = row(["1", None], [True, False], [False, True])
    assert zero_notes([good, row(NONE, NO, YES)], 8) == []
    assert zero_notes([row(NONE, NO, NO, outcomes=["proved"]) | {"correct": YES}], 8) == []
    assert zero_notes([], None) == []


def test_the_temperature_is_named_where_there_are_several() -> None:
    good = row(["1"], [True], [False])
    (note,) = zero_notes([good, row(NONE, NO, YES, temperature=0.5)], None)
    assert note.startswith("0 of 2 samples ended with an answer at temperature 0.5: 2 were cut at the maximum length")


def test_the_table_holds_what_explains_it(make_trainer: Any, replay: Any, capsys: Any) -> None:
    loader = replay.make_loader(replay.make_problems(3))
    make_trainer(Evaluation()).test(replay.ReplayModule(), loader, verbose=False)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["answered_share", "1.000"] for line in lines)
    assert any(line.split()[:2] == ["truncated_share", "0.000"] for line in lines)
    assert not any("0 of" in line for line in lines)


@pytest.mark.parametrize(("entry", "stage"), [("test", "test"), ("validate", "val")])
def test_the_last_line_says_where_the_figures_are(
    make_trainer: Any, replay: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch, entry: str, stage: str
) -> None:
    trainer = make_trainer(Evaluation())
    folder = Path(trainer.default_root_dir)
    monkeypatch.chdir(folder.parent)
    getattr(trainer, entry)(replay.ReplayModule(), replay.make_loader(replay.make_problems(3)), verbose=False)
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "written: " in line]
    named = Path(said.split("written: ")[1].split()[0])
    assert not named.is_absolute() and named.is_file() and named.name == f"{stage}_metrics.json"
    assert (named.parent / f"{stage}_problems.jsonl").is_file() and f"{stage}_problems.jsonl" in said
    assert said.endswith(f"lightning-gfn compare {folder.name} OTHER_RUN") is (stage == "test")
    monkeypatch.chdir(folder / "results")
    assert where_it_lies(folder, stage).count(str(folder / "results")) == 1


class Mute:
    """Mixed into a module: its samples say nothing and are cut."""

    def records(self, batch: Any) -> Any:
        from dataclasses import replace

        found = super().records(batch)  # type: ignore[misc]
        return [replace(r, completions=("so",) * 8, correct=(False,) * 8, truncated=(True,) * 8) for r in found]


def test_zeros_are_explained_after_test_and_validate_and_once_in_fit(
    make_trainer: Any, replay: Any, capsys: Any
) -> None:
    class Silent(Mute, replay.ReplayModule):  # type: ignore[name-defined, misc]
        pass

    loader: DataLoader[Any] = replay.make_loader(replay.make_problems(4))
    said = "0 of 32 samples ended with an answer at temperature 1: 32 were cut at the maximum length"
    for entry in ("test", "validate"):
        getattr(make_trainer(Evaluation()), entry)(Silent(), loader, verbose=False)
        out = capsys.readouterr().out
        assert out.count(said) == 1 and "answered_share" in out
    make_trainer(Evaluation(), max_steps=6).fit(Silent(), loader, loader)
    out = capsys.readouterr().out
    assert out.count(f"[lightning-gfn] validation at step 2: {said}") == 1 and out.count(said) == 1
