"""Training runs of this library under the Lightning Trainer, to be taken step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.frame.row import Way
from benchmarks.frame.stepping import stepped
from benchmarks.subjects.models import Model
from benchmarks.subjects.rewards import TokenReward, distinct_words
from lightning_gfn.policies.numerics.processor import cpu_has_bfloat16
from lightning_gfn.types import Problem

LR, MANY = 1e-6, 400
"""Learning rate of all training rows; more training batches than any row takes."""


def best_precision() -> str:
    """The faster of the trainer's precisions here."""
    import torch

    return "bf16-mixed" if torch.cuda.is_available() or cpu_has_bfloat16() else "32-true"


def fit_loop(module: Any, batches: Sequence[list[Any]], precision: str, every: int = 1) -> Callable[..., None]:
    """A loop over given batches that marks the end of each ``every``-th one."""

    def loop(mark: Callable[[], None]) -> None:
        import lightning as L
        from torch.utils.data import DataLoader

        class Marks(L.Callback):
            def on_train_batch_end(
                self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
            ) -> None:
                if (batch_idx + 1) % every == 0:
                    mark()

        trainer = L.Trainer(
            max_epochs=1, precision=precision, gradient_clip_val=1.0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[Marks()], use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader(list(batches), batch_size=None, collate_fn=lambda batch: batch))

    return loop


def problems(model: Model, count: int, prompt_tokens: int) -> list[Problem]:
    """Problems with prompts of exactly so many tokens."""
    return [Problem(id=str(i), prompt=text) for i, text in enumerate(model.texts(count, prompt_tokens))]


def optimizer() -> Any:
    """AdamW as all rows use it."""
    from lightning_gfn.modules.settings import OptimizerSettings

    return OptimizerSettings(lr=LR)


def lora_settings(lora: bool) -> dict[str, Any]:
    """Settings of the policy for an adapter of rank 16 on all linear layers."""
    from lightning_gfn.policies.models.adapters import LoraSettings

    return {"lora": LoraSettings(rank=16, alpha=32.0)} if lora else {}


def grpo_way(
    model: Model, shape: tuple[int, int], lengths: tuple[int, int], precision: str, *, threads: int = 1,
    lora: bool = False,
) -> Way:  # fmt: skip
    """A GRPO step: sample, reward, score, update.

    Args:
        model: to train.
        shape: prompts and completions of each.
        lengths: tokens of a prompt and of a completion.
        precision: of the trainer.
        threads: of PyTorch.
        lora: train an adapter instead of all weights.
    """
    from lightning_gfn.modules.policy_gradient import PolicyGradientModule
    from lightning_gfn.objectives.grpo import GRPO
    from lightning_gfn.rewards.function import FunctionReward

    module = PolicyGradientModule(
        policy=model.policy(*lengths, **lora_settings(lora)), objective=GRPO(),
        reward=FunctionReward(distinct_words), num_samples=shape[1], optimizer=optimizer(), log_entropy=False,
    )  # fmt: skip
    return stepped(fit_loop(module, [problems(model, shape[0], lengths[0])] * MANY, precision), threads)


def subtb_way(
    model: Model, shape: tuple[int, int], lengths: tuple[int, int], precision: str, *, threads: int = 1,
    lora: bool = False,
) -> Way:  # fmt: skip
    """A step of modified SubTB; arguments as ``grpo_way``. Every prefix may stop in the loss, none in sampling."""
    from lightning_gfn.modules.gflownet import GFlowNetModule
    from lightning_gfn.objectives.subtb import ModifiedSubTB

    module = GFlowNetModule(
        policy=model.policy(*lengths, **lora_settings(lora)), objective=ModifiedSubTB(), reward=TokenReward(),
        num_samples=shape[1], optimizer=optimizer(), log_entropy=False,
    )  # fmt: skip
    return stepped(fit_loop(module, [problems(model, shape[0], lengths[0])] * MANY, precision), threads)
