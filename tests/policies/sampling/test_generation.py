"""Inverse-CDF sampling, shared prefill, dropped rows, behaviour log-probabilities and modes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_gfn.padding import pad_contexts
from lightning_gfn.policies.fused.decoder import FusedDecoder
from lightning_gfn.policies.fused.t5.decoder import FusedT5Decoder
from lightning_gfn.policies.sampling import generation, inverse_cdf
from lightning_gfn.policies.sampling.generation import keep_live
from lightning_gfn.policies.sampling.hugging_face_decoders import HuggingFaceDecoder, HuggingFaceSeq2SeqDecoder
from lightning_gfn.policies.sampling.inverse_cdf import InverseCDF
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.types import Problem, StepBatch

DECODERS = {
    ("llama", "fused"): FusedDecoder,
    ("llama", "hugging_face"): HuggingFaceDecoder,
    ("t5", "fused"): FusedT5Decoder,
    ("t5", "hugging_face"): HuggingFaceSeq2SeqDecoder,
}


def uniforms(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written_inverse_cdf(logits: list[float], u: float) -> int:
    """Walk through the actions until their weight exceeds the target."""
    weights = [math.exp(x) if x > -math.inf else 0.0 for x in logits]
    target, mass = u * sum(weights), 0.0
    for action, weight in enumerate(weights):
        mass += weight
        if mass > target:
            return action
    return max(i for i, weight in enumerate(weights) if weight > 0)


@pytest.mark.parametrize("vocab_size", [5, 64, 200])
def test_inverse_cdf_matches_a_written_loop(vocab_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, vocab_size, generator=generator)
    logits[torch.rand(logits.shape, generator=generator) < 0.5] = -torch.inf
    logits[:, vocab_size // 2] = 0.0
    u = uniforms(50, 1)
    action, log_z = InverseCDF(50, vocab_size, torch.device("cpu"))(logits, u)
    assert action[:, 0].tolist() == [
        written_inverse_cdf(row.tolist(), x.item()) for row, x in zip(logits, u, strict=True)
    ]
    torch.testing.assert_close(log_z[:, 0].float(), logits.logsumexp(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
def test_extreme_uniforms_never_give_an_impossible_action(u: float) -> None:
    logits = torch.full((1, 200), -torch.inf)
    logits[0, [3, 70, 71, 150]] = torch.tensor([0.0, -90.0, 0.0, -30.0])
    sampler = InverseCDF(1, 200, torch.device("cpu"))
    action, _ = sampler(logits, torch.tensor([[u]], dtype=torch.float64))
    assert torch.isfinite(logits[0, action[0, 0]])


def test_results_do_not_depend_on_the_default_dtype(make_policy: Any) -> None:
    policy = make_policy("llama", decoder="fused")
    context = policy.encode_prompt("x")
    expected = policy.sample([context], uniforms(1, 11))
    torch.set_default_dtype(torch.bfloat16)
    try:
        given = policy.sample([context], uniforms(1, 11))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(given.scores.log_pf_NT, expected.scores.log_pf_NT)
    assert given.scores.log_pf_NT.dtype == given.behaviour_log_pf_NT.dtype == torch.float32


def test_float32_sums_stay_inside_the_support(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverse_cdf, "cdf_dtype", lambda device: torch.float32)
    logits = torch.full((1, 200), -torch.inf)
    logits[0, [3, 70, 150]] = 0.0
    sampler = InverseCDF(1, 200, torch.device("cpu"))
    for u, expected in ((0.0, 3), (0.3, 3), (0.5, 70), (1.0, 150)):
        assert sampler(logits, torch.tensor([[u]]))[0].item() == expected


def test_a_workspace_leaves_nothing_behind() -> None:
    sampler = InverseCDF(4, 70, torch.device("cpu"))
    wide = torch.randn(4, 70)
    sampler(wide, uniforms(4, 1))
    again, _ = sampler(wide[:2], uniforms(2, 1))
    fresh, _ = InverseCDF(2, 70, torch.device("cpu"))(wide[:2], uniforms(2, 1))
    assert torch.equal(again, fresh)


@pytest.mark.parametrize("seed", range(5))
def test_keep_live_keeps_every_live_row_once(seed: int) -> None:
    live = torch.rand(12, generator=torch.Generator().manual_seed(seed)) > 0.5
    gaps, movers, num_live = keep_live(live)
    rows = torch.arange(12)
    rows[gaps] = rows[movers]
    assert sorted(rows[:num_live].tolist()) == live.nonzero().squeeze(1).tolist()


@pytest.mark.parametrize(("model", "decoder"), list(DECODERS))
def test_one_prefill_row_for_each_distinct_prompt_and_finished_rows_dropped(
    make_policy: Any, monkeypatch: pytest.MonkeyPatch, model: str, decoder: str
) -> None:
    policy = make_policy(model, decoder=decoder, end_tokens=[*"abcdefghijklmnopqrstuvwxyz0123456789"])
    seen: dict[str, list[int]] = {"prefill": [], "step": []}
    for name, sizes in seen.items():
        original = getattr(DECODERS[model, decoder], name)

        def counted(self: Any, ids: Tensor, *rest: Any, original: Any = original, sizes: list[int] = sizes) -> Tensor:
            sizes.append(len(ids))
            return original(self, ids, *rest)

        monkeypatch.setattr(DECODERS[model, decoder], name, counted)
    contexts = [policy.encode_prompt(text) for text in ("one", "two", "one", "two", "one", "three")]
    sampled = policy.sample(contexts, uniforms(6, 11))
    lengths = sampled.action_mask_NT.sum(1)
    assert seen["prefill"] == [3]
    expected = [int((lengths > t).sum()) for t in range(policy.max_new_tokens - 1)]
    if model == "t5":  # the start token is a step of the prefill
        assert seen["step"].pop(0) == 3
    assert seen["step"] == [rows for rows in expected if rows > 0]
    assert expected[-1] < 6


@pytest.mark.parametrize(("model", "decoder"), list(DECODERS))
def test_rarely_looking_for_finished_rows_changes_nothing(
    make_policy: Any, monkeypatch: pytest.MonkeyPatch, model: str, decoder: str
) -> None:
    policy = make_policy(model, decoder=decoder, end_tokens=[*"abcdefghijklmnopqrstuvwxyz0123456789"])
    contexts = [policy.encode_prompt(text) for text in ("one", "two", "one", "longer prompt", "one", "three")]
    eager = policy.sample(contexts, uniforms(6, 11))
    monkeypatch.setattr(
        generation, "keep_live", lambda live: (live.new_zeros(0, dtype=torch.int64),) * 2 + (len(live),)
    )
    lazy = policy.sample(contexts, uniforms(6, 11))
    assert torch.equal(eager.action_ids_NT, lazy.action_ids_NT)
    torch.testing.assert_close(eager.scores.log_pf_NT, lazy.scores.log_pf_NT, atol=1e-5, rtol=0)
    torch.testing.assert_close(eager.scores.log_pstop_NT1, lazy.scores.log_pstop_NT1, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", ["llama", "t5"])
def test_behaviour_is_kept_apart_from_q(make_policy: Any, kit: Any, model: str) -> None:
    policy = make_policy(model, end_tokens=[*"abcdefghijklmnopqrstuvwxyz0123456789"])
    contexts = [policy.encode_prompt(text) for text in kit.TEXTS]
    temperature = torch.tensor([1.0, 2.0, 0.5, 1.0, 0.25])
    sampled = policy.sample(contexts, uniforms(5, 11), temperature_N=temperature)
    rows = kit.rows_of(policy, sampled)
    assert kit.largest_difference(sampled.scores, kit.plain_log_probs(policy, rows)) < 1e-5
    same = temperature == 1
    torch.testing.assert_close(sampled.behaviour_log_pf_NT[same], sampled.scores.log_pf_NT[same], atol=1e-6, rtol=0)
    assert (sampled.behaviour_log_pf_NT - sampled.scores.log_pf_NT)[~same].abs().max() > 0.1
    for row in range(5):
        length = int(sampled.action_mask_NT[row].sum())
        for t in range(min(length + 1, policy.max_new_tokens)):
            log_p = action_log_p(policy, kit, rows, row, t)
            tempered = torch.log_softmax(log_p / temperature[row], 0)
            if t < length:
                token = int(sampled.action_ids_NT[row, t])
                given = sampled.behaviour_log_pf_NT[row, t]
            else:
                token, given = policy.space.stop_id, sampled.behaviour_log_pstop_N[row]
            assert given.item() == pytest.approx(tempered[token].item(), abs=1e-4)


def action_log_p(policy: Any, kit: Any, rows: Any, row: int, t: int) -> Tensor:
    """log q over all actions at one prefix, by a plain forward pass."""
    context = rows.context_ids_NC[row][rows.context_mask_NC[row]].tolist()
    action = rows.action_ids_NT[row][rows.action_mask_NT[row]].tolist()[:t]
    logits = kit.plain_logits(policy, context, action)[-1:]
    return policy.space.restrict_(logits.clone(), t >= policy.min_new_tokens)[0].log_softmax(0)


def test_greedy_by_top_k(make_policy: Any) -> None:
    policy = make_policy("llama")
    context = policy.encode_prompt("x")
    first, second = (policy.sample([context], uniforms(1, 11, seed), top_k=1) for seed in (1, 2))
    assert torch.equal(first.action_ids_NT, second.action_ids_NT)
    assert first.behaviour_log_pf_NT.abs().max() == 0
    other = policy.sample([context], uniforms(1, 11, 2))
    assert not torch.equal(first.action_ids_NT, other.action_ids_NT)


def test_everything_stops_at_once(make_policy: Any) -> None:
    policy = make_policy("llama", allowed_tokens=["a"])
    with torch.no_grad():
        policy.hugging_face.lm_head.weight[policy.tokenizer.eos_token_id] = 0
        policy.hugging_face.lm_head.weight[policy.codec.token_id("a", "test")] = 0
    sampled = policy.sample([policy.encode_prompt("x")] * 3, torch.full((3, 11), 1e-9, dtype=torch.float64))
    assert sampled.action_mask_NT.tolist() == [[False]] * 3
    assert sampled.scores.log_pstop_NT1[:, 0].tolist() == pytest.approx([math.log(0.5)] * 3, abs=1e-6)
    assert sampled.behaviour_log_pstop_N.tolist() == pytest.approx([math.log(0.5)] * 3, abs=1e-6)


@pytest.mark.parametrize(
    ("model", "decoder"), [("llama", "fused"), ("gpt2", "hugging_face"), ("t5", "fused"), ("t5", "hugging_face")]
)
def test_sampling_keeps_modes_gradients_and_global_random_numbers(make_policy: Any, model: str, decoder: str) -> None:
    policy = make_policy(model, decoder=decoder, lora=None)
    policy.train()
    next(policy.hugging_face.children()).eval()
    modes = [module.training for module in policy.modules()]
    state = torch.get_rng_state()
    first = policy.sample([policy.encode_prompt("x")], uniforms(1, 11))
    second = policy.sample([policy.encode_prompt("x")], uniforms(1, 11))
    assert [module.training for module in policy.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.scores.log_pf_NT, second.scores.log_pf_NT) and not first.scores.log_pf_NT.requires_grad
    assert torch.is_grad_enabled()


def test_impossible_arguments_are_refused(make_policy: Any) -> None:
    policy = make_policy("llama")
    context = policy.encode_prompt("x")
    with pytest.raises(ValueError, match=r"need \(2, 11\)"):
        policy.sample([context] * 2, uniforms(2, 9))
    with pytest.raises(ValueError, match="temperature_N has shape"):
        policy.sample([context] * 2, uniforms(2, 11), temperature_N=torch.ones(3))
    with pytest.raises(ValueError, match="context 1 is empty"):
        policy.sample([context, []], uniforms(2, 11))
    with pytest.raises(ValueError, match="at least one row"):
        policy.sample([], uniforms(0, 11))
    with pytest.raises(ValueError, match="shorten the prompt"):
        policy.sample([context * 30], uniforms(1, 11))


@pytest.mark.parametrize("temperature", [None, 0.7])
@pytest.mark.parametrize(("model", "decoder"), list(DECODERS))
def test_entropies_of_sampling_are_those_of_scoring(
    make_policy: Any, monkeypatch: pytest.MonkeyPatch, model: str, decoder: str, temperature: float | None
) -> None:
    """At temperature 1, whatever the behaviour; and evaluation then needs no further pass."""
    ends = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
    policy = make_policy(model, decoder=decoder, min_new_tokens=1, end_tokens=ends)
    contexts = [policy.encode_prompt(text) for text in ("one", "two", "one", "a longer prompt") * 3]
    temperature_N = None if temperature is None else torch.full((12,), temperature)
    sampled = policy.sample(contexts, uniforms(12, 11), temperature_N=temperature_N, top_k=20, entropy=True)
    ids = torch.where(sampled.action_mask_NT, sampled.action_ids_NT, 0)
    steps = StepBatch(*pad_contexts(contexts, "cpu"), ids, sampled.action_mask_NT)
    expected = policy.score(steps, entropy=True).entropy_NT1
    found = sampled.scores.entropy_NT1
    assert found is not None and found.shape == expected.shape and expected.max() > 1.0
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    assert policy.sample(contexts, uniforms(12, 11)).scores.entropy_NT1 is None
    monkeypatch.setattr(policy, "score", None)
    problems = [Problem(text, text) for text in ("one", "two")]
    records = sample_completions(policy, problems, num_samples=3)
    assert all(value > 0.0 for record in records for value in record.entropies)
