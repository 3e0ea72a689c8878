"""Reward models in training: columns, regimes, resuming; from exact labels to the reward of a rollout method."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.common.order import TrainLoader
from datamodules.synthetic import SyntheticWordProblems
from lightning_gfn.metrics.functional.calibration import auroc
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.reward_model import RewardModelModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.likelihood import Likelihood
from lightning_gfn.objectives.reward_model import BradleyTerry
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.policies.reward_models.trained import TrainedRewardNetwork
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.preference_types import JudgedSolution, LabelledCompletion, Preference
from lightning_gfn.rewards.learned import LearnedReward
from lightning_gfn.rollouts.step_labels import ExactSolutions, attempt_of
from lightning_gfn.tracking.rng import RngState
from lightning_gfn.types import Problem

LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 192, "initializer_range": 0.1,
}  # fmt: skip
STEPWISE = [
    JudgedSolution("a", "x\n", ("1\n", "2\n", "3"), (1.0, None, 0.0)),
    JudgedSolution("b", "y\n", ("45",), (1.0,)),
    JudgedSolution("c", "z\n", ("6\n", "7"), (0.25, 1.0)),
]
PAIRS = [Preference("a", "x\n", "1\n2", "3"), Preference("b", "y\n", "4", "5\n6")]
Trainers = Callable[..., L.Trainer]


def network(**changes: Any) -> LanguageRewardNetwork:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"config": LLAMA, "tokenizer": TokenizerSettings(kind="byte"), "max_prompt_tokens": 64}
    return LanguageRewardNetwork(**{**settings, "max_completion_tokens": 100, **changes})


def built(module: RewardModelModule, make_trainer: Trainers, rows: list[Any]) -> RewardModelModule:
    """The module with its weights, the output moved away from zero."""
    make_trainer(0).fit(module, DataLoader(rows, batch_size=3, collate_fn=list))
    for parameter in module.network.output.parameters():
        torch.nn.init.normal_(parameter)
    return module


def test_labels_become_columns(make_trainer: Trainers) -> None:
    module = built(RewardModelModule(network()), make_trainer, STEPWISE)
    rows, columns, _ = module.label_columns(STEPWISE)
    assert rows == STEPWISE
    assert columns["label_mask_BS"].tolist() == [[True, False, True], [True, False, False], [True, True, False]]
    assert columns["label_BS"][columns["label_mask_BS"]].tolist() == [1, 0, 1, 0.25, 1]
    found = module.judge(STEPWISE)
    known = [("a", 0, 1), ("a", 2, 0), ("b", 0, 1), ("c", 0, 0.25), ("c", 1, 1)]
    assert [(j.id, j.step, j.label) for j in found] == known
    scores = module.network.score_steps([r.prompt for r in STEPWISE], [r.steps for r in STEPWISE], "cpu")
    assert [j.log_odds for j in found] == pytest.approx(
        [scores[0][0], scores[0][2], scores[1][0], scores[2][0], scores[2][1]], abs=1e-5
    )


def test_whole_completions_are_labelled_at_their_last_step(make_trainer: Trainers) -> None:
    rows = [LabelledCompletion("a", "x\n", "1\n2\n", True), LabelledCompletion("b", "y\n", "3", False)]
    module = built(RewardModelModule(network()), make_trainer, rows)
    assert [(j.id, j.step, j.label) for j in module.judge(rows)] == [("a", 1, 1.0), ("b", 0, 0.0)]
    with pytest.raises(ValueError, match="row 'e': the completion has no visible text"):
        module.judge([LabelledCompletion("e", "x\n", " ", True)])


def test_pairs_become_differences_in_both_orders(make_trainer: Trainers) -> None:
    module = built(RewardModelModule(network(), BradleyTerry()), make_trainer, PAIRS)
    assert not module.network.is_calibrated
    found = module.judge(PAIRS)
    chosen = module.network.score_steps(["x\n", "y\n"], [["1\n", "2"], ["4"]], "cpu")
    rejected = module.network.score_steps(["x\n", "y\n"], [["3"], ["5\n", "6"]], "cpu")
    differences = [a[-1] - b[-1] for a, b in zip(chosen, rejected, strict=True)]
    assert [j.log_odds for j in found] == pytest.approx([s * d for d in differences for s in (1, -1)], abs=1e-5)
    assert [j.label for j in found] == [1.0, 0.0, 1.0, 0.0]
    columns, _ = module.pair_columns(PAIRS)
    loss = BradleyTerry()(columns).loss.item()
    assert loss == pytest.approx(sum(math.log1p(math.exp(-d)) for d in differences) / 2, abs=1e-5)


def test_data_of_the_other_regime_and_other_objectives_are_refused(make_trainer: Trainers) -> None:
    with pytest.raises(TypeError, match="LabelLoss trains on JudgedSolution or LabelledCompletion.*Preference"):
        make_trainer(1).fit(RewardModelModule(network()), DataLoader(PAIRS, batch_size=2, collate_fn=list))
    with pytest.raises(TypeError, match="BradleyTerry trains on Preference.*JudgedSolution"):
        make_trainer(1).fit(
            RewardModelModule(network(), BradleyTerry()), DataLoader(STEPWISE, batch_size=2, collate_fn=list)
        )
    with pytest.raises(ValueError, match="objective Likelihood cannot train in RewardModelModule.*SFTModule"):
        RewardModelModule(network(), Likelihood())


def test_an_adapter_checkpoint_finds_its_base_again(make_trainer: Trainers, tmp_path: Path) -> None:
    """A checkpoint of a LoRA network holds the trained weights alone; the base comes from its folder."""
    base = network()
    base.build(())
    base.save_pretrained(tmp_path / "base")
    adapted = network(config=None, tokenizer=None, pretrained=str(tmp_path / "base"), lora=LoraSettings(rank=2))
    module = RewardModelModule(adapted, optimizer=OptimizerSettings(lr=0.1))
    trainer = make_trainer(3, max_epochs=-1)
    trainer.fit(module, DataLoader(STEPWISE, batch_size=3, collate_fn=list))
    trainer.save_checkpoint(tmp_path / "run.ckpt", weights_only=False)
    kept = torch.load(tmp_path / "run.ckpt", weights_only=True)["state_dict"]
    assert kept and all("lora_" in name or ".output." in name for name in kept)
    prompts, steps = [row.prompt for row in STEPWISE], [row.steps for row in STEPWISE]
    expected = adapted.score_steps(prompts, steps, "cpu")
    loaded = TrainedRewardNetwork(str(tmp_path / "run.ckpt"))
    for found, wanted in zip(loaded.score_steps(prompts, steps, "cpu"), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)
    assert max(abs(score) for row in expected for score in row) > 1e-2


def test_a_window_of_micro_batches_is_one_batch(make_trainer: Trainers) -> None:
    """Labels are unevenly spread over rows, so a mean of means would move the weights elsewhere."""
    settings = OptimizerSettings(lr=0.1, eps=1.0)
    moved = []
    for size, window in ((3, 1), (1, 3)):
        module = RewardModelModule(network(), optimizer=settings)
        make_trainer(1, accumulate_grad_batches=window).fit(
            module, DataLoader(STEPWISE, batch_size=size, collate_fn=list)
        )
        moved.append(module.network.output[0].weight.detach())
    torch.testing.assert_close(moved[0], moved[1], atol=1e-6, rtol=1e-4)
    assert moved[0].abs().sum() > 1e-3


class Midway(L.Callback):
    """Saves a checkpoint after three steps."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.path, weights_only=False)


def test_a_run_resumes_bit_for_bit_and_its_checkpoint_is_a_reward(make_trainer: Trainers, tmp_path: Path) -> None:
    rows: list[Any] = [
        JudgedSolution(str(n), f"{n}\n", (f"{n % 7}\n", str(n % 3)), (float(n % 2), float(n % 3 == 0)))
        for n in range(24)
    ]

    def fit(ckpt_path: Path | None, *callbacks: L.Callback) -> tuple[RewardModelModule, L.Trainer]:
        module = RewardModelModule(network(config={**LLAMA, "attention_dropout": 0.1}))
        trainer = make_trainer(7, max_epochs=-1, callbacks=[RngState(), *callbacks])
        trainer.fit(module, TrainLoader(rows, batch_size=5, seed=0), ckpt_path=ckpt_path, weights_only=True)
        return module, trainer

    straight, trainer = fit(None, Midway(tmp_path / "mid.ckpt"))
    trainer.save_checkpoint(tmp_path / "end.ckpt", weights_only=False)
    resumed, _ = fit(tmp_path / "mid.ckpt")
    for (name, one), (_, two) in zip(straight.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(one, two), name
    middle, end = (TrainedRewardNetwork(str(tmp_path / f"{name}.ckpt")) for name in ("mid", "end"))
    prompts, steps = [row.prompt for row in rows], [row.steps for row in rows]
    expected = straight.network.score_steps(prompts, steps, "cpu")
    for found, wanted in zip(end.score_steps(prompts, steps, "cpu"), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)
    assert middle.score_steps(prompts, steps, "cpu")[0] != pytest.approx(expected[0], abs=1e-6)


def judged_attempts(problems: list[Problem]) -> list[JudgedSolution]:
    """Solutions and two spoiled copies of each, labelled exactly: a wrong container, or a broken last line."""
    policy: Any = None
    found = []
    for problem in problems:
        text = problem.solutions[0]
        texts = (text, text.replace("bags", "boats").replace(" = ", " == "), text.replace("answer is", "answer was"))
        for n, spoiled in enumerate(texts):
            attempt = attempt_of(problem, str(n), spoiled, "\n")
            assert attempt is not None
            (labels,) = ExactSolutions()([attempt], policy).shares
            found.append(JudgedSolution(f"{problem.id}/{n}", problem.prompt, attempt.steps, tuple(labels)))
    return found


def test_from_exact_labels_to_a_reward(make_trainer: Trainers, tmp_path: Path) -> None:
    """A small process reward model learns to tell spoiled steps, is saved, and rewards rollouts by its path."""
    data = SyntheticWordProblems(levels={1: 1.0}, num_train=60, num_val=20, num_test=20)
    train, test = judged_attempts(data.problems("train")), judged_attempts(data.problems("val"))
    labels = [label for row in test for label in row.labels]
    assert 0.2 < sum(map(float, map(bool, labels))) / len(labels) < 0.8
    module = RewardModelModule(network(), optimizer=OptimizerSettings(lr=1e-2, warmup_steps=5))
    make_trainer(30, max_epochs=-1, gradient_clip_val=1.0).fit(
        module,
        TrainLoader(train, batch_size=30, seed=0),  # type: ignore[arg-type]
    )
    with torch.no_grad():
        judgements = module.judge(test)
    found = auroc([j.log_odds for j in judgements], [j.label for j in judgements])
    assert found > 0.8
    assert auroc([-j.log_odds for j in judgements], [j.label for j in judgements]) < 0.2
    module.network.save_pretrained(tmp_path / "prm" / "model")

    reward = LearnedReward(TrainedRewardNetwork(str(tmp_path / "prm")), aggregate="product", empty=0.0)
    policy = CausalLM(
        config=LLAMA, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=64, max_new_tokens=24,
        allowed_tokens=["a", "b", "\n"],
    )  # fmt: skip
    gflownet = GFlowNetModule(policy, ModifiedSubTB(level="step"), reward, num_samples=4)
    seen: list[Any] = []
    original = reward.combine
    reward.combine = lambda terms, rollouts, step: seen.append((terms, rollouts)) or original(terms, rollouts, step)
    problems = data.problems("train")[:4]
    make_trainer(2).fit(gflownet, DataLoader(problems, batch_size=2, collate_fn=list))
    assert len(seen) >= 2
    for terms, rollouts in seen:
        again, _ = reward.terms(rollouts, policy, prefixes=False)
        torch.testing.assert_close(rollouts.at_last_prefix(terms["learned"]), again["learned"])
        assert torch.isfinite(terms["learned"]).all() and (terms["learned"] <= 0).all()
    assert not any("network" in name for name, _ in gflownet.named_parameters()), "the reward model does not train"
