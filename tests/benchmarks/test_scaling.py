"""What docs/scaling.md says follows from formulas whose constants small models give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import scaling
from benchmarks.subjects.gpu_models import LLAMA_8B, made
from lightning_gfn.callbacks.dry_run.memory_estimate import activation_bytes
from lightning_gfn.policies.models.adapters import LoraSettings


def test_the_table_of_the_docs_is_the_present_one() -> None:
    assert scaling.table() in (Path(__file__).parents[2] / "docs/scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("lora", [0, 16])
def test_weights_are_those_of_the_published_models(lora: int) -> None:
    for model, billions in ((scaling.LLAMA_8B, 8.03), (scaling.LLAMA_70B, 70.55)):
        assert model.weights / 1e9 == pytest.approx(billions, rel=0.001)
    with torch.device("meta"):
        network = LlamaForCausalLM(LlamaConfig(**LLAMA_8B))
    assert sum(p.numel() for p in network.parameters()) == scaling.LLAMA_8B.weights
    layer = [m for m in network.model.layers[0].modules() if isinstance(m, torch.nn.Linear)]
    per_layer = sum(lora * (m.in_features + m.out_features) for m in layer)
    assert scaling.LLAMA_8B.adapter_weights(lora) == 32 * per_layer


@pytest.mark.parametrize(("layers", "hidden", "intermediate", "key_heads"), [(3, 384, 1344, 3), (6, 256, 896, 1)])
def test_activations_are_what_a_small_model_keeps(layers: int, hidden: int, intermediate: int, key_heads: int) -> None:
    model = scaling.Transformer("small", layers, hidden, intermediate, 64 * key_heads, 300)
    config = {
        **LLAMA_8B, "vocab_size": 300, "hidden_size": hidden, "intermediate_size": intermediate, "head_dim": 64,
        "num_hidden_layers": layers, "num_attention_heads": hidden // 64, "num_key_value_heads": key_heads,
    }  # fmt: skip
    settings = {"lora": LoraSettings(rank=8), "dtype": "bfloat16", "gradient_checkpointing": True}
    policy = made(config, "cpu", 64, 192, scoring="hugging_face", **settings).train()
    kept = activation_bytes(policy, 8, 64, 192, contexts=8) / (8 * 256)
    assert model.token_bytes == pytest.approx(kept, rel=0.08)


def test_more_gpus_hold_less_and_every_weight_once() -> None:
    one, many = (scaling.memory(scaling.LLAMA_8B, scaling.Step(training=n)) for n in (1, 64))
    for name in ("weights", "gradients and moments"):
        assert one[name] == pytest.approx(64 * many[name])
    assert one["weights"] == 4 * scaling.LLAMA_8B.weights
    assert one["activations"] == many["activations"]


def test_a_single_gpu_receives_nothing() -> None:
    assert sum(scaling.traffic(scaling.LLAMA_8B, scaling.Step(training=1, sampling=0)).values()) == 0
