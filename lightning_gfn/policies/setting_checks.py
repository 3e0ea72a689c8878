"""Settings of a policy that contradict each other, refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_gfn.policies.models import loading
from lightning_gfn.policies.models.architectures import Architecture
from lightning_gfn.policies.text import tokenizers
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.policies.text.tool_results import check_tools
from lightning_gfn.tools.tool import Tool


def check_source(
    pretrained: str | None, config: Mapping[str, Any] | None, tokenizer: str | TokenizerSettings | None
) -> None:
    """Refuse a model that comes from nowhere or from two places, and a tokenizer that is not its own.

    Args:
        pretrained: name or folder of a model.
        config: of a model from scratch.
        tokenizer: name or path, or settings of one to be made.

    Raises:
        ValueError: names the settings.
        FileNotFoundError: ``pretrained`` looks like a path and does not exist.
    """
    if (pretrained is None) == (config is None):
        raise ValueError("give exactly one of pretrained (a name or folder) and config (a model from scratch)")
    if config is not None and "device_map" in config:
        raise ValueError(
            "config.device_map is not supported: set trainer.strategy to fsdp2, which cuts a model over all devices"
        )
    if config is not None and "model_type" not in config:
        raise ValueError("config.model_type is missing: name an architecture, for example 'llama'")
    if pretrained is not None:
        loading.check_pretrained(pretrained)
        if isinstance(tokenizer, TokenizerSettings):
            raise ValueError("a pretrained model needs its own tokenizer: leave tokenizer out or name one")
    if isinstance(tokenizer, str):
        tokenizers.check_tokenizer(tokenizer)


def check_lengths(min_new_tokens: int, max_new_tokens: int, max_prompt_tokens: int, overlong_prompts: str) -> None:
    """Refuse lengths that no action could have, and an unknown way with overlong prompts.

    Raises:
        ValueError: names the settings.
    """
    if not 0 <= min_new_tokens <= max_new_tokens or max_new_tokens < 1 or max_prompt_tokens < 1:
        raise ValueError(
            f"min_new_tokens={min_new_tokens}, max_new_tokens={max_new_tokens}, "
            f"max_prompt_tokens={max_prompt_tokens}: "
            "0 <= min_new_tokens <= max_new_tokens and all maxima >= 1 must hold"
        )
    if overlong_prompts not in ("refuse", "skip", "truncate"):
        raise ValueError(f"overlong_prompts={overlong_prompts!r} must be refuse, skip or truncate")


def check_tool_use(tools: Sequence[Tool], *, served: bool, decoder: str) -> None:
    """Refuse tools that could not be told apart, or that nobody can call.

    Args:
        tools: write into completions.
        served: a vLLM server samples.
        decoder: name of the decoder.

    Raises:
        ValueError: names tools or setting.
    """
    check_tools(tools)
    if tools and (served or decoder == "continuous"):
        setting = "vllm" if served else "decoder: continuous"
        raise ValueError(f"policy.tools write into rows that are decoded in step: leave {setting} out")


def check_served(architecture: Architecture, policy: str, *, two_adapters: bool) -> None:
    """Refuse a policy that a vLLM server cannot sample from.

    Args:
        architecture: of the model.
        policy: its class, for the message.
        two_adapters: a frozen adapter lies under the trained one.

    Raises:
        ValueError: says why, and what to change.
    """
    if not architecture.served_by_vllm:
        raise ValueError(f"vllm serves decoder-only models, {policy} has another: leave vllm out")
    if two_adapters:
        raise ValueError("vllm samples with one adapter: set previous_adapter to merge")
