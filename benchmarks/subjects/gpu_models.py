"""Llama models of published sizes with random weights, made on the device itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from lightning_gfn.policies.causal_lm import CausalLM

LLAMA_1B: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
LLAMA_8B: dict[str, Any] = {
    **LLAMA_1B,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "head_dim": 128,
    "tie_word_embeddings": False,
}


def made(config: dict[str, Any], device: str, prompt_tokens: int, new_tokens: int, **settings: Any) -> CausalLM:
    """A policy with random weights on a device."""
    from lightning_gfn.policies.causal_lm import CausalLM

    policy = CausalLM(config=config, max_prompt_tokens=prompt_tokens, max_new_tokens=new_tokens, **settings)
    torch.manual_seed(0)
    with torch.device(device):
        policy.build([])
    policy.set_dropout(False)
    return policy.to(device)


def random_prompts(config: dict[str, Any], rows: int, length: int, seed: int = 1) -> list[list[int]]:
    """Token ids drawn from the first bytes of the vocabulary, of which every one may be produced."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(10, min(200, config["vocab_size"]), (rows, length), generator=generator).tolist()


def needs_cuda() -> str | None:
    """A need of a row: a CUDA device."""
    return None if torch.cuda.is_available() else "there is no CUDA device"


def wait(device: str) -> None:
    """Wait until the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()
