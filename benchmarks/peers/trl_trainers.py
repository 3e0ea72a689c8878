"""TRL's trainers, to be taken step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.frame.machine import needs_package
from benchmarks.frame.row import Way
from benchmarks.frame.stepping import stepped
from benchmarks.subjects.models import Model, new_folder
from benchmarks.subjects.rewards import distinct_words

NEEDS_TRL = needs_package("trl", "pip install -e .[bench] -c constraints.txt")
MANY_STEPS = 10_000
FLOAT32 = {"bf16": False, "gradient_checkpointing": False}
SETTINGS: dict[str, dict[str, Any]] = {
    "TRL, defaults": {},
    "TRL, bf16 weights": {**FLOAT32, "model_init_kwargs": {"dtype": "bfloat16"}},
    "TRL, fp32": FLOAT32,
    "TRL, bf16 autocast": {"gradient_checkpointing": False},
}
"""The defaults are bfloat16 autocast with gradient checkpointing."""


def common_settings() -> dict[str, Any]:
    """What all trainers are given: nothing is saved or reported."""
    import torch

    return {
        "output_dir": str(new_folder()), "max_steps": MANY_STEPS, "report_to": "none", "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(), "disable_tqdm": True, "logging_strategy": "no",
    }  # fmt: skip


def trained(make: Callable[[Any], Any], threads: int) -> Way:
    """A way whose turn is one optimiser step of the trainer that is made with a callback."""

    def loop(mark: Callable[[], None]) -> None:
        from transformers import TrainerCallback

        class Marks(TrainerCallback):
            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                mark()

        make(Marks()).train()

    return stepped(loop, threads)


def grpo_way(
    model: Model, shape: tuple[int, int], lengths: tuple[int, int], settings: dict[str, Any], *, threads: int = 1,
    lora: bool = False,
) -> Way:  # fmt: skip
    """A step of ``GRPOTrainer``; arguments as ours, ``settings`` in place of the precision."""

    def make(callback: Any) -> Any:
        from datasets import Dataset
        from peft import LoraConfig
        from transformers import AutoTokenizer
        from trl import GRPOConfig, GRPOTrainer

        config = GRPOConfig(
            per_device_train_batch_size=shape[0] * shape[1], num_generations=shape[1],
            max_completion_length=lengths[1], generation_kwargs={"min_new_tokens": lengths[1]},
            **common_settings(), **settings,
        )  # fmt: skip
        adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        return GRPOTrainer(
            model=str(model.folder), reward_funcs=distinct_words, args=config,
            train_dataset=Dataset.from_dict({"prompt": model.texts(shape[0], lengths[0])}),
            processing_class=AutoTokenizer.from_pretrained(model.folder), callbacks=[callback],
            peft_config=adapter if lora else None,
        )  # fmt: skip

    return trained(make, threads)


def sft_way(model: Model, rows: int, lengths: tuple[int, int], settings: dict[str, Any], threads: int = 1) -> Way:
    """A step of ``SFTTrainer`` on ``rows`` pairs of prompt and completion."""

    def make(callback: Any) -> Any:
        from datasets import Dataset
        from transformers import AutoTokenizer
        from trl import SFTConfig, SFTTrainer

        data = {"prompt": model.texts(rows, lengths[0]), "completion": model.texts(rows, lengths[1], seed=2)}
        return SFTTrainer(
            model=str(model.folder),
            args=SFTConfig(per_device_train_batch_size=rows, max_length=None, **common_settings(), **settings),
            train_dataset=Dataset.from_dict(data), callbacks=[callback],
            processing_class=AutoTokenizer.from_pretrained(model.folder),
        )  # fmt: skip

    return trained(make, threads)


def dpo_way(
    model: Model, pairs: int, count: int, lengths: tuple[int, int], settings: dict[str, Any], threads: int = 1
) -> Way:
    """A step of ``DPOTrainer`` on ``pairs`` of ``count`` pairs, the reference scored in each step."""

    def make(callback: Any) -> Any:
        from datasets import Dataset
        from transformers import AutoTokenizer
        from trl import DPOConfig, DPOTrainer

        data = {
            "prompt": model.texts(count, lengths[0]),
            "chosen": model.texts(count, lengths[1], seed=2),
            "rejected": model.texts(count, lengths[1], seed=3),
        }
        return DPOTrainer(
            model=str(model.folder),
            args=DPOConfig(per_device_train_batch_size=pairs, max_length=None, **common_settings(), **settings),
            train_dataset=Dataset.from_dict(data), callbacks=[callback],
            processing_class=AutoTokenizer.from_pretrained(model.folder),
        )  # fmt: skip

    return trained(make, threads)
