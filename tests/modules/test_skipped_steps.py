"""Optimiser steps that are not finite are left out, counted and described; too many in a row end the run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn.callbacks.skipped_steps import SkippedStepDump
from lightning_gfn.finite import NotFiniteError
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.tracking.checkpoints import RunCheckpoint
from lightning_gfn.types import LossOutput, Problem


def batches(problems: list[Problem], repeats: int) -> DataLoader:
    return DataLoader(problems * repeats, batch_size=3, collate_fn=list)


def changed(step: int, change: Callable[[LossOutput], LossOutput]) -> type[SFTModule]:
    """SFT whose loss is changed in one optimiser step."""

    class Changed(SFTModule):
        def window_loss(self, output: LossOutput) -> torch.Tensor:
            return super().window_loss(change(output) if self.global_step == step else output)

    return Changed


def scaled(factor: float) -> Callable[[LossOutput], LossOutput]:
    return lambda output: LossOutput(output.sum * factor, output.weight, output.diagnostics)


def nothing(output: LossOutput) -> LossOutput:
    """A window without anything to learn from, which drops the gradient by another path."""
    return LossOutput(0.0 * output.sum, torch.zeros(()), output.diagnostics)


def fitted(make: Any, make_policy: Any, make_trainer: Any, letters: list[Problem], **settings: Any) -> Any:
    module = make(make_policy(), optimizer=OptimizerSettings(lr=0.05, warmup_steps=3, weight_decay=0.1, **settings))
    make_trainer(5).fit(module, batches(letters, 5))
    return module


@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e38])
def test_a_step_that_is_not_finite_changes_nothing(make_policy, make_trainer, letters, factor) -> None:
    """Weights, moments and the rest of the run are those of a run in which that step had nothing to learn from."""
    skipped = fitted(changed(2, scaled(factor)), make_policy, make_trainer, letters)
    without = fitted(changed(2, nothing), make_policy, make_trainer, letters)
    plain = fitted(SFTModule, make_policy, make_trainer, letters)
    assert skipped.skipped.total == 1 and skipped.skipped.in_a_row == 0 and without.skipped.total == 0
    for (name, p), other in zip(skipped.named_parameters(), without.parameters(), strict=True):
        assert torch.equal(p, other) and p.isfinite().all(), name
    assert any(not torch.equal(p, q) for p, q in zip(skipped.parameters(), plain.parameters(), strict=True))
    states = [module.optimizers(False).state_dict()["state"] for module in (skipped, without)]
    assert str(states[0]) == str(states[1])


def test_too_many_in_a_row_end_the_run_with_cause_and_place(make_policy, make_trainer, letters, tmp_path) -> None:
    class Lost(SFTModule):
        def window_loss(self, output: LossOutput) -> torch.Tensor:
            lost = self.global_step >= 2
            return super().window_loss(scaled(math.nan)(output) if lost else output)

    module = Lost(make_policy(), optimizer=OptimizerSettings(lr=1e-3, max_skipped_steps=3))
    trainer = make_trainer(
        20,
        default_root_dir=tmp_path,
        callbacks=[SkippedStepDump(), RunCheckpoint(every_n_train_steps=1)],
        enable_checkpointing=True,
    )
    with pytest.raises(NotFiniteError, match=r"since step 2 .* of 3 steps in a row .*(?s:.)*lower model.optimizer.lr"):
        trainer.fit(module, batches(letters, 20))
    assert trainer.global_step == 5 and all(p.isfinite().all() for p in module.parameters())
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2, "no checkpoint is written while steps are left out"
    dumps = sorted((tmp_path / "skipped_steps").iterdir())
    assert [path.name for path in dumps] == [f"step-{n:08d}.json" for n in (2, 3, 4)]
    first = json.loads(dumps[0].read_text())
    assert first["batches"][0]["examples"][0]["id"] == "p0" and first["skipped_in_a_row"] == 1
    assert first["batches"][0]["metrics"]["train/grad_norm"] == "nan"


def test_the_row_begins_anew_after_a_good_step(make_policy, make_trainer, letters) -> None:
    class Every(SFTModule):
        def window_loss(self, output: LossOutput) -> torch.Tensor:
            return super().window_loss(scaled(math.nan)(output) if self.global_step % 2 else output)

    module = Every(make_policy(), optimizer=OptimizerSettings(lr=1e-3, max_skipped_steps=2))
    make_trainer(8).fit(module, batches(letters, 8))
    assert module.skipped.total == 4


def test_rewards_of_extreme_size_are_named_as_the_cause(make_policy, make_trainer, letters) -> None:
    reward = FunctionReward(function=lambda completions, **_: [-1e20 * (i % 2) for i, _ in enumerate(completions)])
    settings = OptimizerSettings(lr=1e-3, max_skipped_steps=2)
    module = GFlowNetModule(make_policy(), VarGrad(), reward, num_samples=4, optimizer=settings)
    with pytest.raises(NotFiniteError, match="log rewards as large as -1e[+]20"):
        make_trainer(9).fit(module, batches(letters, 9))


def test_weights_that_are_not_finite_are_never_saved(make_policy, make_trainer, letters, tmp_path, capsys) -> None:
    class Poisoned(SFTModule):
        def on_before_zero_grad(self, optimizer: Any) -> None:
            if self.global_step == 3:
                next(p for name, p in self.named_parameters() if ".layers." in name).data.view(-1)[0] = math.inf

    module = Poisoned(make_policy(), optimizer=OptimizerSettings(lr=1e-3, max_skipped_steps=2))
    trainer = make_trainer(
        9, default_root_dir=tmp_path, callbacks=[RunCheckpoint(every_n_train_steps=1)], enable_checkpointing=True
    )
    with pytest.raises(NotFiniteError, match="1 weights are not finite themselves"):
        trainer.fit(module, batches(letters, 9))
    for path in (tmp_path / "checkpoints").glob("*.ckpt"):
        state = torch.load(path, weights_only=True)["state_dict"]
        assert all(value.isfinite().all() for value in state.values() if value.is_floating_point()), path
    assert "checkpoint not saved at step" in capsys.readouterr().out


def test_counts_go_on_from_a_checkpoint(make_policy, make_trainer, letters) -> None:
    module = fitted(changed(2, scaled(math.nan)), make_policy, make_trainer, letters)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    other = fitted(SFTModule, make_policy, make_trainer, letters)
    other.on_load_checkpoint(checkpoint)
    assert other.skipped.state_dict() == module.skipped.state_dict() != {"total": 0, "in_a_row": 0, "first": 0}


def test_sampling_from_a_lost_model_says_so(make_policy, make_trainer, letters) -> None:
    reward = FunctionReward(function=lambda completions, **_: [0.0] * len(completions))
    module = GFlowNetModule(make_policy(), VarGrad(), reward, num_samples=2)
    make_trainer(1).fit(module, batches(letters, 1))
    name, weight = next((n, p) for n, p in module.named_parameters() if p.requires_grad)
    weight.data.fill_(math.nan)
    with pytest.raises(NotFiniteError, match=name.removeprefix("policy.model.").replace(".", r"\.")):
        make_trainer(2).fit(module, batches(letters, 2))


@pytest.mark.parametrize("value", [0, -1])
def test_the_limit_is_at_least_one(value: int) -> None:
    with pytest.raises(ValueError, match="max_skipped_steps"):
        OptimizerSettings(max_skipped_steps=value)
