"""Each rule speaks in a run that has its fault, once and at the end, and is silent in a healthy one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch.utils.data import DataLoader

from lightning_gfn.callbacks.health.rules import PATIENCE, SOURCE_PATIENCE, TRAINING_RULES, source_rules
from lightning_gfn.callbacks.run_health import RunHealth
from lightning_gfn.types import Source

Values = Callable[[int], dict[str, float]]
HEALTHY = {
    "train/truncated_share": 0.5, "train/solve_rate_on_policy": 0.0, "train/zero_advantage_fraction": 0.5,
    "train/with_feedback": 0.5, "train/grad_norm": 1.0, "train/loss": 0.1,
    "train/share_replay": 0.1, "train/share_reference": 0.1, "train/share_search": 0.1,
}  # fmt: skip
FAULTS = {
    "not_finite": {"train/loss": math.nan},
    "gradient_not_finite": {"train/grad_norm": math.inf},
    "truncated": {"train/truncated_share": 1.0},
    "never_solved": {"train/solve_rate_on_policy": 0.0},
    "equal_groups": {"train/zero_advantage_fraction": 1.0},
    "no_feedback": {"train/with_feedback": 0.0},
    "no_gradient": {"train/grad_norm": 0.0},
    "no_loss": {"train/loss": 0.0},
    "waiting": {"train/idle_share": 0.9, "train/staleness": 1.0},
    "no_replay": {"train/share_replay": 0.0},
    "no_reference": {"train/share_reference": 0.0},
    "no_search": {"train/share_search": 0.0},
}


class Told(pl.LightningModule):
    """Logs what it is told to at each step."""

    def __init__(self, values: Values, lr: float = 0.1) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.values, self.lr = values, lr
        self.asked_sources: frozenset[Source] = frozenset({"on_policy", "tempered", "replay", "reference", "search"})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log_dict(self.values(self.global_step), batch_size=1)
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Nothing."""


def healthy(step: int) -> dict[str, float]:
    """A run that is right now and then: every third step."""
    return {**HEALTHY, "train/solve_rate_on_policy": 0.1 if step % 3 == 2 else 0.0}


def faulty(name: str) -> Values:
    """A healthy run but for one metric."""
    without = [key for rule in TRAINING_RULES if rule.name == name for key in rule.without]
    return lambda step: {k: v for k, v in {**healthy(step), **FAULTS[name]}.items() if k not in without}


Fit = Callable[..., list[str]]


@pytest.fixture
def fit(make_trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fit:
    """Train a module that logs what it is told; returns the names of the warnings in order, as printed."""

    def run(
        values: Values, *, health: RunHealth | None = None, lr: float = 0.1, val: Any = None, **options: Any
    ) -> Any:
        callbacks = [health if health is not None else RunHealth(), *options.pop("callbacks", [])]
        trainer = make_trainer(*callbacks, **{"max_steps": 60, **options})
        trainer.fit(Told(values, lr), DataLoader([0.0] * 7), val)
        printed = [line for line in capsys.readouterr().out.splitlines() if "WARNING" in line]
        path = tmp_path / "warnings.txt"
        assert (path.read_text().splitlines() if path.is_file() else []) == printed
        return [line.split("WARNING (")[1].split(")")[0] for line in printed]

    return run


def test_every_rule_has_its_fault_here() -> None:
    rules = [*TRAINING_RULES, *source_rules({"on_policy", "tempered", "replay", "reference", "search"})]
    assert [rule.name for rule in rules] == list(FAULTS)


def test_a_healthy_run_hears_nothing(fit: Fit) -> None:
    assert fit(healthy) == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_said_when_it_has_lasted_and_at_the_end(fit: Fit, name: str) -> None:
    rules = {rule.name: rule.patience for rule in TRAINING_RULES}
    patience = rules.get(name, SOURCE_PATIENCE)
    said = fit(faulty(name))
    assert said == [f"{name}, step {patience}", f"{name}, step 60, from the first batch to the last"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_rule_taken_out_is_silent(fit: Fit, name: str) -> None:
    assert fit(faulty(name), health=RunHealth(ignore=(name,))) == []


def test_a_short_run_hears_it_at_the_end(fit: Fit) -> None:
    said = fit(faulty("never_solved"), max_steps=6, log_every_n_steps=50)
    assert said == ["never_solved, step 6, from the first batch to the last"]


def test_a_fault_that_passes_is_not_repeated_at_the_end(fit: Fit) -> None:
    said = fit(lambda step: (faulty("truncated") if step < 15 else healthy)(step))
    assert said == [f"truncated, step {PATIENCE}"]


def test_a_fault_that_comes_back_is_said_once(fit: Fit) -> None:
    said = fit(lambda step: (healthy if 20 <= step < 25 else faulty("truncated"))(step))
    assert said == [f"truncated, step {PATIENCE}"]


def test_one_value_between_breaks_the_row(fit: Fit) -> None:
    said = fit(lambda step: (healthy if step % PATIENCE == 4 else faulty("no_gradient"))(step))
    assert said == []


def test_a_cause_speaks_for_what_it_explains(fit: Fit) -> None:
    def cut(step: int) -> dict[str, float]:
        names = ("truncated", "never_solved", "equal_groups", "no_gradient")
        return {**healthy(step), **{k: v for name in names for k, v in FAULTS[name].items()}}

    assert {line.split(",")[0] for line in fit(cut)} == {"truncated"}


def test_looks_keep_to_the_logged_steps(fit: Fit) -> None:
    said = fit(lambda step: (faulty("truncated") if step < 45 else healthy)(step), log_every_n_steps=20)
    assert said == ["truncated, step 20"]


def test_an_old_value_is_no_new_observation(fit: Fit) -> None:
    """Logged once, the value stays among the trainer's; that is not a fault that lasts."""

    def once(step: int) -> dict[str, float]:
        values = healthy(step)
        solved = values.pop("train/solve_rate_on_policy")
        return values | ({"train/solve_rate_on_policy": 0.0 * solved} if step == 0 else {})

    assert fit(once) == ["never_solved, step 60, from the first batch to the last"]


def test_patience_can_be_set(fit: Fit) -> None:
    assert fit(faulty("truncated"), health=RunHealth(patience=3))[0] == "truncated, step 3"
    with pytest.raises(ValueError, match="patience=0"):
        RunHealth(patience=0)


def test_a_source_that_nobody_asks_for_may_be_empty() -> None:
    assert [rule.name for rule in source_rules({"on_policy", "reference"})] == ["no_reference"]


# ---------------------------------------------------------------- what the settings show


def test_a_learning_rate_of_zero_is_said_at_the_start(fit: Fit) -> None:
    assert fit(healthy, lr=0.0) == ["no_learning_rate, step 0"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"val_check_interval": 61, "check_val_every_n_epoch": None}, ["late_validation, step 0"]),
        ({"val_check_interval": 60, "check_val_every_n_epoch": None}, []),
        ({"check_val_every_n_epoch": 9}, ["late_validation, step 0"]),
        ({"check_val_every_n_epoch": 8}, []),
        ({"check_val_every_n_epoch": 8, "accumulate_grad_batches": 2, "max_steps": 28}, []),
        ({"check_val_every_n_epoch": 9, "max_steps": -1, "max_epochs": 8}, ["late_validation, step 0"]),
        ({"check_val_every_n_epoch": 9, "limit_val_batches": 0}, []),
    ],
)
def test_a_validation_that_never_comes_is_said(fit: Fit, options: dict[str, Any], said: list[str]) -> None:
    assert fit(healthy, val=DataLoader([0.0]), **options) == said


def test_a_monitor_without_validation_is_said(fit: Fit) -> None:
    stopping = EarlyStopping(monitor="val/solve_rate", strict=False)
    assert fit(healthy, val=DataLoader([0.0]), limit_val_batches=0, callbacks=[stopping]) == ["no_validation, step 0"]


def test_empty_validation_data_are_said(fit: Fit) -> None:
    assert fit(healthy, val=DataLoader([])) == ["no_validation_data, step 0"]  # type: ignore[arg-type]


def test_a_fit_without_a_batch_is_said(fit: Fit) -> None:
    assert fit(healthy, limit_train_batches=0) == ["no_batch, step 0"]


def test_a_test_without_data_is_said(make_trainer: Any, replay: Any, capsys: Any) -> None:
    make_trainer(RunHealth()).test(replay.ReplayModule(), DataLoader([]), verbose=False)
    assert "WARNING (no_data, step 0): test saw no data" in capsys.readouterr().out
    make_trainer(RunHealth()).test(replay.ReplayModule(), replay.make_loader(replay.make_problems(2)), verbose=False)
    assert "WARNING" not in capsys.readouterr().out
