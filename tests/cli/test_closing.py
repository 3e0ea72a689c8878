"""The last lines of a command: what it did, its figures, and where they lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightning_gfn.lightning_cli.closing import PREDICTIONS, figures, files_of, predicted, written

Run = Callable[..., int]


class Done:
    """A trainer after its command."""

    def __init__(self, **metrics: float) -> None:
        self.callback_metrics = {name.replace("__", "/"): torch.tensor(value) for name, value in metrics.items()}
        self.num_predict_batches = [2, 3]


def last_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()[-2:]


def test_every_command_says_what_it_did_and_where_it_lies(
    run: Run,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
    checkpoint_of: Callable[[Path], dict[str, torch.Tensor]],
) -> None:
    assert run("run") == 0
    weight = f"test/weight {float(checkpoint_of(workspace / 'run')['state_dict']['layer.weight']):.4g}"
    assert last_lines(capsys) == [
        f"[lightning-gfn] run: training ended at step 8, its weights were tested: {weight}",
        "[lightning-gfn] in run: checkpoints/, metrics.jsonl",
    ]
    assert run("test") == 0
    assert last_lines(capsys) == [
        f"[lightning-gfn] test of run/checkpoints/last.ckpt: {weight}",
        "[lightning-gfn] in run: metrics.jsonl",
    ]
    assert run("validate", "--ckpt_path", "none") == 0
    first, second = last_lines(capsys)
    assert first.startswith("[lightning-gfn] validate of the model as configured: val/loss ")
    assert second == "[lightning-gfn] in run: metrics.jsonl"
    assert run("predict") == 0
    first, second = last_lines(capsys)
    assert "predict of run/checkpoints/last.ckpt: 3 batches" in first and "PredictionWriter" in first
    assert second == "[lightning-gfn] in run: nothing was written"
    assert run("fit", "--run_dir", "other") == 0
    assert last_lines(capsys)[0] == "[lightning-gfn] fit: training ended at step 8"


def test_a_command_that_failed_says_nothing_of_the_kind(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("test", "--ckpt_path", "last") == 2
    assert "in run:" not in capsys.readouterr().out


def test_what_was_written_is_new_or_changed(tmp_path: Path) -> None:
    def write(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(name + (tmp_path / name).read_text() if (tmp_path / name).exists() else name)

    write("checkpoints/last.ckpt", "results/val_metrics.json", "metrics.jsonl", "old/a.txt", "config.yaml")
    before = files_of(tmp_path)
    assert written(before, files_of(tmp_path)) == []
    write("results/test_metrics.json", "samples/1.md", "samples/2.md", "metrics.jsonl", "config.yaml", "mine/x/y.txt")
    write("predictions/rank0.jsonl", "predictions/predictions.jsonl")
    assert written(before, files_of(tmp_path)) == [
        "results/test_metrics.json",
        "predictions/predictions.jsonl",
        "samples/",
        "metrics.jsonl",
        "mine/",
    ]


def test_figures_of_the_stage_alone_and_as_many_as_a_line_holds() -> None:
    done = Done(val__loss=1.0, test__a=0.5, test__b=2.0)
    assert figures(done, "test") == "test/a 0.5, test/b 2"  # type: ignore[arg-type]
    assert "no figures" in figures(done, "predict")  # type: ignore[arg-type]
    many = Done(**{f"test__x{number}": float(number) for number in range(9)})
    assert figures(many, "test").endswith("test/x5 5, 3 more in metrics.jsonl")  # type: ignore[arg-type]


def test_predictions_are_counted(tmp_path: Path) -> None:
    assert predicted(tmp_path, {}, Done()).startswith("5 batches")  # type: ignore[arg-type]
    (tmp_path / PREDICTIONS).parent.mkdir()
    (tmp_path / PREDICTIONS).write_text("{}\n{}\n{}\n")
    assert predicted(tmp_path, {}, Done()) == "3 samples"  # type: ignore[arg-type]
    before = files_of(tmp_path)
    said = predicted(tmp_path, before, Done())  # type: ignore[arg-type]
    assert said.startswith("5 batches"), "those of an earlier command do not count"
