"""The overlays of SmolLM2 fit every file of ``experiments/math``, and keep what belongs to a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_gfn import cli

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "experiments" / "math").glob("*.yaml"))
SUPERVISED = {"sft", "rft", "star"}
FROM_PAIRS = {"dpo", "ipo", "kto"}
QUICK = {"sft", "ppo", "dpo", "process_reward"}
NETWORKS = {"process_reward", "outcome_reward"}


def overlays(name: str) -> list[str]:
    """The overlays that a file of ``experiments/math`` takes."""
    if name in NETWORKS:
        return ["reward"]
    if name in SUPERVISED:
        return ["base", "sft"]
    return ["base"] if name in FROM_PAIRS else ["base", "rollouts"]


def parsed(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The configuration of a file under its overlays."""
    files = [
        f"experiments/math/{name}.yaml",
        *(f"experiments/_base/overlay/smollm2/{overlay}.yaml" for overlay in overlays(name)),
    ]
    with pytest.raises(SystemExit) as stop:
        cli.main(["run", *(part for file in files for part in ("--config", file)), "--print_config"])
    printed = capsys.readouterr()
    assert stop.value.code == 0, printed.err
    return dict(yaml.safe_load(printed.out))


@pytest.mark.parametrize(
    "name", [pytest.param(path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in FILES]
)
def test_every_method_gets_the_model(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    plain = yaml.safe_load((ROOT / "experiments" / "math" / f"{name}.yaml").read_text())
    config = parsed(name, capsys)
    settings = config["model"]["init_args"]
    model = settings["network" if name in NETWORKS else "policy"]["init_args"]
    assert (model["pretrained"], model["lora"], model["dtype"]) == ("smollm2-135m", None, "float32")
    assert config["trainer"]["accelerator"] == "cpu" and config["trainer"]["max_steps"] == 30
    own = plain["model"]["init_args"]
    assert settings["method"] == own["method"]
    for key in ("objective", "updates", "kl", "head", "teacher", "resample"):
        for field, value in own.get(key, {}).get("init_args", {}).items():
            assert settings[key]["init_args"][field] == value, f"{key}.{field}"
    if "head_lr" in own["optimizer"]:
        assert settings["optimizer"]["head_lr"] == own["optimizer"]["head_lr"]
