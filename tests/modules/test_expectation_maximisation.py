"""E-step by a GFlowNet, M-step by supervised fine-tuning on its samples, against enumeration of all rationales."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from datamodules.common.base import ProblemDataModule, Split
from datamodules.inference.posterior_samples import PosteriorSamples
from lightning_gfn.callbacks.predictions import prediction_rows
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.rewards.joint import JointLikelihood
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.types import Problem

LABELS = {"first": "=u", "second": "=v"}
PROBLEMS = [
    Problem(id=f"p{n}", prompt=prompt, answer=answer, evidence=LABELS[answer], labels=LABELS)
    for n, (prompt, answer) in enumerate([("ab", "first"), ("ba", "second")])
]
RATIONALES = ["".join(word) for n in (1, 2) for word in product("abc", repeat=n)]
LETTERS: dict[str, Any] = {
    "max_prompt_tokens": 8, "min_new_tokens": 1, "max_new_tokens": 2, "allowed_tokens": ["a", "b", "c"],
}  # fmt: skip


class TwoProblems(ProblemDataModule):
    """The problems above."""

    def load_split(self, split: Split) -> list[Problem]:
        return PROBLEMS if split == "train" else []


def log_joint(folder: str, problem: Problem) -> torch.Tensor:
    """log p(z, y | x) of every rationale by the saved model's own passes."""
    policy = CausalLM(pretrained=folder, **LETTERS)
    policy.build(())
    assert problem.evidence is not None
    prompt, values = policy.encode_prompt(problem.prompt), []
    for z in RATIONALES:
        ids = policy.encode_completion(z + problem.evidence)
        with torch.no_grad():
            logits = policy.hugging_face(torch.tensor([prompt + ids])).logits[0].double().log_softmax(-1)
        values.append(sum(logits[len(prompt) + t - 1, token] for t, token in enumerate(ids)))
    return torch.stack(values)


def fitted(trainer: L.Trainer, module: Any, data: ProblemDataModule, folder: Path) -> str:
    trainer.fit(module, datamodule=data)
    module.policy.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_each_round_raises_the_marginal_likelihood_of_the_labels(tmp_path: Path, make_trainer: Any) -> None:
    """log p(y | x) = log Σ_z p(z, y | x) rises, and the samples of the E-step have the posterior's shares."""
    torch.manual_seed(0)
    sizes = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.25,
    }  # fmt: skip
    start = CausalLM(config=sizes, **LETTERS)
    start.build(())
    start.save_pretrained(tmp_path / "model0")
    folder = str(tmp_path / "model0")
    marginal = [sum(float(log_joint(folder, problem).logsumexp(0)) for problem in PROBLEMS)]
    data, behaviour = TwoProblems(batch_size=2), BehaviourMix(on_policy=0.5, tempered=0.5, temperature_low=1.0)
    for number in (1, 2):
        e_step = GFlowNetModule(
            CausalLM(pretrained=folder, **LETTERS), VarGrad(), JointLikelihood(), num_samples=32, behaviour=behaviour,
            optimizer=OptimizerSettings(lr=3e-3, schedule="linear"),
        )  # fmt: skip
        fitted(make_trainer(150), e_step, data, tmp_path / f"sampler{number}")
        records = sample_completions(e_step.policy, PROBLEMS, num_samples=400)
        for problem, record in zip(PROBLEMS, records, strict=True):
            posterior = log_joint(folder, problem).softmax(0)
            shares = torch.tensor([record.completions.count(z) / 400 for z in RATIONALES], dtype=torch.float64)
            assert 0.5 * float((shares - posterior).abs().sum()) < 0.15
        rows = [row for record in records for row in prediction_rows(record)]
        predictions = tmp_path / f"predictions{number}.jsonl"
        predictions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        m_step = SFTModule(
            CausalLM(pretrained=folder, max_prompt_tokens=8, max_new_tokens=8), optimizer=OptimizerSettings(lr=1e-3)
        )
        samples = PosteriorSamples(data, path=str(predictions), batch_size=64)
        folder = fitted(make_trainer(25), m_step, samples, tmp_path / f"model{number}")
        marginal.append(sum(float(log_joint(folder, problem).logsumexp(0)) for problem in PROBLEMS))
    assert marginal[0] + 0.5 < marginal[1] < marginal[2] - 0.2, marginal
