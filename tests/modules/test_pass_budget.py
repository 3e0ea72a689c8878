"""Training steps under a budget: samples, metrics and weights of every module are those of the uncut step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.feedback.by_rule import ReferenceFeedback
from lightning_gfn.interfaces import Policy
from lightning_gfn.modules.distillation import DistillationModule, TeacherSettings
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.preference import PreferenceModule
from lightning_gfn.modules.reward_model import RewardModelModule
from lightning_gfn.modules.settings import KLControl, OptimizerSettings, UpdateSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.objectives.flowrl import FlowRL
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.objectives.preference import DPO, IPO, KTO
from lightning_gfn.objectives.reward_model import BradleyTerry, LabelLoss
from lightning_gfn.objectives.subtb import ModifiedSubTB, SubTB
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.critic import Critic
from lightning_gfn.policies.heads import FlowHead, LogZHead, LogZScalar, ValueHead
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.preference_types import JudgedSolution, LabelledCompletion, Preference
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.types import Problem

REWARD = f"{__file__.replace('test_pass_budget', 'conftest')}:hashed_reward"
OPTIMIZER = OptimizerSettings(lr=0.1, head_lr=0.1, eps=1.0)  # so that a step is nearly proportional to its gradient
LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2,
}  # fmt: skip
PROBLEMS = [
    Problem(id=f"p{i}", prompt="xyz"[i % 3] * (1 + i), answer="1", solutions=solutions)
    for i, solutions in enumerate([("ab", "ba"), ("abc",), ("dcba", "a"), ("", "dd"), ("bcd",)])
]
PAIRS = [Preference("a", "x", "ab", "ba"), Preference("b", "yyyyy", "abc", "d"), Preference("c", "zz", "dcba", "a")]
SINGLE = [
    LabelledCompletion("a", "x", "ab", True, "d"), LabelledCompletion("b", "yyyy", "d", False, "dcba"),
    LabelledCompletion("c", "zz", "dcba", True, "ab"),
]  # fmt: skip
JUDGED = [
    JudgedSolution("a", "x\n", ("1\n", "2\n", "3"), (1.0, None, 0.0)), JudgedSolution("b", "yyy\n", ("45",), (1.0,)),
    JudgedSolution("c", "z\n", ("6\n", "7"), (0.25, 1.0)),
]  # fmt: skip
Make = Callable[[Policy], L.LightningModule]


def reward(**settings: Any) -> FunctionReward:
    return FunctionReward(function=REWARD, **settings)


def likelihood() -> SumReward:
    """The reference's likelihood, sharpened, so that the policy is not where it should be from the start."""
    return SumReward({"reference": WeightedReward(ReferenceLikelihood(), temperature=0.5)})


def gflownet(objective: Any, head: Any = None, **settings: Any) -> Make:
    """A GFlowNet module of 4 samples a problem."""
    given = {"optimizer": OPTIMIZER, "num_samples": 4, **settings}
    how, replays = given.pop("reward", reward), "behaviour" in given
    return lambda policy: GFlowNetModule(
        policy,
        objective,
        how(),
        head=head() if head else None,
        buffer=ReplayBuffer(capacity=50) if replays else None,
        **given,
    )


def policy_gradient(objective: Any, head: Any = None, **settings: Any) -> Make:
    given = {"optimizer": OPTIMIZER, "num_samples": 4, **settings}
    return lambda policy: PolicyGradientModule(policy, objective, reward(), head=head() if head else None, **given)


TWICE = UpdateSettings(num_epochs=2, num_minibatches=2)
MIXED = BehaviourMix(on_policy=0.4, tempered=0.3, replay=0.3, top_k=3)
CASES: dict[str, tuple[Make, list[Any]]] = {
    "subtb tokens": (gflownet(ModifiedSubTB(), reward=lambda: reward(prefixes=True)), PROBLEMS),
    "subtb reference": (gflownet(ModifiedSubTB(level="step"), reward=likelihood), PROBLEMS),
    "subtb flows": (gflownet(SubTB(), FlowHead), PROBLEMS),
    "tb scalar": (gflownet(TrajectoryBalance(), LogZScalar), PROBLEMS),
    "tb head": (gflownet(TrajectoryBalance(), lambda: LogZHead(pool=True)), PROBLEMS),
    "vargrad": (gflownet(VarGrad()), PROBLEMS),
    "vargrad replay": (gflownet(VarGrad(), behaviour=MIXED), PROBLEMS),
    "flowrl": (gflownet(FlowRL(), LogZHead, updates=TWICE), PROBLEMS),
    "grpo": (policy_gradient(GRPO()), PROBLEMS),
    "grpo kl": (policy_gradient(GRPO(kl="k3"), kl=KLControl(), updates=TWICE), PROBLEMS),
    "ppo": (policy_gradient(PPO(), ValueHead, kl=KLControl(), updates=TWICE), PROBLEMS),
    "ppo critic": (policy_gradient(PPO(), Critic, kl=KLControl(), updates=TWICE), PROBLEMS),
    "sft": (lambda policy: SFTModule(policy, optimizer=OPTIMIZER), PROBLEMS),
    "dpo": (lambda policy: PreferenceModule(policy, DPO(beta=0.5), optimizer=OPTIMIZER), PAIRS),
    "ipo": (lambda policy: PreferenceModule(policy, IPO(), optimizer=OPTIMIZER), PAIRS),
    "kto": (lambda policy: PreferenceModule(policy, KTO(beta=0.5), optimizer=OPTIMIZER), SINGLE),
    "distillation": (
        lambda policy: DistillationModule(
            policy, ReferenceFeedback(), AnswerMatch(), num_samples=3, optimizer=OPTIMIZER,
            teacher=TeacherSettings(decay=0.5, every=1, top_k=4, template="{feedback}{prompt}", max_prompt_tokens=48),
        ),
        PROBLEMS,
    ),
}  # fmt: skip


class Watched(L.Callback):
    """What a run logs and samples, and how large its passes are."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []
        self.completions: list[tuple[str, ...]] = []
        self.positions: list[int] = []

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Watch the first layer."""
        model: Any = getattr(module, "policy", None) or module.network
        layer = model.hugging_face.model.layers[0]
        layer.register_forward_hook(lambda _, given, __: self.positions.append(given[0].shape[:2].numel()))

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *rest: Any) -> None:
        """Keep metrics and texts."""
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        drawn = getattr(module, "latest_rollouts", None)
        self.completions.append(drawn.rollouts.completions if drawn is not None else ())


def fitted(module: L.LightningModule, examples: list[Any], make_trainer: Any, steps: int) -> Watched:
    """Train on batches of all examples."""
    watched = Watched()
    loader = DataLoader(examples * steps, batch_size=len(examples), collate_fn=list)  # type: ignore[arg-type]
    make_trainer(steps, callbacks=[watched], log_every_n_steps=1).fit(module, loader)
    return watched


def assert_alike(
    one: tuple[L.LightningModule, Watched], other: tuple[L.LightningModule, Watched], start: dict[str, torch.Tensor]
) -> None:
    """Equal samples; equal metrics and weights up to rounding, and weights that moved."""
    (uncut, plain), (cut, watched) = one, other
    assert watched.completions == plain.completions
    for step, expected in enumerate(plain.metrics):
        timed = {"train/idle_seconds", "train/idle_share"}
        tied = {"train/preference_accuracy"} if step == 0 else set()  # policy and reference differ by rounding alone
        found, wanted = (
            {k: v for k, v in m.items() if k not in timed | tied} for m in (watched.metrics[step], expected)
        )
        assert found == pytest.approx(wanted, rel=2e-4, abs=2e-5), f"step {step}"
    weights = dict(uncut.named_parameters())
    moved = max((weights[name].detach() - value).abs().max().item() for name, value in start.items())
    assert moved > 1e-3
    for name, value in cut.named_parameters():
        torch.testing.assert_close(value, weights[name], atol=1e-6 + 1e-4 * moved, rtol=1e-5, msg=name)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", CASES)
def test_a_step_does_not_depend_on_the_cut(make_policy: Any, make_trainer: Any, name: str, lora: bool) -> None:
    """Four updates in passes of at most 24 tokens; uncut, the passes of the same step hold more than that."""
    make, examples = CASES[name]
    adapter = LoraSettings(rank=2, alpha=4, target_modules=["q_proj", "down_proj"]) if lora else None
    results, start = [], {}
    for budget in (None, None, PassBudget(max_tokens_per_pass=24, max_rows_per_pass=3)):
        module = make(make_policy(budget=budget, lora=adapter, config=LLAMA, max_prompt_tokens=9))
        torch.manual_seed(0)
        watched = fitted(module, examples, make_trainer, 4 if start else 0)
        start = start or {n: p.detach().clone() for n, p in module.named_parameters()}
        results.append((module, watched))
    assert_alike(results[1], results[2], start)
    limit = 53 if name == "distillation" else 24  # the teacher's prompts with feedback are longer, and go alone
    assert max(results[2][1].positions) <= limit < max(results[1][1].positions)


@pytest.mark.parametrize(
    ("objective", "examples"), [(LabelLoss(), JUDGED), (BradleyTerry(), PAIRS)], ids=["labels", "pairs"]
)
def test_a_reward_model_does_not_depend_on_the_cut(make_trainer: Any, objective: Any, examples: list[Any]) -> None:
    results, start = [], {}
    for budget in (None, None, PassBudget(max_tokens_per_pass=16)):
        torch.manual_seed(0)
        network = LanguageRewardNetwork(
            config=LLAMA, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=16, max_completion_tokens=32,
            budget=budget,
        )  # fmt: skip
        module = RewardModelModule(network, objective, optimizer=OPTIMIZER)
        watched = fitted(module, examples, make_trainer, 3 if start else 0)
        start = start or {n: p.detach().clone() for n, p in module.named_parameters()}
        results.append((module, watched))
    assert_alike(results[1], results[2], start)
    assert max(results[2][1].positions) <= 16 < max(results[1][1].positions)
