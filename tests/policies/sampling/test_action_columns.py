"""Sampling over the columns of actions alone gives what sampling over the whole vocabulary gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.policies.fused.decoder_weights import FusedWeights
from lightning_gfn.policies.fused.t5.weights import FusedT5Weights

TEXTS = ("one", "two", "one", "a longer prompt", "t", "one")


def uniforms() -> Tensor:
    return torch.rand(len(TEXTS), 11, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("how", ["plain", "tempered", "truncated", "begun"])
@pytest.mark.parametrize(
    ("model", "decoder"),
    [("llama", "hugging_face"), ("llama", "fused"), ("llama", "continuous"), ("llama_biases_tied", "fused"),
     ("gemma2_soft_cap", "fused"), ("t5", "fused")],
)  # fmt: skip
def test_few_actions_are_drawn_as_from_the_whole_vocabulary(
    make_policy: Any, model: str, decoder: str, how: str
) -> None:
    policy = make_policy(model, decoder=decoder, allowed_tokens=list("zabek"), end_tokens=list("qc"), min_new_tokens=1)
    contexts = [policy.encode_prompt(text) for text in TEXTS]
    settings: dict[str, Any] = {}
    if how != "plain":
        settings["temperature_N"] = torch.linspace(0.5, 2.0, len(TEXTS))
    if how == "truncated":
        settings |= {"top_k": 4, "top_p": 0.9}
    if how == "begun":
        settings |= {"first_N": torch.tensor([policy.encode_completion(letter)[0] for letter in "kabzee"])}
    narrow, policy.space.narrow = policy.space.narrow, None
    expected = policy.sample(contexts, uniforms(), **settings)
    policy.space.narrow = narrow
    for _ in range(2):
        given = policy.sample(contexts, uniforms(), **settings)
        assert torch.equal(given.action_ids_NT, expected.action_ids_NT)
        assert torch.equal(given.action_mask_NT, expected.action_mask_NT)
        for name in ("log_pf_NT", "log_pstop_NT1"):
            torch.testing.assert_close(getattr(given.scores, name), getattr(expected.scores, name), atol=1e-5, rtol=0)
        torch.testing.assert_close(given.behaviour_log_pf_NT, expected.behaviour_log_pf_NT, atol=1e-5, rtol=0)
    assert len(set(given.action_mask_NT.sum(1).tolist())) > 1
    if decoder != "hugging_face":
        weights = policy.decoders.weights
        assert isinstance(weights, (FusedWeights, FusedT5Weights)) and weights.head_HV.shape[1] == 7


def test_another_action_space_has_a_working_copy_of_its_own(make_policy: Any) -> None:
    settings: dict[str, Any] = {"decoder": "fused", "min_new_tokens": 1}
    policy = make_policy("llama", allowed_tokens=list("abc"), end_tokens=["d"], **settings)
    other = make_policy("llama", allowed_tokens=list("xyz"), end_tokens=["w"], **settings)
    contexts = [policy.encode_prompt(text) for text in TEXTS]
    policy.sample(contexts, uniforms())
    policy.space = other.space
    given, expected = policy.sample(contexts, uniforms()), other.sample(contexts, uniforms())
    assert torch.equal(given.action_ids_NT, expected.action_ids_NT)
