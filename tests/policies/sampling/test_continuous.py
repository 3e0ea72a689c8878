"""Sampling in slots that are refilled gives what sampling all rows in step gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from lightning_gfn.finite import NotFiniteError
from lightning_gfn.policies.fused import decoder_weights
from lightning_gfn.policies.fused.slot_decoder import FusedSlotDecoder
from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.policies.sampling import continuous
from lightning_gfn.policies.sampling.captured_steps import CapturedSteps
from lightning_gfn.types import SampledActions

END = [*"abcdefghijklmnopqrstuvwxyz0123456789"]
TEXTS = ("one", "two", "one", "a longer prompt", "one", "three", "two", "t", "one", "t", "a longer prompt", "four")


def uniforms(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same(given: SampledActions, expected: SampledActions) -> None:
    assert torch.equal(given.action_mask_NT, expected.action_mask_NT)
    assert torch.equal(given.action_ids_NT, expected.action_ids_NT)
    for name in ("log_pf_NT", "log_pstop_NT1"):
        torch.testing.assert_close(getattr(given.scores, name), getattr(expected.scores, name), atol=1e-5, rtol=0)
    torch.testing.assert_close(given.behaviour_log_pf_NT, expected.behaviour_log_pf_NT, atol=1e-5, rtol=0)
    torch.testing.assert_close(given.behaviour_log_pstop_N, expected.behaviour_log_pstop_N, atol=1e-5, rtol=0)


MODELS = ["llama", "qwen3", "llama_biases_tied", "llama3_rope"]
MODELS += ["mistral_window", "gpt2", "gemma2_soft_cap", "gemma3_text"]


@pytest.mark.parametrize("how", ["plain", "tempered", "truncated"])
@pytest.mark.parametrize("slots", [1, 3, None])
@pytest.mark.parametrize("model", MODELS)
def test_refilled_slots_give_the_samples_of_one_batch(
    make_policy: Any, model: str, slots: int | None, how: str
) -> None:
    policy = make_policy(model, decoder="fused", end_tokens=END, min_new_tokens=1)
    contexts = [policy.encode_prompt(text) for text in TEXTS]
    settings: dict[str, Any] = {}
    if how != "plain":
        settings["temperature_N"] = torch.linspace(0.5, 2.0, len(TEXTS))
    if how == "truncated":
        settings |= {"top_k": 9, "top_p": 0.8}
    expected = policy.sample(contexts, uniforms(len(TEXTS), 11), **settings)
    lengths = expected.action_mask_NT.sum(1)
    assert lengths.min() < lengths.max()
    assert how == "truncated" or lengths.max() == policy.max_new_tokens  # for some, stop is forced
    policy.decoders.decoder, policy.budget = "continuous", PassBudget(max_rows_per_pass=slots)
    assert_same(policy.sample(contexts, uniforms(len(TEXTS), 11), **settings), expected)


@pytest.mark.parametrize("interval", [3, 16])
def test_looking_seldom_changes_nothing(make_policy: Any, monkeypatch: pytest.MonkeyPatch, interval: int) -> None:
    policy = make_policy("llama", decoder="fused", end_tokens=END)
    contexts = [policy.encode_prompt(text) for text in TEXTS]
    expected = policy.sample(contexts, uniforms(len(TEXTS), 11))
    policy.decoders.decoder, policy.budget = "continuous", PassBudget(max_rows_per_pass=4)
    run = continuous.run_slots
    monkeypatch.setattr(
        continuous, "run_slots", lambda slots, queue, captured, _: run(slots, queue, captured, interval)
    )
    assert_same(policy.sample(contexts, uniforms(len(TEXTS), 11)), expected)


def test_windows_narrower_than_the_memory_change_nothing(make_policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy("llama", decoder="fused", end_tokens=END)
    contexts = [policy.encode_prompt(text) for text in TEXTS]
    expected = policy.sample(contexts, uniforms(len(TEXTS), 11))
    policy.decoders.decoder, policy.budget = "continuous", PassBudget(max_rows_per_pass=4)
    seen: list[int] = []
    step = FusedSlotDecoder.step

    def watched(self: FusedSlotDecoder, tokens: Tensor, window: int) -> Tensor:
        seen.append(window)
        return step(self, tokens, window)

    monkeypatch.setattr(FusedSlotDecoder, "step", watched)
    monkeypatch.setattr(continuous, "WINDOW", 4)
    assert_same(policy.sample(contexts, uniforms(len(TEXTS), 11)), expected)
    assert len(set(seen)) > 2


def test_a_prompt_is_read_once_unless_it_waits_and_few_at_a_time(
    make_policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy("llama", decoder="continuous", end_tokens=END)
    policy.budget = PassBudget(max_rows_per_pass=3)
    read: list[int] = []
    prefill = FusedSlotDecoder.prefill

    def watched(self: FusedSlotDecoder, ids: Tensor, mask: Tensor | None) -> Tensor:
        read.append(len(ids))
        return prefill(self, ids, mask)

    monkeypatch.setattr(FusedSlotDecoder, "prefill", watched)
    monkeypatch.setattr(continuous, "PREFILL_TOKENS", 30)
    policy.sample([policy.encode_prompt(text) for text in TEXTS], uniforms(len(TEXTS), 11))
    assert sum(read) == len(set(TEXTS)) and max(read) <= 3


def test_the_tail_of_a_batch_runs_in_fewer_slots(make_policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy("llama", decoder="continuous", end_tokens=END)
    rows: list[int] = []
    step = FusedSlotDecoder.step

    def watched(self: FusedSlotDecoder, tokens: Tensor, window: int) -> Tensor:
        rows.append(len(tokens))
        return step(self, tokens, window)

    monkeypatch.setattr(FusedSlotDecoder, "step", watched)
    policy.sample([policy.encode_prompt(text) for text in TEXTS], uniforms(len(TEXTS), 11))
    assert rows[0] == len(TEXTS) and rows[-1] <= len(TEXTS) // 2


@pytest.mark.parametrize("model", ["llama_biases_tied", "gpt2"])
def test_a_narrow_output_matrix_gives_the_same_logits_up_to_rounding(
    make_policy: Any, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    policy = make_policy(model, decoder="continuous")
    contexts = [policy.encode_prompt(text) for text in TEXTS]
    expected = policy.sample(contexts, uniforms(len(TEXTS), 11))
    wide, seen = decoder_weights.output_matrix, []

    def narrow(network: Any, norm: Any, scale: float, dtype: torch.dtype, columns: Any) -> tuple[Tensor, Tensor | None]:
        seen.append(dtype)
        return wide(network, norm, scale, torch.bfloat16, columns)

    monkeypatch.setattr(decoder_weights, "output_matrix", narrow)
    policy.decoders.weights = None
    given = policy.sample(contexts, uniforms(len(TEXTS), 11))
    assert seen == [torch.float32], "a processor rounds narrow products"
    first = given.scores.log_pf_NT[:, 0] - expected.scores.log_pf_NT[:, 0]
    same = given.action_ids_NT[:, 0] == expected.action_ids_NT[:, 0]
    assert same.sum() > 8 and 0 < first[same].abs().max() < 0.05


def test_continuous_refuses_models_that_it_cannot_run(make_policy: Any) -> None:
    for model, said in (("t5", "decoder-only"), ("cohere_logit_scale", "fused decoder cannot run")):
        policy = make_policy(model, decoder="continuous")
        with pytest.raises(ValueError, match=said):
            policy.sample([policy.encode_prompt("x")], uniforms(1, 11))


def test_infinite_logits_are_refused(make_policy: Any) -> None:
    policy = make_policy("llama", decoder="continuous")
    with torch.no_grad():
        policy.hugging_face.lm_head.weight.fill_(torch.nan)
    with pytest.raises(NotFiniteError, match="not finite"):
        policy.sample([policy.encode_prompt("x")], uniforms(1, 11))


class Recorded:
    """What a CUDA graph is, on CPU: the operations of one step on the memory that they had, without Python between."""

    def __init__(self, step: Callable[[int], None], window: int) -> None:
        self.operations = make_fx(lambda: step(window))()
        self.num_replays = 0

    def replay(self) -> None:
        self.num_replays += 1
        if self.num_replays > 1:  # recording runs the step, unlike a capture
            self.operations()


@pytest.mark.parametrize("how", ["plain", "tempered"])
@pytest.mark.parametrize("slots", [3, None])
def test_a_recorded_step_can_be_replayed(
    make_policy: Any, monkeypatch: pytest.MonkeyPatch, slots: int | None, how: str
) -> None:
    policy = make_policy("llama_biases_tied", decoder="fused", end_tokens=END, min_new_tokens=2)
    contexts = [policy.encode_prompt(text) for text in TEXTS]
    temperature = torch.linspace(0.5, 2.0, len(TEXTS)) if how == "tempered" else None
    expected = policy.sample(contexts, uniforms(len(TEXTS), 11), temperature_N=temperature)
    policy.decoders.decoder, policy.budget = "continuous", PassBudget(max_rows_per_pass=slots)
    recorded: list[Recorded] = []

    def capture(self: CapturedSteps, step: Callable[[int], None], window: int) -> Recorded:
        recorded.append(Recorded(step, window))
        return recorded[-1]

    start = CapturedSteps.__init__

    def enabled(self: CapturedSteps, device: torch.device, *, enabled: bool) -> None:
        start(self, device, enabled=enabled)
        self.enabled = enabled

    monkeypatch.setattr(CapturedSteps, "__init__", enabled)
    monkeypatch.setattr(CapturedSteps, "capture", capture)
    monkeypatch.setattr(continuous, "WINDOW", 8)
    assert_same(policy.sample(contexts, uniforms(len(TEXTS), 11), temperature_N=temperature), expected)
    assert recorded and max(graph.num_replays for graph in recorded) >= 3


def test_steps_that_wait_for_the_device_are_not_captured() -> None:
    assert not CapturedSteps(torch.device("cuda"), enabled=False).enabled
    assert CapturedSteps(torch.device("cuda"), enabled=True).enabled
    assert not CapturedSteps(torch.device("cpu"), enabled=True).enabled
