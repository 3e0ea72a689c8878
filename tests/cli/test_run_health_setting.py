"""Warnings of a run that cannot be what was meant are on by default and can be switched off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., int]
LATE = ("--trainer.val_check_interval", "100", "--trainer.check_val_every_n_epoch", "null", "--trainer.max_steps", "2")


def test_warnings_are_printed_and_kept(run: Run, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", *LATE) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if "WARNING" in line]
    assert len(printed) == 1 and "late_validation" in printed[0] and "trainer.val_check_interval" in printed[0]
    assert (workspace / "run" / "warnings.txt").read_text().splitlines() == printed


def test_they_can_be_switched_off(run: Run, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", *LATE, "--run_health", "false") == 0
    assert "WARNING" not in capsys.readouterr().out and not (workspace / "run" / "warnings.txt").exists()


def test_a_callback_of_ones_own_settings_takes_its_place(
    run: Run, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "lightning_gfn.callbacks.run_health.RunHealth"
    chosen = ("--trainer.callbacks+", own, "--trainer.callbacks.ignore", "[late_validation]")
    assert run("fit", *LATE, *chosen) == 0
    assert "WARNING" not in capsys.readouterr().out


def test_a_run_that_has_ended_already_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "--trainer.max_steps", "4") == 0
    assert "WARNING" not in capsys.readouterr().out
    assert run("fit", "--trainer.max_steps", "4", "--if_exists", "resume") == 0
    assert "no_batch" in (out := capsys.readouterr().out) and "reached step 4" in out
