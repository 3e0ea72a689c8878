"""Plain progress lines where there is no terminal."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_gfn.callbacks.progress import Progress, format_seconds


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3s"), (65, "1m05s"), (7620, "2h07m")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_lines_tell_step_loss_and_time_left(make_trainer: Any, replay: Any, capsys: Any) -> None:
    progress = Progress(every_n_seconds=0.0, label="run")
    trainer = make_trainer(progress, enable_progress_bar=True, max_steps=3)
    loader = replay.make_loader(replay.make_problems(6))
    trainer.fit(replay.ReplayModule(), loader, loader)
    trainer.test(replay.ReplayModule(), loader, verbose=False)
    trainer.predict(replay.ReplayModule(), loader, return_predictions=False)
    lines = capsys.readouterr().out.splitlines()
    train = [line for line in lines if line.startswith("[run] train step")]
    assert len(train) == 3
    assert train[0].startswith("[run] train step 1/3  train/loss 3")
    assert "left" in train[0]
    assert any("validate batch 3/3" in line for line in lines)
    assert any("test batch 3/3" in line for line in lines)
    assert any("predict batch 3/3" in line for line in lines)
    assert not any("%|" in line for line in lines)


def test_lines_keep_their_distance(make_trainer: Any, replay: Any, capsys: Any) -> None:
    trainer = make_trainer(Progress(every_n_seconds=1000.0), enable_progress_bar=True, max_steps=20)
    trainer.fit(replay.ReplayModule(), replay.make_loader(replay.make_problems(6)))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("train step")]
    assert [line.split()[2] for line in lines] == ["1/20", "20/20"]


def test_a_terminal_keeps_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    progress = Progress()
    assert progress.is_enabled and not progress.plain
