"""Sampled log-probabilities = scored ones = those of a plain Hugging Face forward pass."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_gfn.policies.fused import buffers, decoder as dense_decoder, layers, prompt_pass, working_linear
from lightning_gfn.policies.fused.t5 import decoder as t5_decoder, weights as t5_weights
from lightning_gfn.policies.models import encoder_decoder
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.sampling import hugging_face_decoders, kv_cache

FUSED = ("llama", "llama3_rope", "llama_biases_tied", "qwen2", "qwen3", "mistral", "mistral_window")
FUSED += ("gpt2", "gemma", "gemma2_soft_cap", "gemma3_text", "gemma3")
OTHERS = ("cohere_logit_scale",)
ENDS = "abcdefghijklmnopqrstuvwxyz0123456789"
HYBRID = ("qwen3_next", "qwen3_5_text", "qwen3_5", "lfm2")
NEWER = ("gemma3n_text", "llama4_text")
FUSED_T5 = ("t5", "t5_silu", "byt5", "mt5")
CASES = [(name, "fused") for name in FUSED + FUSED_T5]
NARROW_CASES = [case for case in CASES if case[0] != "gemma3"]  # whose text settings repeat those of gemma3_text
NARROW_CASES += [("gpt2", "hugging_face"), ("t5", "hugging_face")]
CASES += [(name, "hugging_face") for name in FUSED + OTHERS + HYBRID + NEWER + ("t5", "byt5", "umt5", "bart")]


def uniforms(rows: int, columns: int, seed: int = 3) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample_and_score(policy: Any, kit: Any) -> tuple[Any, Any, Any]:
    """Sample with left-padded prompts of several lengths and early stops, then score the result."""
    contexts = [policy.encode_prompt(text) for text in kit.TEXTS]
    sampled = policy.sample(contexts, uniforms(len(contexts), policy.max_new_tokens + 1))
    rows = kit.rows_of(policy, sampled)
    return sampled, policy.score(rows), rows


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3, dropout=0.3)], ids=["full", "lora"])
@pytest.mark.parametrize(("name", "decoder"), CASES)
def test_sampled_scored_and_plain_log_probs_agree(
    make_policy: Any, kit: Any, name: str, decoder: str, lora: Any
) -> None:
    if name in ("qwen3_next", "llama4_text") and lora is not None:
        lora = LoraSettings(rank=3)  # PEFT takes no dropout where it adapts the stacked weights of experts
    policy = make_policy(name, decoder=decoder, lora=lora, min_new_tokens=1, end_tokens=["<eos>", *ENDS])
    sampled, scores, rows = sample_and_score(policy, kit)
    lengths = sampled.action_mask_NT.sum(1).tolist()
    assert len(set(lengths)) > 1, f"the case must have rows of several lengths, not {lengths}"
    plain = kit.plain_log_probs(policy, rows)
    # The recurrence of linear attention sums in chunks, and where a row begins in a chunk depends on its padding.
    bound = 2e-5 if name == "qwen3_next" else 1e-5
    assert kit.largest_difference(sampled.scores, plain) < bound
    assert kit.largest_difference(scores, plain) < bound
    assert torch.equal(scores.stop_mask_NT1, sampled.scores.stop_mask_NT1)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3, alpha=3.0)], ids=["full", "lora"])
@pytest.mark.parametrize(("name", "decoder"), NARROW_CASES)
def test_bfloat16_agrees_within_its_precision(make_policy: Any, kit: Any, name: str, decoder: str, lora: Any) -> None:
    settings = {"sampling_dtype": "bfloat16"} if decoder == "fused" else {}
    narrow = {"initializer_factor": 0.1} if "t5" in name else {"initializer_range": 0.02}
    policy = make_policy(name, decoder=decoder, lora=lora, dtype="bfloat16", config=narrow, **settings)
    sampled, scores, rows = sample_and_score(policy, kit)
    plain = kit.plain_log_probs(policy, rows)
    assert kit.largest_difference(sampled.scores, plain) < 0.02
    assert kit.largest_difference(scores, plain) < 0.02


def test_bfloat16_policy_sampled_in_float32_agrees(make_policy: Any, kit: Any) -> None:
    narrow = {"initializer_range": 0.02}
    policy = make_policy("llama", dtype="bfloat16", sampling_dtype="float32", config=narrow)
    sampled, scores, _ = sample_and_score(policy, kit)
    width = sampled.action_mask_NT.shape[1]
    assert (sampled.scores.log_pf_NT - scores.log_pf_NT[:, :width]).abs().max() < 0.02


@pytest.mark.parametrize("decoder", ["fused", "hugging_face"])
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_padding_changes_nothing(make_policy: Any, kit: Any, name: str, decoder: str) -> None:
    policy = make_policy(name, decoder=decoder)
    sampled, _, rows = sample_and_score(policy, kit)
    wide = kit.pad_rows(
        [policy.encode_prompt(text) for text in kit.TEXTS],
        [ids[mask].tolist() for ids, mask in zip(rows.action_ids_NT, rows.action_mask_NT, strict=True)],
        extra=3,
    )
    narrow_scores = policy.score(rows, entropy=True, hidden=True)
    wide_scores = policy.score(wide, entropy=True, hidden=True)
    width = rows.action_ids_NT.shape[1]
    torch.testing.assert_close(wide_scores.log_pf_NT[:, :width], narrow_scores.log_pf_NT, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        wide_scores.log_pstop_NT1[:, : width + 1], narrow_scores.log_pstop_NT1, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(wide_scores.entropy_NT1[:, : width + 1], narrow_scores.entropy_NT1, atol=1e-5, rtol=0)
    assert not wide_scores.log_pstop_NT1[:, width + 1 :].any() and not wide_scores.entropy_NT1[:, width + 1 :].any()
    exists = torch.arange(width + 1) <= rows.action_mask_NT.sum(1, keepdim=True)
    torch.testing.assert_close(
        wide_scores.hidden_NT1H[:, : width + 1][exists], narrow_scores.hidden_NT1H[exists], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(wide_scores.pooled_NH, narrow_scores.pooled_NH, atol=1e-5, rtol=0)
    for row, text in enumerate(kit.TEXTS):
        alone = policy.sample([policy.encode_prompt(text)], uniforms(len(kit.TEXTS), 11)[row : row + 1])
        assert (
            alone.action_ids_NT[alone.action_mask_NT].tolist()
            == rows.action_ids_NT[row][rows.action_mask_NT[row]].tolist()
        )
        difference = alone.scores.log_pf_NT[0] - sampled.scores.log_pf_NT[row, : alone.action_ids_NT.shape[1]]
        assert difference.abs().max() < 1e-5


@pytest.mark.parametrize("model", ["qwen3", "t5"])
def test_decoders_sample_the_same_actions(make_policy: Any, kit: Any, model: str) -> None:
    samples = [sample_and_score(make_policy(model, decoder=name), kit)[0] for name in ("fused", "hugging_face")]
    assert torch.equal(samples[0].action_ids_NT, samples[1].action_ids_NT)


@pytest.mark.parametrize("name", ["llama", "byt5"])
def test_working_copy_follows_the_weights(make_policy: Any, kit: Any, name: str) -> None:
    policy = make_policy(name, decoder="fused")
    sample_and_score(policy, kit)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.05)
    policy.train()
    _, scores, rows = sample_and_score(policy, kit)
    (scores.log_pf_NT.sum() + scores.log_pstop_NT1.sum()).backward()
    optimizer.step()
    sampled, scores, rows = sample_and_score(policy, kit)
    assert kit.largest_difference(sampled.scores, kit.plain_log_probs(policy, rows)) < 1e-5
    kept = policy.decoders.weights
    sample_and_score(policy, kit)
    assert policy.decoders.weights is kept
    policy.load_state_dict({name: tensor * 1.1 for name, tensor in policy.state_dict().items()})
    sampled, _, rows = sample_and_score(policy, kit)
    assert kit.largest_difference(sampled.scores, kit.plain_log_probs(policy, rows)) < 1e-5


def fused_step(policy: Any, scores: Any) -> None:
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=0.05, fused=True)
    (scores.log_pf_NT.sum() + scores.log_pstop_NT1.sum()).backward()
    optimizer.step()


def write_through_data(policy: Any, scores: Any) -> None:
    for parameter in policy.parameters():
        parameter.data.mul_(1.1)


def load_state(policy: Any, scores: Any) -> None:
    policy.load_state_dict({name: tensor * 1.1 for name, tensor in policy.state_dict().items()}, assign=True)


def merge(policy: Any, scores: Any) -> None:
    policy.peft_model.merge_adapter()
    # The same weights so far; now they are written to as PEFT writes, with the adapter inside.
    for layer in policy.hugging_face.modules():
        if hasattr(layer, "get_delta_weight"):
            layer.get_base_layer().weight.data += 0.1


def switch_off(policy: Any, scores: Any) -> None:
    policy.peft_model.base_model.disable_adapter_layers()


def rescale(policy: Any, scores: Any) -> None:
    for layer in policy.hugging_face.modules():
        if hasattr(layer, "get_delta_weight"):
            layer.set_scale("default", 3.0)


CHANGES = [fused_step, write_through_data, load_state, merge, switch_off, rescale]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3)], ids=["full", "lora"])
def test_working_copy_follows_whatever_changes_the_weights(make_policy: Any, kit: Any, lora: Any, change: Any) -> None:
    if lora is None and change in (merge, switch_off, rescale):
        pytest.skip("only an adapter can do so")
    policy = make_policy("llama", decoder="fused", lora=lora)
    before, scores, _ = sample_and_score(policy, kit)
    change(policy, scores)
    sampled, _, rows = sample_and_score(policy, kit)
    first = torch.stack([before.scores.log_pf_NT[:, 0], sampled.scores.log_pf_NT[:, 0]])
    assert (first[0] - first[1]).abs().max() > 1e-3, "the case must change the model"
    assert kit.largest_difference(sampled.scores, kit.plain_log_probs(policy, rows)) < 1e-4
    kept = policy.decoders.weights
    sample_and_score(policy, kit)
    assert policy.decoders.weights is kept


def test_working_copy_follows_a_swap_of_averaged_weights(make_policy: Any, kit: Any) -> None:
    policy = make_policy("llama", decoder="fused")
    policy.start_teacher()
    sample_and_score(policy, kit)
    write_through_data(policy, None)
    own, _, _ = sample_and_score(policy, kit)
    with policy.averaged_weights.applied(policy.hugging_face):
        sampled, _, rows = sample_and_score(policy, kit)
        assert kit.largest_difference(sampled.scores, kit.plain_log_probs(policy, rows)) < 1e-5
    again, _, _ = sample_and_score(policy, kit)
    assert torch.equal(again.scores.log_pf_NT, own.scores.log_pf_NT)
    assert not torch.equal(again.scores.log_pf_NT[:, 0], sampled.scores.log_pf_NT[:, 0])


def everything_seen(mask: torch.Tensor, capacity: int) -> torch.Tensor:
    return torch.ones(mask.shape[0], capacity, dtype=torch.bool)


def positions_with_padding(mask: torch.Tensor) -> torch.Tensor:
    return torch.arange(mask.shape[1]).expand(mask.shape)


def no_bias(weights: Any, num_positions: int) -> torch.Tensor:
    return torch.zeros(1, weights.num_heads, 1, num_positions)


def no_encoder_bias(weights: Any, num_positions: int) -> torch.Tensor:
    return torch.zeros(1, weights.num_heads, num_positions, num_positions)


def nothing_moves(tensor: torch.Tensor, target: torch.Tensor, source: torch.Tensor) -> None:
    pass


def rows_stay(self: Any, target: torch.Tensor, source: torch.Tensor, num_rows: int) -> None:
    self.reorder_cache(torch.arange(num_rows))


def one_position_late(self: Any, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    return self.embedding_VH[ids] + self.position_LH[positions + 1]


def without_cap(query: Any, key: Any, value: Any, mask: Any, form: Any) -> torch.Tensor:
    return attend(query, key, value, mask, replace(form, cap=None))


def without_window(self: Any, form: Any) -> torch.Tensor:
    return prompt_mask(self, replace(form, window=None))


def first_rotation(self: Any, num_positions: int, name: str | None) -> Any:
    return rotation(self, num_positions, "full_attention")


attend, prompt_mask = buffers.attend, prompt_pass.PromptPass.mask
rotation = layers.DenseLayers.rotation
TOKENS = itertools.count(5)
PLANTED = [
    ("gpt2", hugging_face_decoders, "left_positions", positions_with_padding),
    ("gpt2", prompt_pass, "left_positions", positions_with_padding),
    ("gpt2", dense_decoder.FusedWeights, "embed", one_position_late),
    ("gemma2_soft_cap", dense_decoder, "attend", without_cap),
    ("gemma2_soft_cap", prompt_pass.PromptPass, "mask", without_window),
    ("gemma3_text", layers.DenseLayers, "rotation", first_rotation),
    ("gpt2", hugging_face_decoders, "decoding_mask", everything_seen),
    ("llama", dense_decoder, "decoding_mask", everything_seen),
    ("llama", working_linear, "interleave_halves", lambda weight, width: weight),
    ("llama", buffers.Activations, "normalise", lambda self, x: x),
    ("t5", t5_decoder.CrossActivations, "normalise", lambda self, x: x),
    ("t5", t5_weights.FusedT5Weights, "position_bias", no_bias),
    ("t5", t5_weights.FusedT5Weights, "encoder_bias", no_encoder_bias),
    ("t5", t5_decoder, "move_rows_", nothing_moves),
    ("t5", encoder_decoder, "start_token", lambda model: next(TOKENS)),
    ("bart", kv_cache, "move_rows_", nothing_moves),
    ("qwen3_5_text", kv_cache.RecurrentCache, "move_rows", rows_stay),
    ("lfm2", kv_cache.RecurrentCache, "move_rows", rows_stay),
]


@pytest.mark.parametrize(("name", "module", "attribute", "wrong"), PLANTED, ids=[f"{p[0]}-{p[2]}" for p in PLANTED])
def test_planted_errors_break_the_equality(
    make_policy: Any, kit: Any, monkeypatch: pytest.MonkeyPatch, name: str, module: Any, attribute: str, wrong: Any
) -> None:
    decoder = "hugging_face" if module is hugging_face_decoders else "auto"
    ends = ["<eos>", *ENDS]
    policy = make_policy(name, decoder=decoder, scoring="hugging_face", min_new_tokens=2, end_tokens=ends)
    monkeypatch.setattr(module, attribute, wrong)
    sampled, scores, _ = sample_and_score(policy, kit)
    width = sampled.action_ids_NT.shape[1]
    assert (sampled.scores.log_pf_NT - scores.log_pf_NT[:, :width]).abs().max() > 1e-3
