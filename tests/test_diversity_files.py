"""Every file of ``experiments/diversity`` is GRPO's but for what its README says, and parses behind the overlays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_gfn import cli

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments" / "diversity"
GRPO_FILE = ROOT / "experiments" / "math" / "grpo.yaml"
OVERLAYS = ("small_synthetic", "small_synthetic_rollouts")
SWITCHES = {
    "maxrl": {"advantage_scale"},
    "pkpo": {"advantage", "advantage_scale"},
    "ucpo": {"advantage"},
    "uniqueness": {"advantage", "solution_classes"},
    "unlikeliness": {"advantage"},
    "set_objective": {"advantage", "advantage_scale", "solution_classes"},
    "setpo": {"advantage", "solution_classes"},
    "entropy_bonus": {"entropy_bonus", "entropy"},
    "entropy_adaptive": {"entropy_bonus", "entropy"},
    "clip_cov": {"surrogate"},
    "kl_cov": {"surrogate", "updates"},
    "cispo": {"surrogate", "updates", "aggregation", "clip_low", "clip_high"},
}
QUICK = {"set_objective", "cispo"}


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("name", SWITCHES)
def test_a_file_differs_from_grpo_by_its_switches_alone(name: str) -> None:
    own, plain = read(FOLDER / f"{name}.yaml"), read(GRPO_FILE)
    settings, base = own["model"].pop("init_args"), plain["model"].pop("init_args")
    assert own.pop("run_dir") == f"runs/diversity/{name}" and settings.pop("method") == name
    switches = settings.pop("objective")["init_args"]
    del plain["run_dir"], base["method"], base["objective"]
    found = set(switches) | {key for key in settings if settings[key] != base.get(key)}
    assert found == SWITCHES[name] and own == plain and base.items() <= settings.items()


def test_the_readme_explains_every_file() -> None:
    text = (FOLDER / "README.md").read_text()
    assert "## Baselines" in text
    for name in SWITCHES:
        assert f"- [{name}.yaml]({name}.yaml)" in text and (FOLDER / f"{name}.yaml").exists()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SWITCHES]
)
def test_a_file_parses_behind_the_small_overlays(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    files = [f"experiments/diversity/{name}.yaml", *(f"experiments/_base/overlay/{file}.yaml" for file in OVERLAYS)]
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", *(part for file in files for part in ("--config", file)), "--print_config"])
    printed = capsys.readouterr()
    assert stop.value.code == 0, printed.err
    settings = yaml.safe_load(printed.out)["model"]["init_args"]
    assert settings["num_samples"] == 4 and settings["method"] == name
    objective = settings["objective"]["init_args"]
    given = read(FOLDER / f"{name}.yaml")["model"]["init_args"]["objective"]["init_args"]
    assert all(objective[key] == value or key == "surrogate" for key, value in given.items())
