"""Training passes of this library: ``score`` and the backward pass, without an update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from benchmarks.frame.row import Way
from benchmarks.subjects.models import Model
from benchmarks.subjects.training import lora_settings

if TYPE_CHECKING:
    from lightning_gfn.policies.causal_lm import CausalLM
    from lightning_gfn.types import StepBatch


def random_ids(model: Model, rows: int, length: int, seed: int = 1) -> list[list[int]]:
    """Token ids of texts that the model's tokenizer gives back."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.folder)
    found = tokenizer(model.texts(rows, length, seed), add_special_tokens=False)["input_ids"]
    if any(len(ids) != length for ids in found):
        raise RuntimeError(f"the words of {model.name} are not single tokens: the comparison is void")
    return found


def built(model: Model, prompt_tokens: int, new_tokens: int, *, lora: bool = False, **settings: Any) -> CausalLM:
    """A policy with weights, in training mode, that may stop anywhere."""
    policy = model.policy(prompt_tokens, new_tokens, min_new_tokens=0, **lora_settings(lora), **settings)
    policy.build([])
    policy.set_dropout(False)
    return policy.train()


def pass_way(policy: CausalLM, steps: StepBatch, precision: str) -> Way:
    """Score given actions, with the stop of every prefix, and go back through the mean; gradients are dropped."""

    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
            scores = policy.score(steps)
            loss = -scores.log_pf_NT.sum() / steps.action_mask_NT.sum()
            assert scores.log_pstop_NT1 is not None
            (loss - 1e-3 * scores.log_pstop_NT1.mean()).backward()
        policy.zero_grad(set_to_none=True)

    return Way(run)
