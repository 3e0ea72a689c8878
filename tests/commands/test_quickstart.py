"""The quickstart's plan and its folder: resumes or starts clean, as asked, and never mixes two runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from lightning_gfn import cli
from lightning_gfn.commands.quickstart import METHODS, claim_folder, fingerprint, plan

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
METRICS = {"solve_rate", "pass_at_8", "maj_at_8", "distinct_correct_rouge_0.7", "coverage"}


def test_every_method_starts_from_the_supervised_model_of_its_seed() -> None:
    supervised, tuned = plan(Path("out"), Path("experiments/quickstart"), [3, 5])
    assert [(stage.method, stage.seed) for stage in supervised] == [("sft", 3), ("sft", 5)]
    assert [(stage.method, stage.seed) for stage in tuned] == [(name, seed) for seed in (3, 5) for name in METHODS]
    assert len({stage.run_dir for stage in supervised + tuned}) == 8
    for stage in tuned:
        assert stage.arguments[-1] == f"out/sft_seed{stage.seed}/model"


def test_methods_share_data_budget_and_optimiser() -> None:
    files = [yaml.safe_load((EXPERIMENTS / "quickstart" / f"{name}.yaml").read_text()) for name in METHODS]
    for key in ("trainer", "data"):
        assert len({json.dumps(file[key]) for file in files}) == 1
    for key in ("policy", "num_samples", "optimizer"):
        assert len({json.dumps(file["model"]["init_args"][key]) for file in files}) == 1


def test_the_mark_covers_every_file_that_is_read(tmp_path: Path) -> None:
    shutil.copytree(EXPERIMENTS, tmp_path / "experiments")
    folder = tmp_path / "experiments" / "quickstart"
    marks = {fingerprint(folder, [0]), fingerprint(folder, [1])}
    for name in (
        "quickstart/grpo.yaml",
        "_base/trainer_cpu.yaml",
        "_base/reward_tempered.yaml",
        "_base/tiny_policy.yaml",
    ):
        path = tmp_path / "experiments" / name
        path.write_text(path.read_text() + "\n# changed\n")
        marks.add(fingerprint(folder, [0]))
    assert len(marks) == 6
    unused = tmp_path / "experiments" / "_base" / "llama3_8b_lora.yaml"
    unused.write_text(unused.read_text() + "\n# changed\n")
    assert fingerprint(folder, [0]) in marks


def test_two_quickstarts_never_mix(tmp_path: Path) -> None:
    output = tmp_path / "quickstart"
    claim_folder(output, "a", fresh=False)
    (output / "sft_seed0").mkdir()
    claim_folder(output, "a", fresh=False)
    assert (output / "sft_seed0").exists()
    with pytest.raises(ValueError, match=r"other settings.*--if_exists fresh"):
        claim_folder(output, "b", fresh=False)
    claim_folder(output, "b", fresh=True)
    assert not (output / "sft_seed0").exists()
    assert (tmp_path / "quickstart.old-1" / "sft_seed0").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="no quickstart"):
        claim_folder(tmp_path, "a", fresh=False)


def test_outside_a_clone_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["quickstart"]) == 2
    assert "root of a clone" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_quickstart_from_start_to_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(EXPERIMENTS, tmp_path / "experiments")
    for name in ("trainer_cpu", "trainer_cpu_sft"):
        path = tmp_path / "experiments" / "_base" / f"{name}.yaml"
        trainer = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**trainer, "max_steps": 3, "limit_val_batches": 0}))
    for name in ("synthetic", "synthetic_rollouts"):
        path = tmp_path / "experiments" / "_base" / f"{name}.yaml"
        data = yaml.safe_load(path.read_text())
        data["init_args"].update(num_train=64, num_val=4, num_test=4)
        path.write_text(yaml.safe_dump(data))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["quickstart"]) == 0
    comparison = json.loads((tmp_path / "runs/quickstart/comparison.json").read_text())
    assert list(comparison["methods"]) == ["sft", *METHODS]
    assert comparison["problems"] == 4 and comparison["samples_per_problem"] == 8 and comparison["seeds"] == [0]
    for figures in comparison["methods"].values():
        assert figures.keys() >= METRICS
        assert all(x["ci95"][0] <= x["value"] <= x["ci95"][1] for x in figures.values())
    assert (tmp_path / "runs/quickstart/comparison.md").exists()
    assert (tmp_path / "runs/quickstart/comparison.png").stat().st_size > 10_000
    assert (tmp_path / "mlflow.db").exists()
