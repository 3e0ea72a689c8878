"""Rollouts by real Ray actors: training is that of a written loop with old weights, through deaths and resumes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from benchmarks.subjects.old_weights import OldWeights
from datamodules.common.order import TrainLoader
from lightning_gfn.buffers.replay import ReplayBuffer
from lightning_gfn.cluster import ray_cluster
from lightning_gfn.interfaces import Objective
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.rollout import RolloutModule
from lightning_gfn.modules.rollout_source import FromActors
from lightning_gfn.modules.settings import KLControl, OptimizerSettings, UpdateSettings
from lightning_gfn.objectives.functional.importance import ImportanceSettings
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.heads import ValueHead
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rollouts.asynchronous.settings import AsynchronousSettings
from lightning_gfn.rollouts.behaviour import BehaviourMix
from lightning_gfn.tools.calculator import Calculator
from lightning_gfn.types import LossOutput, Problem

CONFTEST = __file__.replace("test_asynchronous", "conftest")
HASHED = f"{CONFTEST}:hashed_reward"
PROBLEMS = [Problem(id=f"p{i}", prompt="xyz"[i % 3] * (1 + i % 2), solutions=("ab", "ca")) for i in range(7)]
REPLAY = BehaviourMix(on_policy=0.25, tempered=0.25, replay=0.25, reference=0.25)
RAY = {"num_cpus": 0.5}
slow = pytest.mark.slow


class Logged(L.Callback):
    """The batches and losses of a run, and further metrics of each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[tuple[str, ...], float, float]] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.metrics.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        ids, log_pf = tuple(problem.id for problem in batch), self.metrics[-1]["train/log_pf_mean"]
        self.steps.append((ids, float(outputs["loss"]), log_pf))


@pytest.fixture(scope="module")
def real_ray() -> Iterator[Any]:
    ray = ray_cluster.load_ray()
    ray_cluster.connect(ray)
    yield ray
    ray.shutdown()


def settings_of(case: str) -> tuple[type[RolloutModule], Objective, dict[str, Any]]:
    if case == "vargrad":
        return GFlowNetModule, VarGrad(), {"behaviour": REPLAY, "buffer": ReplayBuffer(capacity=50)}
    if case == "reference":
        return GFlowNetModule, VarGrad(), {"reward": ReferenceLikelihood()}
    if case == "tool":  # writes c behind every d, which is no expression
        tools = [Calculator(trigger="d", error="c")]
        return GFlowNetModule, VarGrad(), {"behaviour": REPLAY, "buffer": ReplayBuffer(capacity=50), "tools": tools}
    if case == "lora":
        return PolicyGradientModule, GRPO(), {"lora": LoraSettings(rank=2, alpha=4)}
    if case == "ppo":
        return PolicyGradientModule, PPO(), {"head": ValueHead(), "updates": UpdateSettings(2, 3), "kl": KLControl(0.1)}
    importance = ImportanceSettings(level="sequence") if case == "grpo weighted" else None
    return PolicyGradientModule, GRPO(kl="reward", importance=importance), {"kl": KLControl(0.1)}


def make(make_policy: Any, case: str, asynchronous: AsynchronousSettings | None, **changes: Any) -> RolloutModule:
    kind, objective, further = settings_of(case)
    changes = {**further, **changes}
    policy = make_policy(lora=changes.pop("lora", None), tools=changes.pop("tools", None))
    reward = changes.pop("reward", None) or FunctionReward(function=HASHED)
    return kind(
        policy, changes.pop("objective", objective), reward, num_samples=6, optimizer=OptimizerSettings(lr=1e-2),
        asynchronous=asynchronous, **changes,
    )  # fmt: skip


def fit(make_trainer: Any, module: RolloutModule, steps: int = 6, *, ckpt_path: Any = None, **settings: Any) -> Logged:
    logged = Logged()
    callbacks = [*settings.pop("callbacks", []), logged]
    trainer = make_trainer(steps, callbacks=callbacks, **settings)
    loader = TrainLoader(PROBLEMS, batch_size=3, seed=1, repeats=module.updates_per_rollout)
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    return logged


# ---------------------------------------------------------------- against loops


@slow
@pytest.mark.parametrize(
    ("case", "trainer"),
    [("vargrad", {}), ("tool", {}), ("reference", {}), ("lora", {"accumulate_grad_batches": 2}), ("ppo", {})],
)
def test_without_staleness_training_is_the_synchronous_one(real_ray, make_policy, make_trainer, case, trainer) -> None:
    """Replay, references, tempered samples, a frozen reference, adapters, accumulation, several updates."""
    alone = fit(make_trainer, make(make_policy, case, None), **trainer)
    settings = AsynchronousSettings(max_staleness=0, num_samplers=1, **RAY)
    beside = fit(make_trainer, make(make_policy, case, settings), **trainer)
    assert beside.steps == alone.steps
    assert len({log_pf for *_, log_pf in alone.steps}) == len(alone.steps)
    assert {metrics["train/staleness"] for metrics in beside.metrics} == {0.0}
    for one, other in zip(alone.metrics, beside.metrics, strict=True):
        assert one == {name: other[name] if "idle" not in name else value for name, value in one.items()}


@slow
@pytest.mark.parametrize(("case", "bound"), [("vargrad", 2), ("grpo", 3), ("grpo weighted", 3)])
def test_reproducible_training_is_that_of_a_loop_with_old_weights(
    real_ray, make_policy, make_trainer, case, bound
) -> None:
    """Without replay, whose rows are drawn when a batch is asked for; two actors share the batches."""
    changes = {"behaviour": BehaviourMix(), "buffer": None} if case == "vargrad" else {}
    settings = AsynchronousSettings(max_staleness=bound, num_samplers=2, reproducible=True, **RAY)
    beside = fit(make_trainer, make(make_policy, case, settings, **changes), 8)
    written = make(make_policy, case, settings, **changes)
    written.source = OldWeights(bound)
    loop = fit(make_trainer, written, 8)
    assert beside.steps == loop.steps
    assert [metrics["train/staleness"] for metrics in beside.metrics] == [min(step, bound) for step in range(8)]
    fresh = fit(make_trainer, make(make_policy, case, None, **changes), 8)
    near = [abs(one[2] - other[2]) < 1e-6 for one, other in zip(fresh.steps, loop.steps, strict=True)]
    assert near[0] and not any(near[2:])


@slow
def test_the_bound_holds_with_the_newest_weights_and_two_samplers(real_ray, make_policy, make_trainer) -> None:
    """Two epochs cut short, several updates a batch, an optimiser step every two training batches."""
    settings = AsynchronousSettings(max_staleness=3, num_samplers=2, **RAY)
    module = make(make_policy, "ppo", settings, updates=UpdateSettings(2, 1))
    logged = fit(make_trainer, module, -1, max_epochs=3, accumulate_grad_batches=2, limit_train_batches=4)
    loader = TrainLoader(PROBLEMS, batch_size=3, seed=1, repeats=2)
    expected = [tuple(p.id for p in loader.batch_at(epoch, batch)) for epoch in range(3) for batch in range(4)]
    assert [ids for ids, *_ in logged.steps] == expected and module.num_rollout_batches == 6
    assert all(0.0 <= metrics["train/staleness"] <= 3.0 for metrics in logged.metrics)
    assert logged.metrics[-1]["train/staleness_max"] == max(metrics["train/staleness"] for metrics in logged.metrics)


# ---------------------------------------------------------------- deaths, errors, resumes


class KillOnce(L.Callback):
    """Kills a sampler's process after the second step."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *others: Any) -> None:
        if trainer.global_step == 2:
            os.kill(next(iter(pl_module.source.pool.pids.values())), signal.SIGKILL)


@slow
def test_a_killed_sampler_is_replaced_and_nothing_is_lost_or_doubled(real_ray, make_policy, make_trainer) -> None:
    settings = AsynchronousSettings(max_staleness=2, num_samplers=2, reproducible=True, **RAY)
    whole = fit(make_trainer, make(make_policy, "vargrad", settings), 7)
    module = make(make_policy, "vargrad", settings)
    torn = fit(make_trainer, module, 7, callbacks=[KillOnce()])
    assert torn.steps == whole.steps
    assert torn.metrics[-1]["train/samplers_replaced"] == 1.0
    assert whole.metrics[-1]["train/samplers_replaced"] == 0.0


def dies(completions: list[str], **columns: Any) -> list[float]:
    """A reward that kills the process it runs in, if that is an actor."""
    import ray

    if ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return [0.0] * len(completions)


def not_finite(completions: list[str], **columns: Any) -> list[float]:
    """A reward of which some values are infinite, but not that of the empty text it is tried on."""
    return [float("inf") if text else 0.0 for text in completions]


@slow
@pytest.mark.parametrize(
    ("function", "error", "said"),
    [("dies", RuntimeError, "2 samplers died over rollout batch 0"), ("not_finite", ValueError, "'not_finite'.*inf")],
)
def test_what_goes_wrong_in_a_sampler_is_said(real_ray, make_policy, make_trainer, function, error, said) -> None:
    settings = AsynchronousSettings(max_staleness=1, max_deaths=2, **RAY)
    problems = [Problem(id="only", prompt="x")]
    module = make(make_policy, "grpo", settings, reward=FunctionReward(function=f"{__file__}:{function}"))
    with pytest.raises(error, match=said) as caught:
        make_trainer(2).fit(module, TrainLoader(problems, batch_size=1, seed=0))
    module.source.close()
    assert caught.value.__cause__ is not None


@slow
def test_a_resumed_run_uses_every_batch_once(real_ray, make_policy, make_trainer, tmp_path: Path) -> None:
    """What was under way is sampled again by the restored weights: of the first batch, those of its own step."""

    class Save(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *others: Any) -> None:
            if trainer.global_step == 4:
                trainer.save_checkpoint(tmp_path / "four.ckpt")

    settings = AsynchronousSettings(max_staleness=2, num_samplers=2, reproducible=True, **RAY)
    whole = fit(make_trainer, make(make_policy, "vargrad", settings), 8, callbacks=[Save()])
    module = make(make_policy, "vargrad", settings)
    resumed = fit(make_trainer, module, 8, ckpt_path=tmp_path / "four.ckpt")
    assert [ids for ids, *_ in resumed.steps] == [ids for ids, *_ in whole.steps][4:]
    assert [metrics["train/staleness"] for metrics in resumed.metrics] == [0.0, 1.0, 2.0, 2.0]
    assert module.num_rollout_batches == 8


# ---------------------------------------------------------------- settings


class Spy(Objective):
    """Passes everything on and keeps the columns."""

    def __init__(self, inner: Objective) -> None:
        self.inner, self.seen = inner, []  # type: ignore[var-annotated]

    @property
    def requires(self) -> frozenset[str]:
        return self.inner.requires

    def prepare(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.inner.prepare(columns)

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        self.seen.append(dict(columns))
        return self.inner(columns)


@pytest.mark.parametrize(
    ("objective", "staleness", "compares"),
    [(GRPO(), 2, True), (GRPO(), 0, False), (GRPO(importance=ImportanceSettings()), 2, False)],
)
def test_the_ratio_is_to_the_policy_that_sampled(make_policy, make_trainer, objective, staleness, compares) -> None:
    """With importance weights q_old stays the present policy, and the sampler is compared with it."""
    settings = AsynchronousSettings(max_staleness=staleness)
    module = make(make_policy, "grpo", settings, objective=objective, kl=None)
    assert isinstance(module.source, FromActors)
    module.source = OldWeights(staleness)
    module.objective = spy = Spy(objective)
    logged = fit(make_trainer, module, 4)
    columns = spy.seen[-1]
    present, old = columns["log_pf_BT"].detach(), columns["old_log_pf_BT"]
    assert torch.equal(present, old) != compares
    assert (abs(logged.metrics[-1]["train/ratio_mean"] - 1.0) > 1e-3) == compares
    assert (abs(logged.metrics[-1].get("train/importance_log_mean", 0.0)) > 1e-3) == (objective.importance is not None)


def test_samples_without_any_correction_are_said(make_policy) -> None:
    with pytest.warns(UserWarning, match="up to asynchronous.max_staleness=2 optimiser steps older: set objective.imp"):
        module = make(make_policy, "grpo", AsynchronousSettings(max_staleness=2), objective=GRPO(ratio="none"), kl=None)
    assert not module.old_is_sampler


def test_one_vllm_server_for_actors_and_trainer_is_refused(make_policy, make_trainer) -> None:
    module = make(make_policy, "grpo", AsynchronousSettings(**RAY))
    module.policy.engine = object()
    with pytest.raises(ValueError, match="model.asynchronous and model.policy.vllm do not go together"):
        module.source.start(module)


@slow
def test_other_loaders_are_refused(real_ray, make_policy, make_trainer) -> None:
    module = make(make_policy, "grpo", AsynchronousSettings(**RAY))
    with pytest.raises(ValueError, match="which DataLoader cannot tell.*model.asynchronous to null"):
        make_trainer(2).fit(module, torch.utils.data.DataLoader([PROBLEMS[:2]] * 2, batch_size=None))


@slow
def test_more_samplers_than_the_bound_employs_are_named(real_ray, make_policy, make_trainer) -> None:
    module = make(make_policy, "grpo", AsynchronousSettings(num_samplers=3, max_staleness=1, **RAY))
    with pytest.warns(UserWarning, match="lets 2 rollout batches be sampled at a time, 1 of 3 samplers will wait"):
        fit(make_trainer, module, 1)
