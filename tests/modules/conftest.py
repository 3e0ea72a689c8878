"""A small real policy, a reward by hash and a Trainer without extras, shared by the module tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.types import Problem

ALPHABET = "abcd"


def letter_log_reward(text: str) -> float:
    """A fixed log reward in [-1.5, 1.5] that no simple rule predicts."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return 3.0 * int.from_bytes(digest) / 2**64 - 1.5


def hashed_reward(completions: list[str], **columns: Any) -> list[float]:
    """``letter_log_reward`` in the form of a user's reward function."""
    return [letter_log_reward(text) for text in completions]


@pytest.fixture
def make_policy() -> Callable[..., CausalLM]:
    """Builder of a one-layer Llama over four letters."""

    def make(**changes: Any) -> CausalLM:
        torch.manual_seed(0)
        settings: dict[str, Any] = {
            "config": {
                "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
                "num_attention_heads": 2, "max_position_embeddings": 64,
            },
            "tokenizer": TokenizerSettings(kind="byte"), "max_prompt_tokens": 8, "max_new_tokens": 4,
            "allowed_tokens": list(ALPHABET),
        }  # fmt: skip
        return CausalLM(**{**settings, **changes})

    return make


@pytest.fixture
def make_trainer() -> Callable[..., L.Trainer]:
    """Builder of a Trainer that only trains."""

    def make(max_steps: int, **changes: Any) -> L.Trainer:
        settings: dict[str, Any] = {
            "max_steps": max_steps, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False, "accelerator": "cpu", "devices": 1, "use_distributed_sampler": False,
        }  # fmt: skip
        return L.Trainer(**{**settings, **changes})

    return make


@pytest.fixture
def log_reward() -> Callable[[str], float]:
    """The reward that ``hashed_reward`` gives."""
    return letter_log_reward


@pytest.fixture
def letters() -> list[Problem]:
    """Three problems whose solutions are strings of letters."""
    return [
        Problem(id=f"p{i}", prompt=prompt, answer="1", solutions=solutions)
        for i, (prompt, solutions) in enumerate([("x", ("ab", "ba")), ("yy", ("abc",)), ("z", ("dcba", "a"))])
    ]
