"""A tiny policy with a calculator, and every trajectory that it can make, by a written loop over plain passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lightning as L
import pytest
import torch

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.tools.tool import Tool

OWN = ("1", "+", "=")
LONGEST = 5


@dataclass(frozen=True)
class Way:
    """One trajectory: all tokens, places of those that the calculator wrote, and log q of each choice."""

    tokens: tuple[int, ...]
    inserted: tuple[int, ...]
    choices: tuple[float, ...]

    @property
    def log_prob(self) -> float:
        return sum(self.choices)


def log_probs(policy: Any, prompt: list[int], tokens: tuple[int, ...]) -> dict[int, float]:
    """log q of each own token and of the stop behind a prefix."""
    with torch.no_grad():
        logits = policy.hugging_face(torch.tensor([[*prompt, *tokens]])).logits[0, -1].double()
    actions = [*policy.space.allowed_V.nonzero().squeeze(1).tolist(), policy.stop_id]
    return dict(zip(actions, logits[actions].log_softmax(0).tolist(), strict=True))


class Ones(Tool):
    """Writes 2 for a one in the text, 22 for more, and nothing for none."""

    name, trigger = "ones", "="

    def call(self, text: str) -> str | None:
        return "2" * min(2, text.count("1")) or None


def ways(
    policy: Any,
    prompt: list[int],
    tool: Any,
    tokens: tuple[int, ...] = (),
    inserted: tuple[int, ...] = (),
    *choices: float,
) -> Iterator[Way]:
    """Every trajectory from a state on."""
    text = policy.decode(tokens)
    if tool is not None and tokens and len(tokens) - 1 not in inserted and text.endswith(tool.trigger):
        result = tuple(policy.encode_completion(tool.call(text) or ""))
        if result and len(tokens) + len(result) <= policy.max_new_tokens:
            places = range(len(tokens), len(tokens) + len(result))
            tokens, inserted = tokens + result, (*inserted, *places)
    if len(tokens) == policy.max_new_tokens:
        yield Way(tokens, inserted, choices)
        return
    for action, log_p in log_probs(policy, prompt, tokens).items():
        if action == policy.stop_id:
            yield Way(tokens, inserted, (*choices, log_p))
        else:
            yield from ways(policy, prompt, tool, (*tokens, action), inserted, *choices, log_p)


@pytest.fixture
def every_way() -> Callable[..., list[Way]]:
    """All trajectories of a policy behind a prompt."""
    return lambda policy, prompt, tool: list(ways(policy, policy.encode_prompt(prompt), tool))


@pytest.fixture
def tool() -> Tool:
    """The one that the policies use."""
    return Ones()


@pytest.fixture
def make_policy() -> Callable[..., CausalLM]:
    """Builder of a small Llama that may write 1, + and =."""

    def make(**changes: Any) -> CausalLM:
        torch.manual_seed(0)
        settings: dict[str, Any] = {
            "config": {
                "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
                "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.2,
            },
            "tokenizer": TokenizerSettings(kind="byte"), "max_prompt_tokens": 8, "max_new_tokens": LONGEST,
            "allowed_tokens": list(OWN), "tools": [Ones()],
        }  # fmt: skip
        return CausalLM(**{**settings, **changes})

    return make


@pytest.fixture
def make_trainer() -> Callable[..., L.Trainer]:
    """Builder of a Trainer that only trains."""

    def make(max_steps: int) -> L.Trainer:
        settings: dict[str, Any] = {
            "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu",
            "enable_model_summary": False, "devices": 1, "use_distributed_sampler": False,
        }  # fmt: skip
        return L.Trainer(max_steps=max_steps, **settings)

    return make


@pytest.fixture
def policy(make_policy: Callable[..., CausalLM]) -> CausalLM:
    """Built, with a reference."""
    policy = make_policy()
    policy.build([])
    policy.freeze_reference()
    return policy.eval()
