"""Feedback Distillation through the whole stack: it reaches a fixed teacher, resumes bit for bit, and counts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_gfn.callbacks.budget import Budget
from lightning_gfn.feedback.by_rule import ReferenceFeedback
from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.modules.distillation import DistillationModule, TeacherSettings
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import OptimizerSettings
from lightning_gfn.objectives.distillation import TopKDistillation
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.reports import curves
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.teacher_interfaces import FeedbackSource
from lightning_gfn.tracking.disk_logger import DiskLogger
from lightning_gfn.types import Feedback, LogReward, Problem, Rollouts, Source, StepBatch

TEMPLATE = "{feedback}{prompt}"
PROBLEM = Problem(id="only", prompt="x", answer="1", solutions=("ab",))
SIZES = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.4,
}  # fmt: skip


class Told(FeedbackSource):
    """The same words for every trajectory; None for those that ``silent`` names."""

    def __init__(self, text: str = "zzz", silent: Sequence[int] = ()) -> None:
        self.text, self.silent, self.calls = text, silent, 0
        self.contexts: list[Any] = []

    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        self.calls += 1
        texts = tuple(None if b in self.silent else self.text for b in chosen)
        return Feedback(texts, {"generated_tokens": 100, "said": len(chosen)})

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_state_dict(self, state: Any) -> None:
        self.calls = state["calls"]


class Letters(Reward):
    """Right are answers with an a."""

    provides = frozenset({"log_reward_B"})

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        correct_B = torch.tensor(["a" in text for text in rollouts.completions])
        return {"a": correct_B.float()}, correct_B

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, step: int) -> LogReward:
        return LogReward(terms["a"])


def make_module(make_policy: Callable[..., CausalLM], **changes: Any) -> DistillationModule:
    settings: dict[str, Any] = {
        "feedback": Told(), "reward": AnswerMatch(), "num_samples": 4,
        "teacher": TeacherSettings(template=TEMPLATE, max_prompt_tokens=12),
        "optimizer": OptimizerSettings(lr=3e-3),
    }  # fmt: skip
    settings.update(changes)
    policy = settings.pop("policy", None) or make_policy(max_new_tokens=3, config=SIZES)
    return DistillationModule(policy, **settings)


def fit(module: DistillationModule, trainer: L.Trainer, num_batches: int, **options: Any) -> None:
    """Weights are drawn when the run starts, so that is where the seed is set."""
    torch.manual_seed(0)
    trainer.fit(module, loader(num_batches), **options)


def loader(num_batches: int) -> DataLoader[Problem]:
    return DataLoader([PROBLEM] * num_batches, batch_size=1, collate_fn=list)  # type: ignore[arg-type]


def enumerated(policy: CausalLM, prompt: str) -> Tensor:
    """log q of every completion of at most three letters."""
    texts = ["".join(p) for n in range(policy.max_new_tokens + 1) for p in itertools.product("abcd", repeat=n)]
    actions = [policy.encode_completion(text) for text in texts]
    width = policy.max_new_tokens
    ids = torch.tensor([a + [0] * (width - len(a)) for a in actions])
    mask = torch.tensor([[t < len(a) for t in range(width)] for a in actions])
    context = torch.tensor([policy.encode_context(prompt)] * len(texts))
    with torch.no_grad():
        scores = policy.score(StepBatch(context, torch.ones_like(context, dtype=torch.bool), ids, mask))
    assert scores.log_pstop_NT1 is not None
    stop = scores.log_pstop_NT1.gather(1, mask.sum(1, keepdim=True)).squeeze(1)
    log_q = scores.log_pf_NT.sum(1).double() + stop.double()
    assert log_q.exp().sum().item() == pytest.approx(1.0, abs=1e-4)
    return log_q


def total_variation(log_p: Tensor, log_q: Tensor) -> float:
    return 0.5 * (log_p.exp() - log_q.exp()).abs().sum().item()


@pytest.mark.parametrize(
    ("objective", "steps"),
    [
        pytest.param(TopKDistillation(), 150, id="forward"),
        pytest.param(TopKDistillation(rest="bucket", divergence="js"), 400, id="js", marks=pytest.mark.slow),
        pytest.param(
            TopKDistillation(rest="renormalise", divergence="reverse"), 150, id="reverse", marks=pytest.mark.slow
        ),
    ],
)
def test_student_becomes_the_teacher(
    make_policy: Any, make_trainer: Callable[..., L.Trainer], objective: TopKDistillation, steps: int
) -> None:
    """The teacher keeps its first weights; its distribution over 85 completions is known by enumeration."""
    teacher = TeacherSettings(decay=1.0, template=TEMPLATE, max_prompt_tokens=12)
    optimizer = OptimizerSettings(lr=5e-3, warmup_steps=10, schedule="cosine", betas=(0.9, 0.98))
    module = make_module(make_policy, teacher=teacher, objective=objective, num_samples=32, optimizer=optimizer)
    untrained = make_built(make_policy)
    target = enumerated(untrained, "zzzx")
    assert total_variation(target, enumerated(untrained, "x")) > 0.2
    fit(module, make_trainer(steps, gradient_clip_val=1.0), steps)
    assert total_variation(target, enumerated(module.policy, "x")) < 0.02  # type: ignore[arg-type]


def flat_state(module: DistillationModule) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)])
def test_a_resumed_run_is_the_same_run_bit_for_bit(
    make_policy: Any, make_trainer: Callable[..., L.Trainer], tmp_path: Path, lora: LoraSettings | None
) -> None:
    """Stopped after step 4, between two updates of the teacher (every 3 steps)."""
    teacher = TeacherSettings(decay=0.5, every=3, top_k=3, template=TEMPLATE, max_prompt_tokens=12)

    def fresh() -> DistillationModule:
        return make_module(make_policy, teacher=teacher, policy=make_policy(max_new_tokens=3, config=SIZES, lora=lora))

    straight, first, resumed = fresh(), fresh(), fresh()
    fit(straight, make_trainer(8), 8)
    stopped = make_trainer(4)
    fit(first, stopped, 8)
    stopped.save_checkpoint(tmp_path / "half.ckpt")
    fit(resumed, make_trainer(8), 8, ckpt_path=str(tmp_path / "half.ckpt"), weights_only=True)
    expected, found = flat_state(straight), flat_state(resumed)
    assert expected.keys() == found.keys() and any(".teacher." in name for name in expected)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert resumed.extra_state() == straight.extra_state() == {
        "num_rollout_batches": 8, "teacher_updated_at": 6, "feedback": {"calls": 8}
    }  # fmt: skip

    state = torch.load(tmp_path / "half.ckpt", weights_only=True)
    for name, value in state["state_dict"].items():
        if ".teacher." in name:
            value.mul_(0.9)
    torch.save(state, tmp_path / "spoiled.ckpt")
    spoiled = fresh()
    fit(spoiled, make_trainer(8), 8, ckpt_path=str(tmp_path / "spoiled.ckpt"), weights_only=True)
    assert not all(torch.equal(expected[name], value) for name, value in flat_state(spoiled).items())


def test_the_teacher_follows_every_n_optimiser_steps(
    make_policy: Any, make_trainer: Callable[..., L.Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = TeacherSettings(decay=0.25, every=2, template=TEMPLATE, max_prompt_tokens=12)
    module = make_module(make_policy, teacher=teacher)
    steps: list[tuple[int, float]] = []
    monkeypatch.setattr(module.policy, "update_teacher", lambda decay: steps.append((module.global_step, decay)))
    make_trainer(7, accumulate_grad_batches=2).fit(module, loader(14))
    assert steps == [(2, 0.25), (4, 0.25), (6, 0.25)]


def one_step(
    module: DistillationModule, make_trainer: Callable[..., L.Trainer]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the only training step returns and logs."""
    returned: list[dict[str, Any]] = []
    plain = module.training_step

    def recorded(batch: list[Problem], batch_idx: int) -> dict[str, Any]:
        returned.append(plain(batch, batch_idx))
        return returned[-1]

    module.training_step = recorded  # type: ignore[method-assign]
    trainer = make_trainer(1)
    fit(module, trainer, 1)
    return returned[0], {name: float(value) for name, value in trainer.logged_metrics.items()}


def test_counts_and_log(make_policy: Any, make_trainer: Callable[..., L.Trainer]) -> None:
    module = make_module(make_policy, feedback=Told(silent=(0, 2)))
    returned, logged = one_step(module, make_trainer)
    rollouts = module.sampler.collect(
        make_built(make_policy), [PROBLEM], rollout_step=0, buffer=None, device="cpu"
    ).rollouts
    lengths = rollouts.action_mask_NT.sum(1)
    assert returned["generated_tokens"] == int(lengths.sum()) + 100 and returned["reward_calls"] == 4
    prompt = int(rollouts.context_mask_NC[0].sum())
    assert returned["gradient_tokens"] == int(lengths[[1, 3]].sum()) + 2 * prompt
    assert logged["train/teacher_tokens"] == int(lengths[[1, 3]].sum()) + 2 * (prompt + 3)
    assert logged["train/with_feedback"] == 0.5 and logged["train/feedback_said"] == 4.0
    assert logged["train/solve_rate_on_policy"] == 0.0 and logged["train/share_on_policy"] == 1.0
    assert logged["train/completion_length_mean"] == lengths.sum() / 4
    assert logged["train/kl"] > 0 and logged["train/grad_norm"] > 0


def test_reports_find_its_curves_on_every_axis(make_policy: Any, make_trainer: Any, tmp_path: Path) -> None:
    """The keys are those of the rollout modules; what only log q can tell is left out."""
    folders = {"distillation": tmp_path / "distillation", "grpo": tmp_path / "grpo"}
    policy = make_policy(max_new_tokens=3, config=SIZES)
    modules: dict[str, L.LightningModule] = {
        "distillation": make_module(make_policy, reward=Letters(), num_samples=16),
        "grpo": PolicyGradientModule(policy, GRPO(), Letters(), num_samples=16),
    }
    for name, module in modules.items():
        trainer = make_trainer(
            3, logger=DiskLogger(folders[name]), callbacks=[Budget()], default_root_dir=folders[name],
            log_every_n_steps=1,
        )  # fmt: skip
        fit(module, trainer, 3)  # type: ignore[arg-type]
    histories = {name: curves.histories(folder / "metrics.jsonl", [curves.TRAIN]) for name, folder in folders.items()}
    axes = ("step", "generated_tokens", "reward_calls", "gradient_tokens", "optimizer_steps", "wall_seconds")
    for name in folders:
        found = {axis: curves.along_axis([histories[name][curves.TRAIN]], axis, 1) for axis in axes}
        assert all(curve is not None for curve in found.values()), name
        assert 0.0 < found["step"].mean.mean() < 1.0, "some are right"  # type: ignore[union-attr]
    logged = {
        name: {key for row in curves.logged_rows(folder / "metrics.jsonl") for key in row}
        for name, folder in folders.items()
    }
    names = ["log_reward_mean", "completion_length_mean", "solve_rate_on_policy"]
    shared = {f"train/{name}" for name in [*names, *(f"share_{source}" for source in get_args(Source))]}
    assert shared <= logged["grpo"] and shared <= logged["distillation"]


def make_built(make_policy: Any) -> CausalLM:
    """The policy with the weights that ``fit`` starts from."""
    policy: CausalLM = make_policy(max_new_tokens=3, config=SIZES)
    torch.manual_seed(0)
    policy.build(())
    return policy


@pytest.mark.parametrize("feedback", [Told(silent=range(4)), Told(text="z" * 50)], ids=["none", "too long"])
def test_without_feedback_nothing_moves_but_every_parameter_is_touched(
    make_policy: Any, make_trainer: Callable[..., L.Trainer], feedback: Told
) -> None:
    module = make_module(make_policy, feedback=feedback)
    touched: list[bool] = []
    plain = module.on_before_optimizer_step

    def recorded(optimizer: Any) -> None:
        touched.extend(parameter.grad is not None for parameter in module.parameters() if parameter.requires_grad)
        plain(optimizer)

    module.on_before_optimizer_step = recorded  # type: ignore[method-assign]
    _, logged = one_step(module, make_trainer)
    assert touched and all(touched)
    start = make_built(make_policy)
    trained = dict(start.hugging_face.named_parameters())
    for name, parameter in module.policy.hugging_face.named_parameters():  # type: ignore[attr-defined]
        assert torch.equal(parameter, trained[name])
    assert logged["train/loss"] == 0.0 and logged["train/with_feedback"] == 0.0
    assert logged["train/feedback_too_long"] == (4.0 if len(feedback.silent) == 0 else 0.0)


def test_gradient_is_the_students_alone(make_policy: Any, make_trainer: Callable[..., L.Trainer]) -> None:
    """The gradient of a step is that of the cross-entropy against distributions computed beforehand."""
    module = make_module(make_policy)
    one_step(module, make_trainer)
    policy = make_built(make_policy)
    policy.start_teacher()
    rollouts = module.sampler.collect(policy, [PROBLEM], rollout_step=0, buffer=None, device="cpu").rollouts
    told = torch.tensor([policy.encode_context("zzzx")] * 4)
    seen = replace(rollouts.steps, context_ids_NC=told, context_mask_NC=torch.ones_like(told).bool())
    teacher = policy.teacher_actions(seen, top_k=5)
    student = policy.candidate_scores(rollouts.steps, teacher.candidates_NT1K)
    weights = torch.where(teacher.mask_NT1[..., None], teacher.log_p_NT1K.exp(), 0.0)
    there = teacher.log_p_NT1K > -torch.inf
    (-(weights * torch.where(there, student.log_p_NT1K, 0.0)).sum() / 4).backward()
    expected = dict(policy.hugging_face.named_parameters())
    for name, parameter in module.policy.hugging_face.named_parameters():  # type: ignore[attr-defined]
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-5, rtol=1e-3)


def test_wrong_settings_are_refused_early(make_policy: Any, make_trainer: Callable[..., L.Trainer]) -> None:
    with pytest.raises(ValueError, match="objective VarGrad cannot train in DistillationModule.*GFlowNetModule"):
        make_module(make_policy, objective=VarGrad())
    for setting in ({"decay": 1.1}, {"every": 0}, {"top_k": 0}, {"max_prompt_tokens": 0}):
        with pytest.raises(ValueError, match=rf"teacher\.{next(iter(setting))} is "):
            TeacherSettings(**setting)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="{feedback} exactly once"):
        TeacherSettings(template="{prompt}")
    wide = make_module(make_policy, teacher=TeacherSettings(template=TEMPLATE, max_prompt_tokens=62))
    with pytest.raises(ValueError, match=r"max_prompt_tokens=62 \+ max_new_tokens=3 exceed the 64 positions"):
        make_trainer(1).fit(wide, loader(1))


def test_the_source_is_checked_before_weights_are_loaded(
    make_policy: Any, make_trainer: Callable[..., L.Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ReferenceFeedback()

    def broken() -> None:
        raise ValueError("no key")

    monkeypatch.setattr(source, "setup", broken)
    module = make_module(make_policy, feedback=source)
    with pytest.raises(ValueError, match="no key"):
        make_trainer(1).fit(module, loader(1))
    assert module.policy.model is None  # type: ignore[attr-defined]
    make_trainer(1).test(module, DataLoader([PROBLEM], batch_size=1, collate_fn=list), verbose=False)
