"""The rows for GPUs run on a processor, too, and both sides do the same work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.frame import device_floors
from benchmarks.frame.meters import METERS
from benchmarks.frame.row import Options
from benchmarks.rows import gpu
from benchmarks.subjects.gpu_models import LLAMA_1B, LLAMA_8B, random_prompts

TINY = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SAMPLING = {"prompts": 2, "rows": 6, "prompt_tokens": 5, "new_tokens": 7}
TRAINING = {"rows": 3, "prompt_tokens": 5, "new_tokens": 7}


def tiny(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, **TINY, "num_key_value_heads": 2, "head_dim": 8}


@pytest.mark.parametrize("lora", [False, True])
def test_sampling_makes_the_asked_tokens_on_both_sides(monkeypatch: pytest.MonkeyPatch, lora: bool) -> None:
    contest = gpu.sampling(tiny(LLAMA_8B), lora, Options(), device="cpu", shape=SAMPLING)
    monkeypatch.setattr(device_floors, "copy_rate", lambda device, num_bytes: 1e9)
    for build in (contest.ours, *contest.peers.values()):
        build().run()
    assert contest.amount == 42 and contest.floor is not None and contest.floor().value > 0


@pytest.mark.parametrize("lora", [False, True])
def test_both_training_passes_have_the_same_gradient(monkeypatch: pytest.MonkeyPatch, lora: bool) -> None:
    policy = gpu.trained(tiny(LLAMA_1B), lora, "cpu", TRAINING, scoring="hugging_face")
    ids = random_prompts(tiny(LLAMA_1B), 3, 12)
    found: list[torch.Tensor] = []

    def keep(set_to_none: bool) -> None:
        found.append(torch.cat([p.grad.float().flatten() for p in policy.parameters() if p.grad is not None]))
        type(policy).zero_grad(policy, set_to_none=set_to_none)

    monkeypatch.setattr(policy, "zero_grad", keep)
    gpu.our_pass(policy, ids, 5, "cpu").run()
    gpu.their_pass(policy, ids, 7, "cpu").run()
    cosine = torch.nn.functional.cosine_similarity(*found, dim=0)
    assert cosine > 0.98, "ours leaves out actions that are none, and computes in bfloat16"


def test_published_sizes_have_their_number_of_weights() -> None:
    for config, billions in ((LLAMA_1B, 1.236), (LLAMA_8B, 8.03)):
        with torch.device("meta"):
            network = LlamaForCausalLM(LlamaConfig(**config))
        assert sum(p.numel() for p in network.parameters()) / 1e9 == pytest.approx(billions, rel=0.01)


def test_floors_count_bytes_and_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_floors, "copy_rate", lambda device, num_bytes: 100e9)
    monkeypatch.setattr(device_floors, "product_rate", lambda device, size: 1e12)
    assert device_floors.moving_floor(200e9, "cpu").value == pytest.approx(2.0)
    layer = torch.nn.Sequential(torch.nn.Linear(1000, 500))
    assert device_floors.product_floor(layer, 1000, "cpu").value == pytest.approx(3e-3)
    assert device_floors.product_floor(layer, 1000, "cpu", frozen=True).value == pytest.approx(2e-3)
    assert device_floors.copy_rate("cpu", 2**20) > 0 and "device_bytes" in METERS
