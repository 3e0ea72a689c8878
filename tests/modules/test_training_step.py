"""The training step: exact weights over windows, gradients everywhere, checks before a model is loaded."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.interfaces import Objective
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import EvaluationSettings, OptimizerSettings, UpdateSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.modules.training_batch.rollout_statistics import within_group_variance
from lightning_gfn.objectives.detailed_balance import DetailedBalance, ModifiedDetailedBalance
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.subtb import ModifiedSubTB, SubTB
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.heads import FlowHead, LogZHead, LogZScalar
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rewards.schedules import Linear
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.types import Problem

REWARD = f"{__file__.replace('test_training_step', 'conftest')}:hashed_reward"


def batches(problems: list[Problem], size: int, repeats: int = 1) -> DataLoader:
    return DataLoader(problems * repeats, batch_size=size, collate_fn=list)


def terminal_reward() -> FunctionReward:
    return FunctionReward(function=REWARD)


def prefix_reward() -> FunctionReward:
    return FunctionReward(function=REWARD, prefixes=True)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("window", [1, 3])
def test_accumulation_gives_the_gradient_of_the_whole_window(make_policy, make_trainer, letters, window):
    """Three micro-batches of different token counts move the weights as one batch of all problems does."""
    settings = OptimizerSettings(lr=0.1, eps=1.0)
    module = SFTModule(make_policy(), optimizer=settings)
    make_trainer(1, accumulate_grad_batches=window).fit(module, batches(letters, 3 // window))
    whole = SFTModule(make_policy(), optimizer=settings)
    make_trainer(1).fit(whole, batches(letters, 3))
    moved = 0.0
    start = SFTModule(make_policy())
    make_trainer(0).fit(start, batches(letters, 3))
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(module)[name], value, atol=1e-6, rtol=1e-4)
        moved += (value - weights(start)[name]).abs().sum().item()
    assert moved > 1e-2


def test_mean_of_micro_batch_means_would_differ(make_policy, make_trainer, letters):
    """The planted error of the test above: normalising each micro-batch by itself gives another gradient."""

    class MeanOfMeans(SFTModule):
        def window_loss(self, output):
            self.window_weight = torch.ones(())
            return output.loss

    settings = OptimizerSettings(lr=0.1, eps=1.0)
    module = MeanOfMeans(make_policy(), optimizer=settings)
    make_trainer(1, accumulate_grad_batches=3).fit(module, batches(letters, 1))
    whole = SFTModule(make_policy(), optimizer=settings)
    make_trainer(1).fit(whole, batches(letters, 3))
    difference = max((weights(module)[name] - value).abs().max().item() for name, value in weights(whole).items())
    assert difference > 1e-4


CASES = [
    ("subtb token", ModifiedSubTB(), prefix_reward, None),
    ("subtb step", ModifiedSubTB(level="step"), prefix_reward, None),
    ("modified detailed balance", ModifiedDetailedBalance(), prefix_reward, None),
    ("subtb flow", SubTB(), terminal_reward, FlowHead),
    ("detailed balance", DetailedBalance(), terminal_reward, FlowHead),
    ("tb scalar", TrajectoryBalance(), terminal_reward, LogZScalar),
    ("tb head", TrajectoryBalance(), terminal_reward, LogZHead),
    ("vargrad", VarGrad(), terminal_reward, None),
]


@pytest.mark.parametrize(("objective", "reward", "head"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_every_trainable_parameter_is_optimised_and_moves(
    make_policy, make_trainer, letters, objective, reward, head, lora
):
    settings = LoraSettings(rank=2, alpha=4, target_modules=["q_proj", "down_proj"]) if lora else None
    module = GFlowNetModule(
        make_policy(lora=settings), objective, reward(), num_samples=6, head=head() if head is not None else None,
        optimizer=OptimizerSettings(lr=1e-2, head_lr=1e-2),
    )  # fmt: skip
    trainer = make_trainer(4)
    seen: dict[str, torch.Tensor] = {}
    original = module.on_before_optimizer_step

    def record(optimizer: torch.optim.Optimizer) -> None:
        grouped = [p for group in optimizer.param_groups for p in group["params"]]
        assert len(grouped) == len({id(p) for p in grouped})
        trainable = {id(p) for p in module.parameters() if p.requires_grad}
        assert {id(p) for p in grouped} == trainable
        for name, p in module.named_parameters():
            if p.requires_grad and p.grad is not None:
                seen[name] = seen.get(name, 0.0) + p.grad.abs().sum()
        original(optimizer)

    module.on_before_optimizer_step = record
    trainer.fit(module, batches(letters, 3, repeats=4))
    trainable = {name for name, p in module.named_parameters() if p.requires_grad}
    assert trainable
    assert {name for name, total in seen.items() if total > 0} == trainable


def test_head_has_its_own_learning_rate(make_policy, make_trainer, letters):
    module = GFlowNetModule(
        make_policy(), TrajectoryBalance(), terminal_reward(), head=LogZScalar(),
        optimizer=OptimizerSettings(lr=1e-5, head_lr=0.5),
    )  # fmt: skip
    make_trainer(1).fit(module, batches(letters, 3))
    assert module.head is not None
    moved = [p.abs().max().item() for p in module.head.parameters()]
    assert moved == pytest.approx([0.5], rel=1e-3)


def test_impossible_pairs_are_refused_before_a_model_is_loaded(make_policy):
    policy = make_policy(config=None, tokenizer=None, pretrained="some-organisation/a-model-that-does-not-exist")
    with pytest.raises(ValueError, match="ModifiedSubTB needs log_reward_BT1.*FunctionReward"):
        GFlowNetModule(policy, ModifiedSubTB(), terminal_reward())
    with pytest.raises(ValueError, match="TrajectoryBalance needs log_z_B.*model.head"):
        GFlowNetModule(policy, TrajectoryBalance(), terminal_reward())
    with pytest.raises(ValueError, match="VarGrad does not read.*log_z_B.*remove model.head"):
        GFlowNetModule(policy, VarGrad(), terminal_reward(), head=LogZScalar())
    with pytest.raises(ValueError, match="num_samples to 2 or more"):
        GFlowNetModule(policy, VarGrad(), terminal_reward(), num_samples=1)
    with pytest.raises(ValueError, match="model.buffer"):
        GFlowNetModule(policy, VarGrad(), terminal_reward(), behaviour=BehaviourMix(on_policy=0.5, replay=0.5))


def test_every_reward_column_that_is_promised_is_given():
    assert AnswerMatch().provides == {"log_reward_B", "log_reward_BT1"}
    assert terminal_reward().provides == {"log_reward_B"}
    assert prefix_reward().provides == {"log_reward_B", "log_reward_BT1"}


def test_grpo_raises_the_expected_reward(make_policy, make_trainer, letters):
    module = PolicyGradientModule(
        make_policy(),
        GRPO(),
        terminal_reward(),
        num_samples=16,
        optimizer=OptimizerSettings(lr=1e-2),
        log_entropy=False,
    )
    rewards: list[float] = []
    original = module.log_output
    module.log_output = lambda output, **values: (
        rewards.append(float(values["log_reward_mean"])),
        original(output, **values),
    )
    make_trainer(60).fit(module, batches(letters, 3, repeats=60))
    assert sum(rewards[-10:]) / 10 > rewards[0] + 0.5


def test_sft_lowers_the_loss_and_counts_cut_solutions(make_policy, make_trainer, letters):
    module = SFTModule(make_policy(max_new_tokens=3), optimizer=OptimizerSettings(lr=1e-2))
    losses: list[float] = []
    cut: list[float] = []
    original = module.log_output

    def record(output, **values):
        losses.append(float(output.loss.detach()))
        cut.append(values["truncated_solutions"])
        original(output, **values)

    module.log_output = record
    make_trainer(40).fit(module, batches(letters, 3, repeats=40))
    assert losses[-1] < 0.5 * losses[0]
    assert max(cut) == 1.0  # "dcba" has four tokens


def test_within_group_variance_is_the_written_loop():
    values = torch.tensor([1.0, 4.0, -2.0, 0.5, 3.0])
    group = torch.tensor([7, 3, 7, 7, 3])
    expected = 0.0
    for i in range(5):
        members = [values[j].item() for j in range(5) if group[j] == group[i]]
        expected += (values[i].item() - sum(members) / len(members)) ** 2 / 5
    assert within_group_variance(values, group).item() == pytest.approx(expected)


def test_learning_rate_schedules():
    linear = OptimizerSettings(warmup_steps=2, schedule="linear", final_lr_ratio=0.1).lr_factor(12)
    assert [linear(step) for step in (0, 1, 2, 7, 12, 50)] == pytest.approx([0.5, 1.0, 1.0, 0.55, 0.1, 0.1])
    cosine = OptimizerSettings(schedule="cosine").lr_factor(10)
    assert [cosine(step) for step in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])
    with pytest.raises(ValueError, match=r"trainer\.max_steps"):
        OptimizerSettings(schedule="cosine").lr_factor(float("inf"))
    with pytest.raises(ValueError, match=r"evaluation\.temperatures"):
        EvaluationSettings(temperatures=(0.0,))


def test_objectives_are_objectives():
    """The list of cases above holds every GFlowNet objective once at least."""
    assert {type(case[1]).__name__ for case in CASES} >= {cls.__name__ for cls in gflownet_objectives()}


def gflownet_objectives() -> list[type]:
    found, queue = [], copy.copy(Objective.__subclasses__())
    while queue:
        cls = queue.pop()
        queue += cls.__subclasses__()
        found.append(cls)
    files = ("detailed_balance", "subtb", "trajectory_balance", "vargrad")
    return [cls for cls in found if cls.__module__ in {f"lightning_gfn.objectives.{file}" for file in files}]


@pytest.mark.parametrize("num_epochs", [1, 2])
@pytest.mark.parametrize("dropout", [None, True])
def test_sampling_mismatch_is_logged_and_dropout_is_off_unless_asked_for(
    make_policy, make_trainer, letters, dropout, num_epochs
):
    """The gradient pass scores what was sampled: with dropout, and before any update, ratios would be noise."""
    module = PolicyGradientModule(
        make_policy(lora=LoraSettings(rank=2, dropout=0.5), dropout=dropout), GRPO(), terminal_reward(), num_samples=6,
        updates=UpdateSettings(num_epochs=num_epochs),
    )  # fmt: skip
    trainer = make_trainer(0)
    trainer.fit(module, batches(letters, 3))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    trainer = make_trainer(1)
    trainer.fit(module, batches(letters, 3))
    mean, largest = (float(trainer.callback_metrics[f"train/sampling_mismatch_{name}"]) for name in ("mean", "max"))
    assert 0 <= mean <= largest
    if dropout and num_epochs == 1:
        assert mean > 1e-3
    else:
        assert largest < 1e-5  # old log-probabilities of several updates are computed in evaluation mode anyway


def test_replay_is_ranked_by_the_reward_of_the_step(make_policy, make_trainer, letters, monkeypatch):
    """Log rewards that order draws and evictions are the terms at the temperature of the optimiser step."""
    reward = SumReward({"r": WeightedReward(terminal_reward(), temperature=Linear(4.0, 1.0, 5))})
    buffer = ReplayBuffer(capacity=4, sampling="reward")
    steps: list[int] = []
    original = buffer.rank_by
    monkeypatch.setattr(buffer, "rank_by", lambda given, step: (steps.append(step), original(given, step)))
    module = GFlowNetModule(
        make_policy(), VarGrad(), reward, num_samples=6, buffer=buffer,
        behaviour=BehaviourMix(on_policy=0.5, tempered=0.0, replay=0.5),
    )  # fmt: skip
    make_trainer(4, accumulate_grad_batches=2).fit(module, batches(letters, 3, 8))
    assert steps == [0, 0, 1, 1, 2, 2, 3, 3]
    held = [entry.packed for entry in buffer._entries(None)]
    expected = [packed.values[0] / (4.0 - 3.0 * 3 / 5) for packed in held]
    assert buffer._ranks.log_rewards(held) == pytest.approx(expected, rel=1e-6)
    assert any(packed.log_reward != pytest.approx(value) for packed, value in zip(held, expected, strict=True))


def test_fused_steps_are_those_of_a_written_loop() -> None:
    """AdamW, decoupled decay on matrices alone."""
    module = torch.nn.Linear(3, 2)
    settings = OptimizerSettings(lr=0.1, weight_decay=0.3, eps=1e-3)
    optimizer = settings.build(module)
    expected = {name: p.detach().clone().double() for name, p in module.named_parameters()}
    m, v = ({name: torch.zeros_like(p) for name, p in expected.items()} for _ in range(2))
    beta, gamma = settings.betas
    for t in range(1, 4):
        for name, p in module.named_parameters():
            p.grad = torch.randn_like(p)
            m[name] = beta * m[name] + (1 - beta) * p.grad
            v[name] = gamma * v[name] + (1 - gamma) * p.grad**2
            expected[name] *= 1 - 0.1 * (0.3 if p.ndim == 2 else 0.0)
            expected[name] -= 0.1 * (m[name] / (1 - beta**t)) / ((v[name] / (1 - gamma**t)).sqrt() + 1e-3)
        optimizer.step()
    assert optimizer.defaults["fused"]
    for name, p in module.named_parameters():
        torch.testing.assert_close(p.detach().double(), expected[name], atol=1e-6, rtol=1e-5)


def test_gradients_may_be_clipped_under_autocast(make_policy, make_trainer, letters):
    """Lightning refuses to clip for fused optimisers that would unscale gradients themselves."""
    module = SFTModule(make_policy(), optimizer=OptimizerSettings(lr=1e-2))
    make_trainer(1).fit(module, batches(letters, 3))
    before = weights(module)
    make_trainer(2, precision="bf16-mixed", gradient_clip_val=1.0).fit(module, batches(letters, 3, repeats=2))
    assert any(not torch.equal(before[name], p) for name, p in module.named_parameters())
