"""Plain progress lines where there is no terminal."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from lightning_gfn.callbacks.common.console import write_line
from lightning_gfn.callbacks.common.progress_values import TokenRate
from lightning_gfn.callbacks.common.shown_samples import training_sample
from lightning_gfn.callbacks.progress import Progress, format_seconds
from lightning_gfn.rollouts.rollout_batch import RolloutBatch
from lightning_gfn.types import LogReward, Problem, Rollouts, StepBatch


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
    assert train[0].startswith("[run] train step 1/3  loss 3")
    assert "left" in train[0]
    begun = "[run] training begins at step 0 of 3; figures follow its first step"
    assert [line for line in lines if "training begins" in line] == [begun] and lines.index(begun) < lines.index(
        train[0]
    )
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


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
@pytest.mark.parametrize(("rows", "drawn"), [(0, False), (24, True)])
def test_a_terminal_of_no_rows_gets_lines(rows: int, drawn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    termios = pytest.importorskip("termios")
    inner, outer = os.openpty()
    termios.tcsetwinsize(outer, (rows, 80))
    with open(outer, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert Progress().plain is not drawn
        monkeypatch.undo()
    os.close(inner)


class Terminal(io.StringIO):
    """A terminal that remembers what it was sent."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines that stand on it: carriage returns and cursor movements carried out."""
        rows, row, column = [""], 0, 0
        for token in re.findall(r"\x1b\[\d*[A-Za-z]|[\s\S]", self.getvalue()):
            if token == "\n":
                row, column = row + 1, 0
            elif token == "\r":
                column = 0
            elif token.endswith("A") and len(token) > 1:
                row = max(0, row - int(token[2:-1] or 1))
            elif len(token) == 1:
                rows += [""] * (row + 1 - len(rows))
                rows[row] = rows[row][:column].ljust(column) + token + rows[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in rows if line.strip()]


class Table(Callback):
    """Prints its figures last, as ``Evaluation`` does."""

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        write_line("a table\nof figures")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        write_line("a table\nof figures")


@pytest.mark.parametrize("stage", ["test", "validate"])
@pytest.mark.parametrize("table_first", [True, False])
def test_figures_stand_below_the_bar_that_has_ended(
    make_trainer: Any, replay: Any, monkeypatch: pytest.MonkeyPatch, stage: str, table_first: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    callbacks = [Table(), Progress(sample_every=0)]
    trainer = make_trainer(*(callbacks if table_first else callbacks[::-1]), enable_progress_bar=True)
    getattr(trainer, stage)(replay.ReplayModule(), replay.make_loader(replay.make_problems(6)), verbose=False)
    screen = terminal.screen()
    assert screen[-2:] == ["a table", "of figures"] and "3/3" in screen[-3]
    assert sum("3/3" in line for line in screen) == 1


def test_a_sample_of_a_test_names_the_step_of_its_weights(make_trainer: Any, replay: Any, tmp_path: Path) -> None:
    progress = Progress()
    loader = replay.make_loader(replay.make_problems(6))
    fitted = make_trainer(Progress(), enable_progress_bar=True, max_steps=2)
    fitted.fit(replay.ReplayModule(), loader)
    fitted.save_checkpoint(tmp_path / "two.ckpt")
    trainer = make_trainer(progress, enable_progress_bar=True)
    trainer.test(replay.ReplayModule(), loader, ckpt_path=tmp_path / "two.ckpt", verbose=False)
    assert trainer.global_step == 0 and progress._loaded_step == 2


class Sampling:
    """What a rollout module keeps of its latest batch."""

    def __init__(self, completion: str = "It is\n\x1b[2J4.", correct: bool = True) -> None:
        mask = torch.ones(2, 3, dtype=torch.bool)
        ids = torch.zeros(2, 3, dtype=torch.long)
        problem = Problem(id="p", prompt="How much is 2 + 2?" + "\n", answer="4")
        rollouts = Rollouts(
            (problem,), torch.tensor([0, 0]), torch.tensor([0, 1]), StepBatch(ids, mask, ids, mask),
            ("replayed", completion), ("replay", "on_policy"), correct_B=torch.tensor([False, correct]),
        )  # fmt: skip
        self.latest_rollouts = RolloutBatch(rollouts, LogReward(torch.tensor([0.0, -1.25])), 6, 2)


def test_a_sample_has_prompt_completion_and_reward_and_no_control_characters() -> None:
    text = training_sample(Sampling(), 7)
    assert text is not None and text.splitlines() == [
        "sample at step 7 (on_policy, right, log reward -1.25, 3 tokens):",
        "  | How much is 2 + 2?",
        "  | ",
        "  > It is",
        "  > \\x1b[2J4.",
    ]
    assert "wrong" in str(training_sample(Sampling(correct=False), 7))
    assert training_sample(object(), 7) is None
    long = training_sample(Sampling("x" * 1000), 7)
    assert long is not None and long.endswith("x [200 more characters]")


@pytest.mark.parametrize(("every", "steps"), [(2, [1, 2, 4]), (3, [1, 3]), (0, [])])
def test_samples_come_at_the_first_step_and_every_so_often(
    make_trainer: Any, replay: Any, capsys: Any, every: int, steps: list[int]
) -> None:
    class Rolling(replay.ReplayModule):  # type: ignore[name-defined, misc]
        latest_rollouts = Sampling().latest_rollouts

    trainer = make_trainer(Progress(every_n_seconds=1000, sample_every=every), enable_progress_bar=True, max_steps=4)
    trainer.fit(Rolling(), replay.make_loader(replay.make_problems(6)))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sample at step")]
    assert [int(line.split()[3]) for line in lines] == steps


def test_each_validation_shows_a_sample(make_trainer: Any, replay: Any, capsys: Any) -> None:
    trainer = make_trainer(Progress(label="a"), enable_progress_bar=True, max_steps=3)
    loader = replay.make_loader(replay.make_problems(6))
    trainer.fit(replay.ReplayModule(), loader, loader)
    lines = [line for line in capsys.readouterr().out.splitlines() if "validation sample" in line]
    assert lines == ["[a] validation sample at step 3 (wrong, 10 tokens):"]


def test_the_line_shows_what_explains_a_run(make_trainer: Any, replay: Any, capsys: Any) -> None:
    class Rolling(replay.ReplayModule):  # type: ignore[name-defined, misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            known = {"log_reward_mean": -2.0, "solve_rate_on_policy": 0.25, "truncated_share": 0.5, "other": 1.0}
            self.log_dict({f"train/{name}": value for name, value in known.items()}, batch_size=1)
            return super().training_step(batch, batch_idx)

    trainer = make_trainer(Progress(every_n_seconds=0.0), enable_progress_bar=True, max_steps=2)
    trainer.fit(Rolling(), replay.make_loader(replay.make_problems(6)))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("train step 1/2"))
    assert line.startswith("train step 1/2  loss 3  log_reward -2  solved 0.25  cut 0.5  tokens/s ")
    assert float(line.split("tokens/s ")[1].split()[0]) > 0 and line.endswith("left") and "other" not in line
    trainer = make_trainer(
        Progress(every_n_seconds=0.0, metrics=["train/other"]), enable_progress_bar=True, max_steps=2
    )
    trainer.fit(Rolling(), replay.make_loader(replay.make_problems(6)))
    assert "train step 1/2  train/other 1  " in capsys.readouterr().out


def test_the_rate_counts_sampled_tokens_else_those_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 14.0, 20.0, 21.0])
    monkeypatch.setattr("lightning_gfn.callbacks.common.progress_values.time.monotonic", lambda: next(now))
    rate = TokenRate()
    assert rate.take() is None
    rate.start()
    rate.add({"generated_tokens": 100, "gradient_tokens": 400})
    assert rate.take() == 25.0
    rate.start()
    rate.add({"generated_tokens": 0, "gradient_tokens": 50})
    assert rate.take() == 50.0 and rate.take() is None


def test_the_bar_counts_the_steps_of_the_run(
    make_trainer: Any, replay: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    trainer = make_trainer(Progress(), enable_progress_bar=True, max_steps=5)
    trainer.fit(replay.ReplayModule(), replay.make_loader(replay.make_problems(6)))
    drawn = capsys.readouterr().out.replace("\r", "\n").splitlines()
    last = [line for line in drawn if line.startswith("train step")][-1]
    assert last.startswith("train step 5/5 |") and "loss=" in last and "tokens/s=" in last


def test_negative_distances_are_refused() -> None:
    with pytest.raises(ValueError, match="sample_every=-1"):
        Progress(sample_every=-1)
