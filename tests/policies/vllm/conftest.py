"""One server process for all tests of this folder, and policies that it samples for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from vllm_process import ServerProcess

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.policies.vllm.settings import VllmSettings

CONFIG = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.15,
}  # fmt: skip
LETTERS: dict[str, Any] = {"max_prompt_tokens": 8, "max_new_tokens": 3, "allowed_tokens": list("abcd")}
QUICK: dict[str, Any] = {"timeout_seconds": 30.0, "max_retries": 2, "backoff_seconds": 0.01}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A byte-level Llama whose distributions are far from flat."""
    torch.manual_seed(0)
    policy = CausalLM(config=dict(CONFIG), tokenizer=TokenizerSettings(kind="byte"), **LETTERS)
    policy.build(())
    folder = tmp_path_factory.mktemp("served")
    policy.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def process(model_folder: str) -> Iterator[ServerProcess]:
    found = ServerProcess(model_folder)
    yield found
    found.close()


@pytest.fixture
def server(process: ServerProcess, model_folder: str) -> ServerProcess:
    """The server as if just started."""
    process.start_anew(model_folder)
    return process


@pytest.fixture
def make_policy(server: ServerProcess, model_folder: str, tmp_path: Path) -> Callable[..., CausalLM]:
    """Builder of a policy over four letters that the server samples for: ``make_policy(adapted=True, …)``."""

    def make(*, adapted: bool = False, vllm: dict[str, Any] | None = None, **changes: Any) -> CausalLM:
        settings = VllmSettings(**{"url": server.url, "folder": str(tmp_path / "pushed"), **QUICK, **(vllm or {})})
        lora = LoraSettings(rank=4) if adapted else None
        torch.manual_seed(1)
        policy = CausalLM(pretrained=model_folder, lora=lora, vllm=settings, **{**LETTERS, **changes})
        policy.build(())
        return policy

    return make


def uniforms(rows: int, columns: int = 11, seed: int = 0) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def draw() -> Callable[..., Any]:
    """``draw(policy, texts, seed=0, **behaviour)``: contexts and what was sampled after them."""

    def sampled(policy: CausalLM, texts: list[str], *, seed: int = 0, **behaviour: Any) -> tuple[list[list[int]], Any]:
        contexts = [policy.encode_prompt(text) for text in texts]
        return contexts, policy.sample(contexts, uniforms(len(texts), seed=seed), **behaviour)

    return sampled


@pytest.fixture
def move() -> Callable[[CausalLM], None]:
    """One step of an optimiser that changes what the policy does."""

    def step(policy: CausalLM, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.05)
        for parameter in trained:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        optimizer.zero_grad()

    return step
