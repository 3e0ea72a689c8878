"""Forward and backward passes of transformers, in the settings that its users choose among."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.frame.row import Way
from benchmarks.subjects.models import Model

PRECISIONS = ("fp32", "bf16 autocast", "bf16 weights")
ATTENTIONS = ("sdpa", "eager")


def load(model: Model, precision: str, attention: str, *, lora: bool = False) -> Any:
    """The model for training, with an adapter of rank 16 on all linear layers if asked."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if precision == "bf16 weights" else torch.float32
    network = AutoModelForCausalLM.from_pretrained(model.folder, dtype=dtype, attn_implementation=attention)
    if lora:
        network = get_peft_model(network, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    return network.train()


def autocast(precision: str) -> torch.autocast:
    """The context of a pass."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16 autocast")


def token_log_probs(network: Any, ids_BS: Tensor, mask_BS: Tensor, num_last: int) -> Tensor:
    """log p of the last tokens of each row, logits of no other position, (B, num_last)."""
    output = network(input_ids=ids_BS, attention_mask=mask_BS, logits_to_keep=num_last + 1, use_cache=False)
    log_p_BTV = output.logits[:, :-1].float().log_softmax(-1)
    return log_p_BTV.gather(-1, ids_BS[:, -num_last:, None]).squeeze(-1)


def pass_way(
    model: Model, ids_BS: Tensor, mask_BS: Tensor, num_last: int, precision: str, attention: str, *, lora: bool = False
) -> Way:
    """Forward and backward over the mean log-probability of the last tokens; gradients are dropped."""
    network = load(model, precision, attention, lora=lora)

    def run() -> None:
        with autocast(precision):
            loss = -token_log_probs(network, ids_BS, mask_BS, num_last).mean()
        loss.backward()
        network.zero_grad(set_to_none=True)

    return Way(run)


def pass_ways(
    model: Model,
    ids_BS: Tensor,
    num_last: int,
    *,
    lora: bool = False,
    attentions: tuple[str, ...] = ATTENTIONS,
    precisions: tuple[str, ...] = PRECISIONS,
) -> dict[str, Callable[[], Way]]:
    """Every setting of those asked for, for rows without padding."""
    mask_BS = torch.ones_like(ids_BS)

    def build(precision: str, attention: str) -> Callable[[], Way]:
        return lambda: pass_way(model, ids_BS, mask_BS, num_last, precision, attention, lora=lora)

    return {f"transformers, {p}, {a}": build(p, a) for p in precisions for a in attentions}
