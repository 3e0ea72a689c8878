"""The quickstart's plan, and a small one from start to table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from lightning_gfn import cli
from lightning_gfn.studies.plan import read_study

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
METHODS = ("grpo", "vargrad", "vargrad_classes")
METRICS = {"solve_rate", "pass_at_8", "maj_at_8", "distinct_correct_rouge_0.7", "coverage"}
METRICS |= {"distinct_classes_known_paths", "effective_classes_known_paths"}
SKEWED = "_base/overlay/synthetic/skewed_styles.yaml"


def test_every_method_starts_from_the_supervised_model_of_its_seed() -> None:
    study = read_study(EXPERIMENTS / "studies" / "quickstart.yaml", output=Path("out"), seeds=[3, 5])
    assert list(study.stages) == [f"{name}@{seed}" for seed in (3, 5) for name in ("sft", *METHODS)]
    assert len({stage.run_dir for stage in study.stages.values()}) == 8
    for stage in study.stages.values():
        if stage.name != "sft":
            assert stage.arguments[-1] == f"out/sft_seed{stage.seed}/model" and stage.needs == (f"sft@{stage.seed}",)
    assert [(c.name, c.stages, c.baseline) for c in study.comparisons] == [(".", ("sft", *METHODS), "sft")]


def test_the_supervised_model_prefers_some_ways_of_solving_in_the_study_alone() -> None:
    study = read_study(EXPERIMENTS / "studies" / "quickstart.yaml", output=Path("out"))
    assert all(any(argument.endswith(SKEWED) for argument in stage.arguments) for stage in study.stages.values())
    assert "style_shares" not in (EXPERIMENTS / "quickstart" / "sft.yaml").read_text()
    assert "monitor" in " ".join(study.stages["sft@0"].arguments), "the supervised stage still stops early"


def test_methods_share_data_budget_and_optimiser() -> None:
    files = [yaml.safe_load((EXPERIMENTS / "quickstart" / f"{name}.yaml").read_text()) for name in METHODS]
    for key in ("trainer", "data"):
        assert len({json.dumps(file[key]) for file in files}) == 1
    for key in ("policy", "num_samples", "optimizer"):
        assert len({json.dumps(file["model"]["init_args"][key]) for file in files}) == 1


def test_a_folder_without_the_study_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["quickstart", "--experiments", "mine"]) == 2
    assert "no mine/studies/quickstart.yaml: name the folder that holds it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_quickstart_from_start_to_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(EXPERIMENTS, tmp_path / "experiments")
    for name in ("trainer/cpu", "trainer/cpu_sft"):
        path = tmp_path / "experiments" / "_base" / f"{name}.yaml"
        trainer = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**trainer, "max_steps": 3, "limit_val_batches": 0}))
    for name in ("data/synthetic", "data/synthetic_rollouts"):
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
