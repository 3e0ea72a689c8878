"""Weights arrive bit for bit, in a policy that was built elsewhere and has already sampled."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.rollouts.asynchronous.weights import load_state, network_of, packed, trained_state, whole_state


def make(seed: int, **changes: Any) -> CausalLM:
    torch.manual_seed(seed)
    policy = CausalLM(
        config={
            "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 64,
        },
        tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=8, max_new_tokens=4, allowed_tokens=list("abcd"),
        **changes,
    )  # fmt: skip
    policy.build(())
    return policy


def sampled(policy: CausalLM) -> torch.Tensor:
    uniforms = torch.rand(16, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return policy.sample([policy.encode_prompt("xy")] * 16, uniforms).behaviour_log_pf_NT


def test_bytes_are_those_of_the_tensors() -> None:
    tensors = {
        "scalar": torch.tensor(3.5), "half": torch.randn(2, 3).bfloat16(), "mask": torch.tensor([True, False]),
        "turned": torch.randn(3, 2).T, "empty": torch.zeros(0, 4), "whole": torch.arange(5),
    }  # fmt: skip
    for name, part in pickle.loads(pickle.dumps(packed(tensors))).items():
        assert part.tensor().dtype == tensors[name].dtype and torch.equal(part.tensor(), tensors[name]), name


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2, alpha=4)])
def test_a_policy_built_elsewhere_samples_alike(lora: LoraSettings | None) -> None:
    """Also where it has sampled before, so that its decoder's working copy is an old one."""
    one, other = make(0, lora=lora), make(1, lora=lora)
    assert not torch.equal(sampled(one), sampled(other))
    load_state(other, whole_state(one))
    assert torch.equal(sampled(one), sampled(other))
    with torch.no_grad():
        for parameter in one.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    assert not torch.equal(sampled(one), sampled(other))
    sent = trained_state(one)
    load_state(other, sent)
    assert torch.equal(sampled(one), sampled(other))
    assert len(sent) < len(whole_state(one)) if lora is not None else len(sent) >= 10


def test_weights_without_a_place_are_refused() -> None:
    with pytest.raises(RuntimeError, match="no weight 'other'"):
        load_state(make(0), packed({"other": torch.zeros(1)}))


def test_a_policy_without_weights_is_refused() -> None:
    with pytest.raises(TypeError, match="model.policy object is no torch module.*model.asynchronous to null"):
        network_of(object())  # type: ignore[arg-type]
