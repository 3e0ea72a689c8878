"""The parts of the estimated memory against what is really held."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import nn

from lightning_gfn.callbacks.dry_run.memory_estimate import (
    StepSize,
    activation_bytes,
    estimated_memory,
    kept_bytes,
    key_value_bytes,
    peak_of,
    read,
)
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
T5 = {"model_type": "t5", "d_model": 48, "d_kv": 12, "d_ff": 80, "num_layers": 2, "num_decoder_layers": 3,
      "num_heads": 4}  # fmt: skip
LORA = LoraSettings(rank=4, alpha=8, target_modules=["q_proj", "down_proj"])


class Holder(nn.Module):
    """A module with a policy."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy


def make(policy_class: Any = CausalLM, config: dict[str, Any] | None = None, **settings: Any) -> Any:
    torch.manual_seed(0)
    policy = policy_class(config=config or LLAMA, max_prompt_tokens=128, max_new_tokens=64, **settings)
    policy.build(())
    policy.set_dropout(False)
    return policy


@pytest.mark.parametrize("settings", [{}, {"lora": LORA}, {"attn_implementation": "eager"}], ids=str)
def test_activations_of_a_large_pass_follow_from_two_small_ones(settings: dict[str, Any]) -> None:
    policy = make(**settings)
    steps = pad_steps([[n] * 40 for n in range(12)], [[6] * 24] * 12, policy.device)
    held = kept_bytes(lambda: read(policy, steps), policy)
    assert activation_bytes(policy, 12, 40, 24, contexts=12) == pytest.approx(held, rel=0.02)


def test_rows_of_one_context_keep_it_once_where_the_pass_reads_it_once() -> None:
    policy = make()
    steps = pad_steps([[n // 4] * 40 for n in range(12)], [[6] * 24] * 12, policy.device)
    held = kept_bytes(lambda: read(policy, steps), policy)
    found = activation_bytes(policy, 12, 40, 24, contexts=3)
    assert found == pytest.approx(held, rel=0.1) and found < 0.7 * activation_bytes(policy, 12, 40, 24, contexts=12)
    generic = make(scoring="hugging_face")
    whole = activation_bytes(generic, 12, 40, 24, contexts=12)
    assert activation_bytes(generic, 12, 40, 24, contexts=3) == pytest.approx(whole, rel=0.01)


def test_what_was_looked_at_is_let_go() -> None:
    """Tensors that are kept with their graph would be held for ever, and no collection of garbage finds that."""
    layer = nn.Linear(64, 64)
    seen: list[weakref.ref[torch.Tensor]] = []

    def run() -> torch.Tensor:
        hidden = layer(torch.ones(100, 64)).exp()
        seen.append(weakref.ref(hidden))
        return hidden.square()

    assert kept_bytes(run, layer) == 2 * 100 * 64 * 4, "what the layer read and the exponential"
    assert all(ref() is None for ref in seen)


def test_casts_of_weights_under_autocast_do_not_grow_with_the_rows() -> None:
    policy = make()
    steps = pad_steps([[n] * 40 for n in range(12)], [[6] * 24] * 12, policy.device)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        held = kept_bytes(lambda: read(policy, steps), policy)
        assert activation_bytes(policy, 12, 40, 24, contexts=12) == pytest.approx(held, rel=0.02)


def test_recomputed_activations_are_the_inputs_of_all_layers_and_one_layer() -> None:
    plain, recomputing = make(), make(gradient_checkpointing=True)
    whole, found = activation_bytes(plain, 8, 40, 24, contexts=8), activation_bytes(recomputing, 8, 40, 24, contexts=8)
    assert found == pytest.approx(whole / 3 + 8 * 64 * 3 * 64 * 4, rel=0.02)
    assert recomputing.hugging_face.is_gradient_checkpointing


@pytest.mark.parametrize(("policy_class", "config"), [(CausalLM, LLAMA), (Seq2SeqLM, T5)])
def test_keys_and_values_are_those_of_the_library(policy_class: Any, config: dict[str, Any]) -> None:
    from transformers import DynamicCache, EncoderDecoderCache

    policy = make(policy_class, config)
    model, ids = policy.hugging_face, torch.ones(3, 20, dtype=torch.int64)
    if policy_class is CausalLM:
        cache, positions = model(input_ids=ids, past_key_values=DynamicCache(), use_cache=True).past_key_values, 20
        layers = list(cache.layers)
    else:
        both = EncoderDecoderCache(DynamicCache(), DynamicCache())
        model(input_ids=ids, decoder_input_ids=ids[:, :7], past_key_values=both, use_cache=True)
        layers, positions = [*both.self_attention_cache.layers, *both.cross_attention_cache.layers], 27
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    assert key_value_bytes(policy, 3, positions, 4) == held


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_weights_gradients_and_moments_are_those_of_a_step(lora: LoraSettings | None) -> None:
    policy = make(lora=lora)
    policy.freeze_reference()
    module = Holder(policy)
    parts = estimated_memory(module, policy, StepSize(4, 4, 40, 24), samples=True)
    optimizer = torch.optim.AdamW([parameter for parameter in module.parameters() if parameter.requires_grad])
    steps = pad_steps([[5] * 40] * 4, [[6] * 24] * 4, policy.device)
    policy.score(steps).log_pf_NT.sum().backward()
    optimizer.step()
    weights = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in module.parameters()}
    assert parts["weights"] == pytest.approx(sum(weights.values()), rel=0.01)  # and a few buffers
    assert parts["gradients"] == sum(p.grad.nbytes for p in module.parameters() if p.grad is not None)
    moments = sum(state[name].nbytes for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq"))
    assert parts["optimiser"] == moments
    shared = ("lora", "norm", "embed_tokens")  # the copy holds the model's own embedding, and no norms
    network = [p.nbytes for name, p in policy.hugging_face.named_parameters() if not any(s in name for s in shared)]
    assert parts["working copy"] == pytest.approx(sum(network), rel=0.05)  # and copies of adapters


def test_a_budget_bounds_what_depends_on_rows() -> None:
    size = StepSize(sampled_rows=64, gradient_rows=32, context=40, action=24)
    policy = make()
    module = Holder(policy)
    free = estimated_memory(module, policy, size, samples=True)
    policy.budget = PassBudget(max_tokens_per_pass=4 * 64, max_sampling_tokens=16 * 64)
    cut = estimated_memory(module, policy, size, samples=True)
    assert cut["activations"] == pytest.approx(free["activations"] / 8, rel=0.02)
    assert cut["logits"] == free["logits"] / 8
    assert cut["keys and values"] == free["keys and values"] / 4 and cut["sampler"] == free["sampler"] / 4
    policy.budget = PassBudget(max_tokens_per_pass=10)
    assert estimated_memory(module, policy, size, samples=True)["keys and values"] == free["keys and values"] / 64


def test_training_and_sampling_are_not_held_together() -> None:
    parts = {"weights": 10, "gradients": 2, "optimiser": 4, "working copy": 8, "keys and values": 30, "sampler": 5,
             "activations": 20, "logits": 3}  # fmt: skip
    assert peak_of(parts, program=100) == 100 + 24 + 35
    assert peak_of({**parts, "activations": 50}, program=0) == 24 + 53
