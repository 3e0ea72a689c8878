"""Several updates on one rollout batch: what is computed how often, which trajectories each sees, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_gfn.interfaces import Objective
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import KLControl, OptimizerSettings, UpdateSettings
from lightning_gfn.modules.training_batch.rollout_window import RolloutWindow
from lightning_gfn.modules.training_batch.trajectory_layout import JoinedLayout
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.critic import Critic
from lightning_gfn.policies.heads import ValueHead
from lightning_gfn.policies.models.evaluation_mode import evaluation_mode
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.types import LossOutput, Problem

REWARD = f"{__file__.replace('test_rollout_window', 'conftest')}:hashed_reward"
TWICE = UpdateSettings(num_epochs=2, num_minibatches=3)
SAMPLES = 5
WINDOW_TENSORS = {
    "problem_index_B", "trajectory_index_N", "context_ids_NC", "context_mask_NC", "action_ids_NT", "action_mask_NT",
}  # fmt: skip


class Spy(Objective):
    """Passes everything on and remembers the columns of each update."""

    def __init__(self, inner: Objective) -> None:
        self.inner = inner
        self.seen: list[dict[str, Tensor]] = []
        self.prepared: list[dict[str, Tensor]] = []

    @property
    def requires(self) -> frozenset[str]:
        return self.inner.requires

    def prepare(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.prepared.append(dict(columns))
        return self.inner.prepare(columns)

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        self.seen.append(dict(columns))
        return self.inner(columns)


class Recorded(PolicyGradientModule):
    """Remembers what its training steps returned and which policy calls they made."""

    def training_step(self, batch: list[Problem], batch_idx: int) -> dict[str, Any]:
        if not hasattr(self, "results"):
            self.results: list[dict[str, Any]] = []
            self.calls: list[tuple[bool, bool]] = []
            score = self.policy.score

            def counted(*args: Any, **settings: Any) -> Any:
                self.calls.append((torch.is_grad_enabled(), settings.get("reference", False)))
                return score(*args, **settings)

            object.__setattr__(self.policy, "score", counted)
        self.results.append(super().training_step(batch, batch_idx))
        return self.results[-1]


def make(policy: Any, objective: Objective, **settings: Any) -> Recorded:
    settings = {"num_samples": SAMPLES, "optimizer": OptimizerSettings(lr=1e-2), **settings}
    return Recorded(policy, objective, FunctionReward(function=REWARD), **settings)


def loader(*batches: list[Problem]) -> DataLoader:
    return DataLoader(batches, batch_size=None, collate_fn=list)


def repeated(problems: list[Problem], updates: UpdateSettings, batches: int = 2) -> DataLoader:
    return loader(*[problems] * (batches * updates.num_updates))


def run(module: Any, trainer: Any, batches: DataLoader) -> Spy:
    module.objective = Spy(module.objective)
    trainer.fit(module, batches)
    return module.objective


def test_one_update_scores_once_and_is_its_own_old_policy(make_policy, make_trainer, letters):
    module = make(make_policy(), GRPO())
    spy = run(module, make_trainer(3), loader(*[letters] * 3))
    assert module.calls == [(True, False)] * 3
    assert not module.needs_reference
    assert len(spy.prepared) == 3
    for columns in spy.seen:
        assert torch.equal(columns["old_log_pf_BT"], columns["log_pf_BT"].detach())
        assert columns["log_pf_BT"].requires_grad and not columns["old_log_pf_BT"].requires_grad
    assert all(result["generated_tokens"] > 0 and result["reward_calls"] == 15 for result in module.results)


def test_a_window_scores_the_old_policy_once_and_costs_once(make_policy, make_trainer, letters):
    """Two rollout batches of six updates: old (no gradient) and reference once each, then a pass for each update."""
    module = make(make_policy(), GRPO(kl="k3"), updates=TWICE, kl=KLControl(0.1))
    spy = run(module, make_trainer(12), repeated(letters, TWICE))
    window = [(False, False), (True, True), *[(True, False)] * 6]
    assert module.calls == window * 2
    assert module.needs_reference and len(spy.prepared) == 2
    paid = [(result["generated_tokens"] > 0, result["reward_calls"]) for result in module.results]
    assert paid == ([(True, 15)] + [(False, 0)] * 5) * 2
    assert all(result["gradient_tokens"] > 0 for result in module.results)
    assert module.window is None and module.num_rollout_batches == 2


@pytest.mark.parametrize(
    ("updates", "per_window"),
    [(UpdateSettings(), 1), (UpdateSettings(num_epochs=2), 1), (TWICE, 1 + 6)],
    ids=["one update", "two epochs", "six minibatches"],
)
def test_a_batch_is_laid_out_once(make_policy, make_trainer, letters, monkeypatch, updates, per_window):
    """Head, reference, constant and live columns of a rollout batch share a layout; a part of it has its own."""
    built = []
    original = JoinedLayout.__init__

    def counted(self: JoinedLayout, rollouts: Any) -> None:
        built.append(rollouts)
        original(self, rollouts)

    monkeypatch.setattr(JoinedLayout, "__init__", counted)
    module = make(make_policy(), PPO(), updates=updates, kl=KLControl(0.1), head=ValueHead())
    run(module, make_trainer(2 * updates.num_updates), repeated(letters, updates))
    assert len(built) == 2 * per_window


def test_the_old_policy_stays_while_the_new_one_moves(make_policy, make_trainer, letters):
    module = make(make_policy(), GRPO(), updates=UpdateSettings(num_epochs=3))
    spy = run(module, make_trainer(3), loader(*[letters] * 3))
    first, second, third = spy.seen
    torch.testing.assert_close(first["old_log_pf_BT"], first["log_pf_BT"].detach(), atol=1e-6, rtol=1e-5)
    for later in (second, third):
        assert torch.equal(later["old_log_pf_BT"], first["old_log_pf_BT"])
        assert torch.equal(later["advantage_B"], first["advantage_B"])
        assert (later["log_pf_BT"] - first["log_pf_BT"]).abs().max() > 1e-3


@pytest.mark.parametrize("objective", [PPO(kl="none"), GRPO()], ids=["trajectories", "groups"])
def test_each_epoch_sees_every_trajectory_once(make_policy, make_trainer, letters, objective):
    head = ValueHead() if isinstance(objective, PPO) else None
    module = make(make_policy(), objective, updates=TWICE, head=head)
    spy = run(module, make_trainer(6), repeated(letters, TWICE, 1))
    whole = [tuple(row) for row in spy.prepared[0]["old_log_pf_BT"].tolist()]
    parts = [[tuple(row) for row in columns["old_log_pf_BT"].tolist()] for columns in spy.seen]
    for epoch in (parts[:3], parts[3:]):
        assert sorted(sum(epoch, [])) == sorted(whole)
        assert [len(part) for part in epoch] == [SAMPLES] * 3
    assert [set(part) for part in parts[:3]] != [set(part) for part in parts[3:]]
    if head is None:
        for columns in spy.seen:
            assert len(set(columns["group_B"].tolist())) == 1, "a minibatch cut a group"


def test_accumulating_all_parts_is_one_update_on_the_whole_batch(make_policy, make_trainer, letters):
    """Advantages of the whole batch, exact weights: three parts move the weights as the batch does."""
    settings = {"optimizer": OptimizerSettings(lr=0.1, eps=1.0)}
    objective = GRPO(aggregation="token")
    whole = make(make_policy(), objective, **settings)
    make_trainer(1).fit(whole, loader(letters))
    parts = make(make_policy(), objective, updates=UpdateSettings(num_minibatches=3), **settings)
    make_trainer(1, accumulate_grad_batches=3).fit(parts, loader(*[letters] * 3))
    start = make(make_policy(), objective)
    make_trainer(0).fit(start, loader(letters))
    moved = 0.0
    for (name, a), (_, b), (_, c) in zip(
        whole.named_parameters(), parts.named_parameters(), start.named_parameters(), strict=True
    ):
        torch.testing.assert_close(b, a, atol=1e-6, rtol=1e-4, msg=name)
        moved += (a - c).abs().sum().item()
    assert moved > 1e-2


def test_an_accumulation_that_straddles_windows_is_refused(make_policy, make_trainer, letters):
    module = make(make_policy(), GRPO(), updates=TWICE)
    with pytest.raises(ValueError, match="accumulate_grad_batches=4"):
        make_trainer(1, accumulate_grad_batches=4).fit(module, loader(*[letters] * 6))
    assert not module.is_built


def test_data_that_moves_on_is_noticed(make_policy, make_trainer, letters):
    module = make(make_policy(), GRPO(), updates=TWICE)
    with pytest.raises(ValueError, match="the data moved on after 1 of the 6 updates"):
        make_trainer(2).fit(module, loader(letters, letters[::-1]))


def test_no_epochs_are_refused():
    with pytest.raises(ValueError, match="updates.num_epochs"):
        UpdateSettings(num_epochs=0)


def test_gflownet_objectives_take_windows_too(make_policy, make_trainer, letters):
    module = GFlowNetModule(
        make_policy(), VarGrad(), FunctionReward(function=REWARD), num_samples=SAMPLES, updates=TWICE,
        optimizer=OptimizerSettings(lr=1e-2),
    )  # fmt: skip
    spy = run(module, make_trainer(6), repeated(letters, TWICE, 1))
    assert [len(set(columns["group_B"].tolist())) for columns in spy.seen] == [1] * 6


def test_reference_columns_are_those_of_the_start(make_policy, make_trainer, letters):
    """After two steps the policy has moved and the reference has not: column by column, by an own scoring pass."""
    module = make(make_policy(), GRPO(kl="k2"), kl=KLControl(0.1))
    spy = run(module, make_trainer(3), loader(*[letters] * 3))
    first, last = spy.seen[0], spy.seen[2]
    torch.testing.assert_close(first["ref_log_pf_BT"], first["old_log_pf_BT"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first["ref_log_pstop_BT1"], first["old_log_pstop_BT1"], atol=1e-5, rtol=1e-5)
    assert (last["ref_log_pf_BT"] - last["old_log_pf_BT"]).abs().max() > 1e-3
    assert not last["ref_log_pf_BT"].requires_grad


@pytest.mark.parametrize("head", [ValueHead, Critic])
def test_ppo_trains_policy_and_value(make_policy, make_trainer, letters, head):
    """Every parameter of policy and head gets a gradient, and old values are those of the window's start."""
    module = make(make_policy(), PPO(entropy_coefficient=0.01), updates=TWICE, kl=KLControl(0.1), head=head())
    seen: dict[str, float] = {}
    original = module.on_before_optimizer_step

    def record(optimizer: Any) -> None:
        for name, p in module.named_parameters():
            if p.requires_grad and p.grad is not None:
                seen[name] = seen.get(name, 0.0) + p.grad.abs().sum().item()
        original(optimizer)

    module.on_before_optimizer_step = record
    spy = run(module, make_trainer(12), repeated(letters, TWICE))
    trainable = {name for name, p in module.named_parameters() if p.requires_grad}
    assert {name for name, total in seen.items() if total > 0} == trainable
    assert any(name.startswith("head.backbone.") for name in trainable) == (head is Critic)
    assert not spy.seen[0]["old_value_BT1"].any() and spy.seen[-1]["old_value_BT1"].any()


def test_ppo_raises_the_expected_reward(make_policy, make_trainer, letters):
    module = make(
        make_policy(), PPO(), num_samples=16, updates=UpdateSettings(num_epochs=2), kl=KLControl(0.0),
        head=ValueHead(), optimizer=OptimizerSettings(lr=1e-2),
    )  # fmt: skip
    spy = run(module, make_trainer(40), loader(*[letters] * 40))
    rewards = [columns["log_reward_B"].mean().item() for columns in spy.prepared]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.5


def test_kl_coefficient_follows_its_target():
    control = KLControl(coefficient=0.2, target=6.0)
    assert control.adapted(0.2, 6.0) == pytest.approx(0.2)
    assert control.adapted(0.2, 6.6) == pytest.approx(0.2 * 1.01)
    assert control.adapted(0.2, 60.0) == pytest.approx(0.2 * 1.02)
    assert control.adapted(0.2, 0.0) == pytest.approx(0.2 * 0.98)
    assert KLControl(coefficient=0.2).adapted(0.2, 60.0) == 0.2
    with pytest.raises(ValueError, match="kl.target"):
        KLControl(target=0.0)


def test_the_steered_coefficient_reaches_the_objective(make_policy, make_trainer, letters):
    module = make(make_policy(), GRPO(kl="reward"), kl=KLControl(coefficient=0.5, target=1e6))
    spy = run(module, make_trainer(3), loader(*[letters] * 3))
    found = [columns["kl_coefficient"].item() for columns in spy.prepared]
    assert found == pytest.approx([0.5, 0.5 * 0.98, 0.5 * 0.98**2])
    assert module.extra_state()["kl_coefficient"] == pytest.approx(0.5 * 0.98**3)


def test_settings_that_do_not_fit_are_refused(make_policy):
    with pytest.raises(ValueError, match="GRPO needs kl_coefficient: set model.kl.coefficient"):
        make(make_policy(), GRPO(kl="k3"))
    with pytest.raises(ValueError, match="GRPO has no KL penalty"):
        make(make_policy(), GRPO(), kl=KLControl())
    with pytest.raises(ValueError, match="PPO needs value_BT1: set model.head.*ValueHead"):
        make(make_policy(), PPO(kl="none"))
    with pytest.raises(ValueError, match="does not read.*value_BT1.*remove model.head"):
        make(make_policy(), GRPO(), head=ValueHead())


def state_of(module: Recorded, trainer: Any, letters: list[Problem], steps: int) -> dict[str, Any]:
    run(module, trainer, repeated(letters, TWICE))
    assert module.window is not None and module.window.num_done == steps
    return module.extra_state()


def test_a_window_survives_its_state(make_policy, make_trainer, letters, tmp_path):
    """Through ``torch.save`` and a safe load the next minibatch is the same, tensor by tensor."""
    module = make(make_policy(), PPO(), updates=TWICE, kl=KLControl(0.1, target=3.0), head=ValueHead())
    state = state_of(module, make_trainer(2), letters, 2)
    torch.save(state, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    fresh = make(make_policy(), PPO(), updates=TWICE, kl=KLControl(0.1, target=3.0), head=ValueHead())
    fresh.load_extra_state(loaded)
    (restored,) = fresh.restored_windows
    assert fresh.weights.values == module.weights.values != {"kl_coefficient": 0.1}
    assert isinstance(restored, RolloutWindow)
    (held,) = (window["rollouts"] for window in loaded["windows"])
    assert set(held) == WINDOW_TENSORS, "checkpoints of earlier versions hold these"
    keys = {"seed": 0, "whole_groups": False}
    (a, layout_a, columns_a), (b, layout_b, columns_b) = (
        w.minibatch(letters, TWICE, **keys) for w in (module.window, restored)
    )
    assert columns_a.keys() == columns_b.keys()
    assert all(torch.equal(columns_a[name], columns_b[name]) for name in columns_a)
    assert torch.equal(a.action_ids_NT, b.action_ids_NT) and a.completions == b.completions
    assert a.problems == b.problems and a.sources == b.sources and torch.equal(layout_a.mask_BT, layout_b.mask_BT)
    restored.num_done += 1
    other, *_ = restored.minibatch(letters, TWICE, **keys)
    assert not torch.equal(a.action_ids_NT, other.action_ids_NT), "another update sees other trajectories"


def test_windows_of_another_number_of_processes_are_refused(make_policy, make_trainer, letters):
    module = make(make_policy(), GRPO(), updates=TWICE)
    state = state_of(module, make_trainer(2), letters, 2)
    fresh = make(make_policy(), GRPO(), updates=TWICE)
    fresh.load_extra_state({**state, "windows": state["windows"] * 2})
    with pytest.raises(ValueError, match="rollout windows of 2 processes, 1 are running"):
        make_trainer(2).fit(fresh, loader(*[letters] * 2))


def test_old_values_are_without_dropout(make_policy, make_trainer, letters):
    """The policy that sampled has no dropout, so the old log-probabilities have none either."""
    config = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 64, "attention_dropout": 0.5,
    }  # fmt: skip
    module = make(make_policy(config=config), GRPO(), updates=TWICE)
    spy = run(module, make_trainer(1), loader(*[letters] * 2))
    with torch.no_grad(), evaluation_mode(module):
        started = make(make_policy(config=config), GRPO())
        started.policy.build(())
        started.policy.eval()
        assert module.window is not None
        rollouts = module.window.rollouts
        expected = started.policy.score(rollouts.steps)
    torch.testing.assert_close(spy.prepared[0]["old_log_pf_BT"], expected.log_pf_NT, atol=1e-5, rtol=1e-5)
