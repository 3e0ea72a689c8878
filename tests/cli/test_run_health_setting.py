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


@pytest.mark.parametrize("command", ["fit", "run"])
@pytest.mark.parametrize(
    "end", [("--trainer.max_steps", "4"), ("--trainer.max_steps", "-1", "--trainer.max_epochs", "1")]
)
def test_a_run_that_has_ended_already_says_so_without_a_warning(
    run: Run, workspace: Path, capsys: pytest.CaptureFixture[str], command: str, end: tuple[str, ...]
) -> None:
    assert run(command, *end) == 0
    assert "WARNING" not in capsys.readouterr().out
    assert run(command, *end, "--if_exists", "resume") == 0
    said = capsys.readouterr().out
    step = 4 if end[1] == "4" else 6
    assert f"training has reached step {step} already" in said and "WARNING" not in said
    assert not (workspace / "run" / "warnings.txt").exists()


@pytest.mark.parametrize("resumed", [False, True])
def test_a_run_without_data_is_warned_of(run: Run, capsys: pytest.CaptureFixture[str], resumed: bool) -> None:
    assert not resumed or run("fit", "--trainer.max_steps", "4") == 0
    more = ("--if_exists", "resume") if resumed else ()
    assert run("fit", "--trainer.limit_train_batches", "0", *more) == 0
    said = capsys.readouterr().out
    assert "no_batch" in said and "trainer.limit_train_batches" in said
