"""A policy whose actions are shorter for a while."""

from __future__ import annotations

import torch

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings

LLAMA = {
    "model_type": "llama", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip


def test_lengths_hold_inside_and_come_back() -> None:
    torch.manual_seed(0)
    policy = CausalLM(
        config=LLAMA, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=8, max_new_tokens=8, min_new_tokens=6
    )
    policy.build(())
    contexts = [policy.encode_prompt("ab")] * 16
    uniforms = torch.rand(16, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = policy.sample(contexts, uniforms)
    with policy.shortened(3):
        inside = policy.sample(contexts, uniforms[:, :4])
        assert (policy.min_new_tokens, policy.max_new_tokens) == (1, 3)
        assert int(inside.action_mask_NT.sum(1).max()) == 3
        assert torch.equal(inside.action_ids_NT[0, :1], before.action_ids_NT[0, :1])
        forced = inside.action_mask_NT.sum(1) == 3
        assert bool(forced.any())
        assert torch.equal(inside.behaviour_log_pstop_N[forced], torch.zeros(int(forced.sum())))
    after = policy.sample(contexts, uniforms)
    assert (policy.min_new_tokens, policy.max_new_tokens) == (6, 8)
    assert torch.equal(after.action_ids_NT, before.action_ids_NT)
