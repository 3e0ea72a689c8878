"""A folder with a small model that can be written in a moment."""

from __future__ import annotations

from pathlib import Path

import torch

from lightning_gfn.policies.causal_lm import CausalLM

CONFIG = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
}


def write_small_model(folder: Path, seed: int = 0) -> str:
    """Write a byte-level Llama with random weights; returns its folder."""
    torch.manual_seed(seed)
    policy = CausalLM(config=dict(CONFIG), max_prompt_tokens=128, max_new_tokens=32)
    policy.build(())
    policy.save_pretrained(folder)
    return str(folder)
