"""Train past the short last batch of an epoch on two processes: ``python two_ranks_short.py FOLDER``."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch

from datamodules.common.base import ProblemDataModule, Split
from lightning_gfn.modules.policy_gradient import PolicyGradientModule
from lightning_gfn.modules.settings import OptimizerSettings, UpdateSettings
from lightning_gfn.objectives.grpo import GRPO
from lightning_gfn.objectives.ppo import PPO
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.heads import ValueHead
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.types import Problem

LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.4,
}  # fmt: skip
OBJECTIVES = {"groups": GRPO(aggregation="token"), "trajectories": PPO(kl="none", whiten=False)}
UPDATES = UpdateSettings(num_minibatches=4)
STEPS = {4: 5, 2: 7}
"""Optimiser steps by accumulation: one or two of two rollout batches an epoch, and a part of the next epoch."""
CUT = 3
"""Optimiser steps until an interruption: with accumulation 2, in the middle of the short batch."""


def hashed(completions: list[str]) -> list[float]:
    """A fixed log reward that no simple rule predicts."""
    return [hashlib.blake2b(text.encode(), digest_size=1).digest()[0] / 64 - 2.0 for text in completions]


class Letters(ProblemDataModule):
    """Seven training problems: with batches of four, the last one of an epoch has three."""

    def load_split(self, split: Split) -> list[Problem]:
        """Seven training problems, none elsewhere."""
        return [Problem(f"p{i}", "xyzw"[i % 4] * (1 + i // 4), "1") for i in range(7)] if split == "train" else []


def make_module(name: str, updates: UpdateSettings = UPDATES) -> PolicyGradientModule:
    """A policy over four letters under the named objective."""
    policy = CausalLM(
        config=LLAMA, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=8, max_new_tokens=4,
        allowed_tokens=list("abcd"),
    )  # fmt: skip
    head = ValueHead() if name == "trajectories" else None
    return PolicyGradientModule(
        policy, OBJECTIVES[name], FunctionReward(function=f"{__file__}:hashed"), num_samples=3, updates=updates,
        head=head, optimizer=OptimizerSettings(lr=0.1, head_lr=0.1, eps=1.0, weight_decay=0.1),
    )  # fmt: skip


class Save(L.Callback):
    """Writes a checkpoint at an optimiser step."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step, self.problems, self.saved = path, step, -1, False

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Write it, and note how many problems the window that it holds has."""
        if trainer.global_step == self.step and not self.saved:
            self.saved = True
            self.problems = len(pl_module.window.problem_ids) if pl_module.window is not None else 0
            trainer.save_checkpoint(self.path)


def train(
    module: PolicyGradientModule, max_steps: int, accumulate: int, ckpt_path: Path | None = None, **settings: Any
) -> L.Trainer:
    """The trainer after so many optimiser steps from the weights of seed 0."""
    torch.manual_seed(0)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(
        max_steps=max_steps, accelerator="cpu", use_distributed_sampler=False, accumulate_grad_batches=accumulate,
        **quiet, **settings,
    )  # fmt: skip
    trainer.fit(module, datamodule=Letters(batch_size=4), ckpt_path=ckpt_path, weights_only=True)
    return trainer


def main(folder: Path) -> None:
    """Whole and interrupted runs; every process writes what it ends with."""
    two: dict[str, Any] = {"devices": 2, "strategy": "ddp"}
    for name in OBJECTIVES:
        for accumulate, steps in STEPS.items():
            module, save = make_module(name), Save(folder / f"{name}{accumulate}.ckpt", CUT)
            trainer = train(module, steps, accumulate, callbacks=[save], **two)
            rank = trainer.global_rank
            report = {"world_size": trainer.world_size, "steps": trainer.global_step, "weights": module.state_dict()}
            torch.save({**report, "cut": save.problems}, folder / f"{name}{accumulate}_{rank}.pt")
        resumed = make_module(name)
        train(resumed, STEPS[2], 2, folder / f"{name}2.ckpt", **two)
        torch.save(resumed.state_dict(), folder / f"{name}_resumed_{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
