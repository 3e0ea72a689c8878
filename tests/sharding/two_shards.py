"""Train with weights cut over two processes: ``python two_shards.py FOLDER NAME …``."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from lightning_gfn.modules.distillation import DistillationModule, TeacherSettings
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.preference import PreferenceModule
from lightning_gfn.modules.reward_model import RewardModelModule
from lightning_gfn.modules.settings import EvaluationSettings, KLControl, OptimizerSettings, UpdateSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.objectives.preference import DPO
from lightning_gfn.objectives.subtb import SubTB
from lightning_gfn.objectives.trajectory_balance import TrajectoryBalance
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.critic import Critic
from lightning_gfn.policies.heads import FlowHead, LogZHead, ValueHead
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.preference_types import JudgedSolution, Preference
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.teacher_interfaces import FeedbackSource
from lightning_gfn.types import Feedback, Problem

OPTIMIZER = OptimizerSettings(lr=0.02, head_lr=0.02, eps=1.0, weight_decay=0.1)
"""A large epsilon, so that a step is proportional to its gradient."""
CLIP = 0.5
LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.4,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.2}
T5 = {
    "model_type": "t5", "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2,
    "dropout_rate": 0.0,
}  # fmt: skip
PROBLEMS = [
    [
        Problem(f"p{3 * i + j}", "xyzw"[(i + j) % 4] * (1 + (5 * i + 2 * j) % 5), "1", ("abcd"[: 1 + (i + 2 * j) % 4],))
        for j in range(1 + (i % 2))
    ]
    for i in range(8)
]
"""Batches of one and of two problems: those of the second process are larger, and their lengths are others."""
PAIRS = [[Preference(p.id, p.prompt, p.solutions[0], "dcba"[: 1 + len(p.id)]) for p in batch] for batch in PROBLEMS]
LABELS = [[JudgedSolution(p.id, p.prompt, (*p.solutions[0],), (*[1.0, 0.0, 0.5, 1.0][: len(p.solutions[0])],))
           for p in batch] for batch in PROBLEMS]  # fmt: skip
BUDGET = PassBudget(max_tokens_per_pass=16, max_rows_per_pass=2)
IN_PASSES = " in passes"
"""Ends the names of the same examples under a budget, under which the processes have different numbers of passes."""


def hashed(completions: list[str]) -> list[float]:
    """A fixed log reward that no simple rule predicts."""
    return [hashlib.blake2b(text.encode(), digest_size=1).digest()[0] / 64 - 2.0 for text in completions]


class TeacherOfSome(FeedbackSource):
    """The same words about every attempt at a problem whose number is even."""

    def give(self, rollouts: Any, policy: Any, chosen: Any) -> Feedback:
        """Words or None for each trajectory."""
        return Feedback(tuple(None if int(rollouts.problem_of(b).id[1:]) % 2 else "zzz" for b in chosen))


def policy(budget: PassBudget | None, lora: bool = False, config: dict[str, Any] = LLAMA, **more: Any) -> CausalLM:
    """A policy over four letters."""
    make = Seq2SeqLM if config is T5 else CausalLM
    return make(
        config=config, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=8, max_new_tokens=4,
        allowed_tokens=list("abcd"), lora=LoraSettings(rank=4) if lora else None, budget=budget, **more,
    )  # type: ignore[return-value]  # fmt: skip


BASE: list[Path] = []
"""The folder of a model, once there is one."""
COMMON: dict[str, Any] = {"optimizer": OPTIMIZER, "evaluation": EvaluationSettings(num_samples=2)}
ROLLOUTS: dict[str, Any] = {**COMMON, "num_samples": 4}
TWICE, HALVES = UpdateSettings(num_epochs=2), UpdateSettings(num_minibatches=2)
FEW: dict[str, Any] = {**COMMON, "num_samples": 1}
"""One trajectory a problem, so that a batch of one problem has one minibatch of two."""


def reward() -> FunctionReward:
    """``hashed``."""
    return FunctionReward(function=f"{__file__}:hashed")


def adapter() -> CausalLM:
    """An adapter on the model in ``BASE``, whose weights checkpoints leave out."""
    return CausalLM(
        pretrained=str(BASE[0]), lora=LoraSettings(rank=4), max_prompt_tokens=8, max_new_tokens=4,
        allowed_tokens=list("abcd"),
    )  # fmt: skip


def likelihood() -> SumReward:
    """The likelihood under the reference at temperature 1/2, so that the reference itself is not the optimum."""
    return SumReward({"likelihood": WeightedReward(ReferenceLikelihood(), temperature=0.5)})


def reward_model(budget: PassBudget | None) -> RewardModelModule:
    """A reward model of steps."""
    network = LanguageRewardNetwork(
        config=LLAMA, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=16, max_completion_tokens=32,
        budget=budget,
    )  # fmt: skip
    return RewardModelModule(network, optimizer=OPTIMIZER)


def teacher(budget: PassBudget | None) -> DistillationModule:
    """Feedback Distillation."""
    settings = TeacherSettings(decay=0.5, every=1, template="{feedback}{prompt}", max_prompt_tokens=12)
    return DistillationModule(policy(budget), TeacherOfSome(), reward(), teacher=settings, **ROLLOUTS)


MODULES: dict[str, Callable[[PassBudget | None], L.LightningModule]] = {
    "sft": lambda b: SFTModule(policy(b), **COMMON),
    "sft lora": lambda b: SFTModule(policy(b, lora=True, gradient_checkpointing=True), **COMMON),
    "sft adapter": lambda b: SFTModule(adapter(), **COMMON),
    "sft t5": lambda b: SFTModule(policy(b, config=T5), **COMMON),
    "vargrad": lambda b: GFlowNetModule(policy(b, lora=True), VarGrad(), likelihood(), **ROLLOUTS),
    "vargrad gpt2": lambda b: GFlowNetModule(policy(b, config=GPT2), VarGrad(), reward(), **ROLLOUTS),
    "subtb": lambda b: GFlowNetModule(policy(b), SubTB(), reward(), head=FlowHead(width=8), **ROLLOUTS),
    "tb": lambda b: GFlowNetModule(policy(b, lora=True), TrajectoryBalance(), reward(), head=LogZHead(), **ROLLOUTS),
    "grpo": lambda b: PolicyGradientModule(
        policy(b), GRPO(kl="k3"), reward(), kl=KLControl(), updates=TWICE, **ROLLOUTS
    ),
    "ppo": lambda b: PolicyGradientModule(
        policy(b), PPO(kl="none", whiten=False), reward(), head=Critic(), updates=TWICE, **ROLLOUTS
    ),
    "short": lambda b: PolicyGradientModule(
        policy(b), PPO(kl="none", whiten=False), reward(), head=ValueHead(), updates=HALVES, **FEW
    ),
    "preference": lambda b: PreferenceModule(policy(b), DPO(beta=0.5), **COMMON),
    "distillation": teacher,
    "reward_model": reward_model,
}  # fmt: skip


def batches_of(name: str) -> list[list[Any]]:
    """The training batches of both processes by turns."""
    kind = name.removesuffix(IN_PASSES)
    return {"preference": PAIRS, "reward_model": LABELS}.get(kind, PROBLEMS)


def make_module(name: str) -> L.LightningModule:
    """The module of a name."""
    return MODULES[name.removesuffix(IN_PASSES)](BUDGET if name.endswith(IN_PASSES) else None)


def updates_of(module: L.LightningModule) -> int:
    """How often a training batch comes."""
    return int(getattr(module, "updates_per_rollout", 1))


class Idle(L.Callback):
    """Counts training batches without anything to learn from."""

    count = 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Count."""
        self.count += outputs["gradient_tokens"] == 0


def trainer(**settings: Any) -> L.Trainer:
    """A trainer that only trains."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return L.Trainer(
        **{"max_epochs": 1, "accelerator": "cpu", "use_distributed_sampler": False, "gradient_clip_val": CLIP,
           "num_sanity_val_steps": 0, "callbacks": [Idle()], **quiet, **settings}
    )  # fmt: skip


def loader(batches: list[list[Any]]) -> Any:
    """Batches as they are."""
    return DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]


def train(name: str, batches: list[list[Any]], **settings: Any) -> L.LightningModule:
    """The module after one pass over the batches, each used as often as it asks for; two micro-batches a step."""
    torch.manual_seed(0)
    module = make_module(name)
    resumed = {"ckpt_path": settings.pop("ckpt_path", None), "weights_only": True}
    repeated = [batch for batch in batches for _ in range(updates_of(module))]
    accumulate = 2 if updates_of(module) == 1 else 1
    validation = loader(batches[: 1 + len(batches[0])]) if name.startswith(("sft", "grpo")) else None
    trainer(**{"accumulate_grad_batches": accumulate, **settings}).fit(module, loader(repeated), validation, **resumed)
    return module


def weights(module: Any) -> dict[str, torch.Tensor]:
    """All weights, whole."""
    with module.whole_weights():
        return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def joined(batches: list[list[Any]]) -> list[list[Any]]:
    """The batches of one process that sees what two see in a step."""
    return [one + other for one, other in zip(batches[::2], batches[1::2], strict=True)]


def report_of(module: Any) -> dict[str, Any]:
    """What a process ends with."""
    return {
        "world_size": torch.distributed.get_world_size(), "backend": torch.distributed.get_backend(),
        "steps": module.trainer.global_step, "weights": weights(module),
        "part": sum(p.to_local().numel() for p in module.parameters()) / sum(p.numel() for p in module.parameters()),
        "norm": float(module.trainer.callback_metrics["train/grad_norm"]),
        "idle": module.trainer.callbacks[0].count,
    }  # fmt: skip


def main(folder: Path, names: list[str]) -> None:
    """Train each module, save and export it, and train on from one process's checkpoint; write what each ends with."""
    rank = L.fabric.plugins.environments.LightningEnvironment().local_rank()
    BASE.append(folder / "base")
    for name in names:
        settings: dict[str, Any] = {"devices": 2, "strategy": "fsdp2"}
        module: Any = train(name, batches_of(name)[rank::2], **settings)
        torch.save(report_of(module), folder / f"{name}{rank}.pt")
        module.trainer.save_checkpoint(folder / f"{name}.two")
        with module.whole_weights():
            if rank == 0:
                module.trained_model.save_pretrained(folder / f"{name}.model")
        if (start := folder / f"{name}.one").exists():
            module = train(name, batches_of(name)[rank::2], ckpt_path=start, max_epochs=2, **settings)
            torch.save(report_of(module), folder / f"{name}{rank}.resumed.pt")
        if name == "short":
            module = train(name, batches_of(name)[rank::2], **settings | {"strategy": "ddp"})
            torch.save(weights(module), folder / f"{name}{rank}.ddp.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
