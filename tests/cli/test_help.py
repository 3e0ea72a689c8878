"""The help of the trainer's commands: short, light, complete, and the whole of it within reach."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from lightning import Callback, LightningDataModule, LightningModule

from lightning_gfn import cli
from lightning_gfn.interfaces import Objective, Policy, Reward
from lightning_gfn.lightning_cli.help.families import FAMILIES, choices, class_paths
from lightning_gfn.lightning_cli.help.main import topic_of

SCREENS = 66
BASES = {
    "modules": LightningModule,
    "data": LightningDataModule,
    "policies": Policy,
    "objectives": Objective,
    "rewards": Reward,
    "callbacks": Callback,
}
UNFINISHED = {"TrainedModule", "PolicyModule", "RolloutModule", "LanguagePolicy", "TextScoringLM", "TeachingLM"}
"""Public so that others can derive from them; not abstract in Python's sense."""


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    """What a command prints."""
    assert cli.main([*arguments]) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 else captured.err


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.word)
def test_a_family_is_what_its_base_class_says(family: object) -> None:
    package = import_module(family.package)  # type: ignore[attr-defined]
    public = {name: getattr(package, name) for name in package.__all__}
    right = {
        name
        for name, kind in public.items()
        if inspect.isclass(kind) and issubclass(kind, BASES[family.word])  # type: ignore[attr-defined]
        and not inspect.isabstract(kind) and name not in UNFINISHED
    }  # fmt: skip
    found = choices(family)  # type: ignore[arg-type]
    assert set(found) == right and len(found) >= 2
    for name, line in found.items():
        assert line and line == (inspect.getdoc(public[name]) or "").replace("``", "").splitlines()[0]


@pytest.mark.parametrize("command", cli.TRAINER_COMMANDS)
@pytest.mark.parametrize("asked", ["--help", "-h"])
def test_the_short_help_names_every_class_in_two_screens(
    capsys: pytest.CaptureFixture[str], command: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = told(capsys, command, asked)
    lines = text.splitlines()
    assert len(lines) <= SCREENS and max(map(len, lines)) <= 100
    assert f"lightning-gfn {command}" in lines[0] and cli.TRAINER_COMMANDS[command] in text
    for family in FAMILIES:
        assert family.package in text
        for name in choices(family):
            assert name in text, name
    assert "--help CLASS" in text and "--help all" in text and ("--if_exists" in text) == (command in ("fit", "run"))


def test_the_short_help_fits_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert max(map(len, told(capsys, "fit", "--help").splitlines())) <= 80, "headings are not broken, all else is"


@pytest.mark.parametrize("topic", ["", "objectives"])
def test_the_short_help_imports_nothing_heavy(topic: str) -> None:
    heavy = {"torch", "lightning", "transformers", "mlflow", "jsonargparse", "numpy"}
    arguments = ["fit", "--config", "nowhere.yaml", "--help", *([topic] if topic else [])]
    code = (
        f"import sys, lightning_gfn.cli as cli\nassert cli.main({arguments}) == 0\n"
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_one_class_shows_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "fit", "--help", "GRPO")
    assert "--model.objective lightning_gfn.objectives.GRPO" in text and "--model.objective.clip_low" in text
    assert "--data.num_train" in told(capsys, "test", "--help=SyntheticWordProblems")
    assert "no options" in told(capsys, "fit", "--help", "VarGrad")
    assert "--trainer.callbacks.ks" in told(capsys, "fit", "--help", "lightning_gfn.callbacks.evaluation.Evaluation")


def test_a_family_says_what_each_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "fit", "--help", "objectives")
    assert all(name in text for name in choices(FAMILIES[3])) and "Direct preference optimisation" in text


@pytest.mark.parametrize(
    ("topic", "option"),
    [
        ("trainer", "--trainer.max_steps"),
        ("checkpoint", "--checkpoint.monitor"),
        ("mlflow", "--mlflow.experiment_name"),
    ],
)
def test_groups_of_options_are_shown_in_full(capsys: pytest.CaptureFixture[str], topic: str, option: str) -> None:
    assert option in told(capsys, "fit", "--help", topic)


def test_the_whole_help_stays_within_reach(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["fit", "--help", "all"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and len(text.splitlines()) > 300
    for option in ("--trainer.max_steps", "--model.help", "--mlflow.tags", "--checkpoint.monitor", "--if_exists"):
        assert option in text


def test_a_class_of_ones_own(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "fit", "--help", "standins.NoisyModule")
    assert "A regression with noise" in text and "--kill_at_step" in text and "learning rate" in text


@pytest.mark.parametrize(("topic", "meant"), [("Vargrad", "VarGrad"), ("objective", "objectives"), ("GRP0", "GRPO")])
def test_a_misspelt_word_is_answered(capsys: pytest.CaptureFixture[str], topic: str, meant: str) -> None:
    assert f"did you mean {meant}?" in told(capsys, "fit", "--help", topic, status=2)


def test_an_unknown_word_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, "fit", "--help", "no.such.Thing", status=2)
    assert "objectives" in said and "trainer" in said and "Traceback" not in said


def test_where_help_is_asked_for() -> None:
    assert topic_of(["--config", "x.yaml"]) is None and topic_of(["--model.help", "X"]) is None
    assert topic_of(["-h"]) == topic_of(["--help", "--config", "x.yaml"]) == ""
    assert topic_of(["--config", "x.yaml", "--help", "GRPO"]) == topic_of(["--help=GRPO"]) == "GRPO"


def test_every_public_class_has_a_path() -> None:
    paths = class_paths()
    assert paths["LogZHead"] == "lightning_gfn.policies.LogZHead" and paths["GSM8K"] == "datamodules.GSM8K"
    assert all(inspect.isclass(getattr(import_module(p.rpartition(".")[0]), n)) for n, p in paths.items())
