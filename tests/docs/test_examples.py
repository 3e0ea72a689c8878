"""The examples that the documentation asks its reader to save run as they stand."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest
from pages import DOCS, ROOT, text_of

from lightning_gfn import cli

FILES = {name: body for path in DOCS for name, body in pages.files(text_of(path)).items()}
EXAMPLE = re.search(r"<!-- run -->\n```bash\n(.*?)```", text_of(ROOT / "docs" / "own.md"), re.DOTALL)[1]


def run(command: str, *more: str) -> int:
    """Carry out a command line in this process; returns the exit status."""
    try:
        return cli.main([*shlex.split(command)[1:], *more])
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the pages' files and the shared groups, as a reader would have it."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "experiments" / "_base", tmp_path / "experiments" / "_base")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def test_examples_run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {Path(name).suffix for name in FILES} == {".py", ".yaml", ".jsonl", ".lean"} and len(FILES) >= 10
    small = ("--trainer.logger", "false", "--trainer.log_every_n_steps", "1")
    sft, gflownet, predict = EXAMPLE.splitlines()
    assert run(sft, "--trainer.max_steps", "2", "--data.init_args.max_test", "4", *small) == 0, capsys.readouterr().err
    assert run(gflownet, "--trainer.max_steps", "2", *small) == 0, capsys.readouterr().err
    assert run(predict, *small) == 0, capsys.readouterr().err

    measured = json.loads(Path("runs/mine/sft/results/test_metrics.json").read_text())
    assert measured["problems"]["count"] == 4 and 0 <= measured["metrics"]["coverage"]["value"] <= 1
    steps = [json.loads(line) for line in Path("runs/mine/gflownet/metrics.jsonl").read_text().splitlines()]
    losses = [row["train/loss"] for row in steps if "train/loss" in row]
    assert len(losses) == 2 and all("train/log_z_estimate" in row for row in steps if "train/loss" in row)
    assert Path("runs/mine/gflownet/model/adapter_config.json").is_file(), "LoRA leaves an adapter"
    predictions = Path("runs/mine/gflownet/predictions/predictions.jsonl").read_text().splitlines()
    assert len(predictions) == 8 and all(json.loads(row)["prompt"].startswith("Ida") for row in predictions)


def test_a_broken_example_is_noticed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workspace / "mine" / "gflownet.yaml"
    path.write_text(FILES["mine/gflownet.yaml"].replace("num_samples", "num_sampels"))
    assert run(f"lightning-gfn run --config {path}") != 0
    assert "num_sampels" in capsys.readouterr().err


def test_the_example_reward_tells_right_from_wrong(workspace: Path) -> None:
    reward = importlib.import_module("mine.reward").right_and_short
    texts = ["1 + 1 = 2\nThe answer is: 2", "The answer is: 3", "well, " * 12 + "The answer is: 2"]
    assert reward(completions=texts, answer=["2"] * 3, max_words=[9] * 3) == pytest.approx([5.0, 0.0, 5.0 - 0.1 * 7])


def test_the_example_objective_is_vargrad_near_zero(workspace: Path) -> None:
    import torch

    from lightning_gfn.objectives.vargrad import vargrad_loss

    log_pf_B = torch.tensor([0.1, 0.2, -0.3, 0.4])
    arguments = (log_pf_B, torch.zeros(4), torch.tensor([0, 0, 1, 1]))
    huber_loss = importlib.import_module("mine.huber").huber_vargrad_loss
    assert torch.allclose(huber_loss(*arguments, delta=10.0).loss, vargrad_loss(*arguments).loss / 2)
    assert huber_loss(*arguments, delta=0.1).loss < huber_loss(*arguments, delta=10.0).loss


def test_rows_of_ones_own_need_no_class(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The data file of the first page in place of the example's."""
    command = "lightning-gfn run --config mine/sft.yaml --data mine/rows.yaml --print_config"
    assert run(command) == 0, capsys.readouterr().err
    assert "ProblemFile" in capsys.readouterr().out
    from datamodules.files.problem_file import ProblemFile

    problems = ProblemFile(path="mine/rows.jsonl", batch_size=2, val_fraction=0.0).load_split("train")
    assert [problem.answer for problem in problems] == ["12", "30"]


@pytest.mark.lean
def test_lean_accepts_the_proofs_of_the_documentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proofs = [body for path in DOCS for language, body in pages.blocks(text_of(path)) if language == "lean"]
    assert len(proofs) >= 2
    file = tmp_path / "proof.lean"
    for body in proofs:
        file.write_text(body, encoding="utf-8")
        assert run(f"lightning-gfn lean check {file}") == 0, capsys.readouterr().out
    file.write_text(proofs[-1].replace("exact hq", "exact hp"), encoding="utf-8")
    assert run(f"lightning-gfn lean check {file}") != 0
