"""Training with a tool: what objectives read, the posterior that is reached, replay, and where tools are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import lightning as L
import pytest
import torch

from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.interfaces import Objective, Reward
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import EvaluationSettings, KLControl, OptimizerSettings, UpdateSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.modules.training_batch.columns import StepBoundaries, build_columns
from lightning_gfn.modules.training_batch.rollout_window import RolloutWindow
from lightning_gfn.modules.training_batch.trajectory_layout import JoinedLayout
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.objectives.subtb import ModifiedSubTB, SubTB
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.heads import FlowHead, ValueHead
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rewards.joint import JointLikelihood
from lightning_gfn.rollouts.batching import to_trajectories
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.rollouts.completion_sampler import RolloutSampler
from lightning_gfn.rollouts.evaluating.beams import BeamSettings
from lightning_gfn.rollouts.evaluating.sample_rewards import with_sample_rewards
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.rollouts.rollout_batch import sampled_tokens
from lightning_gfn.types import LogReward, Problem, Rollouts

PROBLEM = Problem(id="p", prompt="x", answer="2", solutions=("1=",), evidence="+")
EVERY = ["", "1", "+=", "1=", "1=+", "1=1=", "11=", "1=11", "+1=1"]


def rollouts_of(policy: Any, texts: list[str], problem: Problem = PROBLEM) -> Rollouts:
    encoded = [policy.encode_action(text) for text in texts]
    actions, inserted = [ids for ids, _ in encoded], [places for _, places in encoded]
    return Rollouts(
        problems=(problem,),
        problem_index_B=torch.zeros(len(texts), dtype=torch.int64),
        trajectory_index_N=torch.arange(len(texts)),
        steps=pad_steps([policy.encode_prompt(problem.prompt)] * len(texts), actions, "cpu", inserted),
        completions=tuple(policy.decode(ids) for ids in actions),
        sources=("on_policy",) * len(texts),
    )


def test_modified_subtb_is_a_loop_over_states(policy: CausalLM) -> None:
    """A prefix right before an insertion is the same state as behind it: it is no prefix of its own."""
    policy.set_lengths(0, 9)
    given = rollouts_of(policy, EVERY)
    lengths = given.steps.lengths_N.tolist()
    width = max(lengths) + 1
    prefix_BT1 = torch.randn(len(EVERY), width, generator=torch.Generator().manual_seed(1))
    log_reward = LogReward(given.at_last_prefix(prefix_BT1), prefix_BT1)
    scores = policy.score(given.steps)
    objective = ModifiedSubTB(lam=0.8)
    columns = build_columns(objective, policy, given, scores, log_reward, {}, StepBoundaries(policy))
    assert scores.log_pstop_NT1 is not None
    total = weight = planted = 0.0
    for b, places in enumerate(given.inserted_lists()):
        balance, wrong, log_q = [], [], 0.0
        for t in range(lengths[b] + 1):
            g = log_q + float(scores.log_pstop_NT1[b, t]) - float(prefix_BT1[b, t])
            wrong.append(g)
            if t not in places:
                balance.append(g)
            if t < lengths[b]:
                log_q += float(scores.log_pf_NT[b, t])
        for i in range(len(balance)):
            for j in range(i + 1, len(balance)):
                total += 0.8 ** (j - i - 1) * (balance[j] - balance[i]) ** 2
                weight += 0.8 ** (j - i - 1)
        planted += sum((after - before) ** 2 for before, after in pairwise(wrong))
    assert float(objective(columns).loss) == pytest.approx(total / weight, rel=1e-4)
    neighbours = ModifiedSubTB(lam=1e-9)(columns)
    assert float(neighbours.sum) != pytest.approx(planted, rel=1e-3), "the state counted twice would have been seen"


def test_columns_hold_own_actions_alone(policy: CausalLM) -> None:
    policy.set_lengths(0, 9)
    given = rollouts_of(policy, EVERY)
    scores = policy.score(given.steps, entropy=True)
    layout = JoinedLayout(given)
    own = [
        [token for t, token in enumerate(ids) if t not in places]
        for ids, places in zip(given.action_lists(), given.inserted_lists(), strict=True)
    ]
    assert layout.mask_BT.sum(1).tolist() == [len(ids) for ids in own]
    log_pf_BT = layout.log_pf(scores)
    assert log_pf_BT.sum(1).tolist() == pytest.approx(scores.log_pf_NT.sum(1).tolist(), abs=1e-5)
    for b, ids in enumerate(own):
        assert (log_pf_BT[b, : len(ids)] < 0.0).all()
        assert layout.stop_mask(scores)[b, : len(ids) + 1].all()


def hashed(completions: list[str], **columns: Any) -> list[float]:
    return [2.0 * math.sin(37.0 * sum((n + 1) * ord(c) for n, c in enumerate(text))) for text in completions]


@pytest.mark.slow
@pytest.mark.parametrize("objective", [VarGrad(), ModifiedSubTB()])
def test_training_samples_in_proportion_to_the_reward(
    policy: CausalLM,
    make_trainer: Callable[..., L.Trainer],
    every_way: Callable[..., Any],
    tool: Any,
    objective: Objective,
) -> None:
    """Total variation from R / Z, over every trajectory that the tool leaves possible."""
    policy.set_lengths(0, 4)
    module = GFlowNetModule(
        policy, objective, FunctionReward(hashed, prefixes=True), num_samples=64,
        optimizer=OptimizerSettings(lr=3e-3, schedule="linear"),
        behaviour=BehaviourMix(on_policy=0.5, tempered=0.5, temperature_low=1.0, temperature_high=3.0),
    )  # fmt: skip
    loader = torch.utils.data.DataLoader([PROBLEM] * 800, batch_size=1, collate_fn=list)
    make_trainer(800).fit(module, loader)
    ways = every_way(policy.eval(), "x", tool)
    target = torch.tensor(hashed([policy.decode(way.tokens) for way in ways]), dtype=torch.float64).softmax(0)
    q = torch.tensor([way.log_prob for way in ways], dtype=torch.float64).exp()
    assert float(q.sum()) == pytest.approx(1.0, abs=1e-6)
    assert 0.5 * float((q - target).abs().sum()) < 0.05


def test_joint_likelihood_reads_results_and_counts_them_if_asked(policy: CausalLM) -> None:
    given = rollouts_of(policy, ["1=+", "1"])
    prompt, behind = policy.encode_prompt("x"), policy.encode_completion("+")

    def plain(ids: list[int], places: list[int]) -> float:
        tokens = [*ids, *behind]
        with torch.no_grad():
            network: Any = policy.reference
            logits = network(torch.tensor([prompt + tokens])).logits[0].double().log_softmax(-1)
        return sum(float(logits[len(prompt) + t - 1, token]) for t, token in enumerate(tokens) if t not in places)

    rows = list(zip(given.action_lists(), given.inserted_lists(), strict=True))
    for counted in (False, True):
        (found,) = JointLikelihood(count_inserted=counted).terms(given, policy, prefixes=False)[0].values()
        wanted = [plain(ids, [] if counted else places) for ids, places in rows]
        assert found.tolist() == pytest.approx(wanted, abs=1e-4)
    (every,) = JointLikelihood().terms(given, policy, prefixes=True)[0].values()
    ids, places = rows[0]
    assert ids[2:3] == policy.encode_completion("2") and places == [2]
    states = [0, 1, 3, 3, 4]  # the call and its result are one state
    wanted = [plain(ids[:end], [t for t in places if t < end]) for end in states]
    assert every[0].tolist() == pytest.approx(wanted, abs=1e-4)


def collected(policy: CausalLM, behaviour: BehaviourMix, buffer: ReplayBuffer | None = None) -> Rollouts:
    sampler = RolloutSampler(num_samples=32, behaviour=behaviour, seed=0)
    return sampler.collect(policy, [PROBLEM], rollout_step=0, buffer=buffer, device="cpu").rollouts


def test_inserted_tokens_are_kept_apart_in_replay(policy: CausalLM) -> None:
    fresh = collected(policy, BehaviourMix())
    places = fresh.inserted_lists()
    assert any(places)
    assert sampled_tokens(fresh) == int(fresh.action_mask_NT.sum()) - sum(map(len, places))
    buffer, restored = ReplayBuffer(duplicates="none"), ReplayBuffer(duplicates="none")
    buffer.add(to_trajectories(fresh, LogReward(torch.zeros(32)), optimizer_step=0))
    restored.load_state_dict(buffer.state_dict())
    again = collected(policy, BehaviourMix(on_policy=0.0, replay=1.0), restored)
    assert set(again.sources) == {"replay"}
    known = dict(zip(map(tuple, fresh.action_lists()), places, strict=True))
    assert any(again.inserted_lists())
    for ids, found in zip(again.action_lists(), again.inserted_lists(), strict=True):
        assert found == known[tuple(ids)]
    old = {name: part for name, part in buffer.state_dict().items() if "inserted" not in name}
    restored.load_state_dict(old)
    assert not any(step.inserted for found in restored.sample(None, 32, [0.5] * 32) for step in found.steps)


def test_references_in_a_group_have_their_results(policy: CausalLM) -> None:
    given = collected(policy, BehaviourMix(on_policy=0.0, reference=1.0))
    assert given.sources[0] == "reference"
    assert given.completions[0] == "1=2"
    assert given.inserted_lists()[0] == [2]


def test_a_window_keeps_them_in_a_checkpoint(policy: CausalLM) -> None:
    given = rollouts_of(policy, EVERY)
    window = RolloutWindow(0, ("p",), given, JoinedLayout(given), {}, {})
    again = RolloutWindow.from_state(window.state_dict())
    assert again.rollouts.inserted_lists() == given.inserted_lists()
    assert torch.equal(again.layout.mask_BT, window.layout.mask_BT)


class Watched(GFlowNetModule):
    """Notes what is in the buffer before the first step."""

    first: list[str]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        assert self.buffer is not None
        self.first = [found.completion for found in self.buffer.sample(None, len(self.buffer), [0.0] * 9)]


def test_a_buffer_is_filled_with_reference_solutions(
    policy: CausalLM, make_trainer: Callable[..., L.Trainer], tmp_path: Any
) -> None:
    class Data(L.LightningDataModule):
        def problems(self, split: str) -> list[Problem]:
            return [PROBLEM]

        def training_texts(self) -> list[str]:
            return []

        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader([PROBLEM] * 3, batch_size=1, collate_fn=list)

    module = Watched(
        policy, ModifiedSubTB(), JointLikelihood(), num_samples=4, buffer=ReplayBuffer(), seed_buffer=True,
        behaviour=BehaviourMix(on_policy=0.5, replay=0.5),
    )  # fmt: skip
    make_trainer(3).fit(module, datamodule=Data())
    assert module.first == ["1=2"]
    with pytest.raises(ValueError, match=r"seed_buffer is true, but there is no buffer"):
        GFlowNetModule(policy, VarGrad(), JointLikelihood(), num_samples=4, seed_buffer=True)


@pytest.mark.parametrize(
    ("kind", "objective", "reward", "settings"),
    [
        (PolicyGradientModule, GRPO(), AnswerMatch(), {}),
        (PolicyGradientModule, GRPO(), AnswerMatch(), {"updates": UpdateSettings(num_epochs=2, num_minibatches=2)}),
        (PolicyGradientModule, PPO(), AnswerMatch(), {"head": ValueHead(), "kl": KLControl()}),
        (GFlowNetModule, SubTB(), FunctionReward(hashed), {"head": FlowHead()}),
    ],
    ids=["grpo", "grpo_minibatches", "ppo", "subtb"],
)
def test_every_family_trains_with_a_tool(
    policy: CausalLM,
    make_trainer: Callable[..., L.Trainer],
    kind: Any,
    objective: Objective,
    reward: Reward,
    settings: dict[str, Any],
) -> None:
    problem = Problem(id="p", prompt="x", answer="2", answer_style="last_number", solutions=("1=",))
    module = kind(policy, objective, reward, num_samples=16, **settings)
    steps = 2 * module.updates_per_rollout
    trainer = make_trainer(steps)
    trainer.fit(module, torch.utils.data.DataLoader([problem] * steps, batch_size=1, collate_fn=list))
    assert math.isfinite(float(trainer.callback_metrics["train/loss"]))
    assert float(trainer.callback_metrics["train/completion_length_mean"]) <= 5.0


def test_supervised_training_leaves_results_out(policy: CausalLM) -> None:
    module = SFTModule(policy)
    output, _ = module.solution_loss([PROBLEM], 0)
    steps = rollouts_of(policy, ["1="]).steps
    assert float(output.sum.detach()) == pytest.approx(
        -float(policy.score(steps).log_prob_N(steps.action_mask_NT).detach()), rel=1e-5
    )
    assert float(output.weight) == 3.0, "two tokens of its own and the stop"


def test_proofs_and_beams_refuse_tools(policy: CausalLM) -> None:
    for settings, told in [
        ({"proving": Proving(None)}, "leave tools or model.proving out"),
        ({"evaluation": EvaluationSettings(beams=BeamSettings())}, "leave tools or model.evaluation.beams out"),
    ]:
        with pytest.raises(ValueError, match=told):
            SFTModule(policy, **settings)  # type: ignore[arg-type]


def test_samples_of_evaluation_are_rewarded_with_their_results(policy: CausalLM) -> None:
    records = sample_completions(policy, [PROBLEM], num_samples=40)
    assert any(records[0].inserted)
    (found,) = with_sample_rewards(policy, JointLikelihood(), records, max_rows=16, device="cpu")
    given = rollouts_of(policy, ["1="] * 40)
    steps = pad_steps(
        [policy.encode_prompt("x")] * 40, records[0].actions, "cpu", [list(places) for places in records[0].inserted]
    )
    (wanted,) = JointLikelihood().terms(replace(given, steps=steps), policy, prefixes=False)[0].values()
    assert list(found.log_rewards) == pytest.approx(wanted.tolist(), abs=1e-5)
