"""Every study of the clone can be planned, and the commands of its stages parse against the classes they configure."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_gfn import cli
from lightning_gfn.studies.plan import TRAINER_COMMANDS, read_study
from lightning_gfn.studies.stages import Stage

ROOT = Path(__file__).parents[1]
STUDIES = sorted((ROOT / "experiments" / "studies").glob("*.yaml"))


def trainer_stages(path: Path) -> list[Stage]:
    """One stage for each name: a search's candidates and the seeds differ in numbers alone."""
    stages = {stage.name.split(".search")[0]: stage for stage in read_study(path).stages.values()}
    return [stage for stage in stages.values() if set(stage.commands) <= set(TRAINER_COMMANDS)]


def test_there_are_studies() -> None:
    assert len(STUDIES) >= 2


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_can_be_planned(path: Path) -> None:
    study = read_study(path)
    assert study.stages and all(need in study.stages for stage in study.stages.values() for need in stage.needs)
    assert str(study.output).startswith("runs/"), "git ignores runs/"


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_commands_of_stages_are_understood(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    stages = trainer_stages(Path("experiments/studies") / path.name)
    assert stages
    for stage in stages:
        chosen = stage.choice.candidates[0][1] if stage.choice is not None else ()
        for command in stage.command_lines(chosen):
            with pytest.raises(SystemExit) as stop:
                cli.main([*command, "--print_config"])
            printed = capsys.readouterr()
            assert stop.value.code == 0, f"{stage.name}: {printed.err}"
            assert "class_path" in printed.out
