from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_gfn import cli

HEAVY = ["torch", "lightning", "transformers", "mlflow", "jsonargparse", "matplotlib", "numpy"]


def imported_by(code: str) -> list[str]:
    """Heavy packages that a fresh process has imported after running the code."""
    script = f"import json, sys\n{code}\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_overview_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    commands = [*cli.TRAINER_COMMANDS, *cli.command_files()]
    assert len(commands) >= 6
    for command in commands:
        line = next(line for line in printed.splitlines() if line.split()[:1] == [command])
        assert len(line.split()) > 2, f"{command} has no one-line help"


def test_help_and_import_are_light() -> None:
    assert imported_by("import lightning_gfn.cli\nlightning_gfn.cli.main(['--help'])") == []
    assert imported_by("import torch") == ["torch", "numpy"], "the check itself must see a heavy import"


def test_every_command_has_a_light_help() -> None:
    names = sorted(cli.command_files())
    assert names
    for name in names:
        call = f"lightning_gfn.cli.main(['{name}', '--help'])"
        code = f"import lightning_gfn.cli\ntry:\n    {call}\nexcept SystemExit:\n    pass"
        assert "torch" not in imported_by(code), name


def test_mlflow_is_imported_only_where_a_run_is_tracked() -> None:
    """Reading the command line must not cost its import."""
    call = (
        "cli.main(['fit', '--run_dir', 'x', '--model', 'lightning.pytorch.demos.boring_classes.BoringModel', "
        "'--print_config'])"
    )
    code = f"from lightning_gfn import cli\ntry:\n    {call}\nexcept SystemExit as stop:\n    assert not stop.code"
    assert set(imported_by(code)) & {"mlflow", "jsonargparse"} == {"jsonargparse"}


def test_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["quikstart"]) == 2
    assert "did you mean quickstart?" in capsys.readouterr().err
    assert cli.main(["zzz"]) == 2
    assert "--help" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == cli.__version__


def test_a_command_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wave.py").write_text('"""Wave a hand.\n\nMore text."""\n')
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(cli, "COMMANDS_FOLDER", tmp_path)
    assert cli.main([]) == 0
    printed = capsys.readouterr().out
    assert "wave" in printed and "Wave a hand." in printed and "More text" not in printed
