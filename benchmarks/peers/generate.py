"""``generate`` of transformers, in the settings that its users choose among."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.frame.row import Way


def generate_way(network: Any, prompts_NC: torch.Tensor, new_tokens: int, settings: dict[str, Any]) -> Way:
    """Sample exactly so many tokens a row; refuses another number."""

    def run() -> None:
        with torch.no_grad():
            output = network.generate(
                prompts_NC, attention_mask=torch.ones_like(prompts_NC), do_sample=True, top_k=0,
                max_new_tokens=new_tokens, min_new_tokens=new_tokens, **settings,
            )  # fmt: skip
        made, asked = output[:, prompts_NC.shape[1] :].numel(), prompts_NC.shape[0] * new_tokens
        if made != asked:
            raise RuntimeError(f"generate made {made} tokens instead of {asked}: the comparison is void")

    return Way(run)


def compiled_settings() -> dict[str, Any]:
    """A static cache and a compiled forward pass, which transformers compiles on GPUs alone unless told to."""
    from transformers import CompileConfig

    config = CompileConfig(fullgraph=False, mode="default", dynamic=False)
    config._compile_all_devices = True
    return {"cache_implementation": "static", "compile_config": config}


def generate_ways(
    network: Any, prompts_NC: torch.Tensor, new_tokens: int, *, compiled: bool
) -> dict[str, Callable[[], Way]]:
    """Dynamic cache, static cache, and (if asked) a static cache with a compiled forward pass."""
    settings: dict[str, dict[str, Any]] = {
        "generate, dynamic cache": {},
        "generate, static cache": {"cache_implementation": "static", "disable_compile": True},
    }
    if compiled:
        settings["generate, static cache, compiled"] = compiled_settings()

    def build(chosen: dict[str, Any]) -> Callable[[], Way]:
        return lambda: generate_way(network, prompts_NC, new_tokens, chosen)

    return {name: build(chosen) for name, chosen in settings.items()}
