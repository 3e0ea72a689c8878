"""Callbacks read modules through ``module_interfaces``: the real ones offer it, others are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.callbacks.export import ExportModel
from lightning_gfn.callbacks.predictions import PredictionWriter
from lightning_gfn.callbacks.proof_files import ProofFiles
from lightning_gfn.callbacks.proof_search import ProofSearch
from lightning_gfn.callbacks.reward_evaluation import RewardEvaluation
from lightning_gfn.callbacks.step_labels import StepLabelWriter
from lightning_gfn.module_interfaces import EvaluatedModule, MethodModule
from lightning_gfn.modules.distillation import DistillationModule
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.preference import PreferenceModule
from lightning_gfn.modules.reward_model import RewardModelModule
from lightning_gfn.modules.settings import EvaluationSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.preference_types import Judgement

MODULES = [GFlowNetModule, PolicyGradientModule, DistillationModule, PreferenceModule, SFTModule]


class Foreign(pl.LightningModule):
    """A module of another library."""

    def __init__(self, outputs: Any = ()) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.outputs = list(outputs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weight.square().sum()

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return self.outputs

    predict_step = test_step


@pytest.mark.parametrize("module", MODULES)
def test_real_modules_offer_what_callbacks_read(module: type) -> None:
    assert issubclass(module, EvaluatedModule) and not getattr(module, "__abstractmethods__", None)
    assert issubclass(RewardModelModule, MethodModule) and not issubclass(RewardModelModule, EvaluatedModule)


def test_a_policy_module_says_how_it_decodes() -> None:
    policy = CausalLM(pretrained="none", max_new_tokens=7, min_new_tokens=2)
    module = SFTModule(policy, evaluation=EvaluationSettings(num_samples=3, top_p=0.5))
    decoding = module.decoding()
    assert decoding["num_samples"] == 3 and decoding["top_p"] == 0.5 and decoding["temperatures"] == (1.0,)
    assert (decoding["min_new_tokens"], decoding["max_new_tokens"]) == (2, 7)
    assert module.trained_model is policy and module.method == "sft" and module.environment_record() == {}


@pytest.mark.parametrize(
    ("callback", "stage", "outputs", "needed"),
    [
        (lambda: Evaluation(), "test", (), "EvaluatedModule"),
        (lambda: ProofSearch(), "test", (), "EvaluatedModule"),
        (lambda: ProofFiles(), "test", (), "EvaluatedModule"),
        (lambda: RewardEvaluation(), "test", (Judgement("a", 0, 0.5, 1.0),), "MethodModule"),
        (lambda: ExportModel(), "fit", (), "MethodModule"),
        (lambda: PredictionWriter(), "predict", (), "EvaluatedModule"),
        (lambda: StepLabelWriter(None), "predict", (), "EvaluatedModule"),  # type: ignore[arg-type]
    ],
)
def test_a_foreign_module_is_refused_by_name(
    make_trainer: Callable[..., pl.Trainer], callback: Any, stage: str, outputs: Any, needed: str
) -> None:
    chosen = callback()
    name = type(chosen).__name__
    trainer = make_trainer(chosen, max_steps=1)
    loader = DataLoader(range(2), batch_size=2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=rf"{name} cannot read Foreign: derive .*\.{needed}, or take {name} out"):
        getattr(trainer, stage)(Foreign(outputs), loader)
