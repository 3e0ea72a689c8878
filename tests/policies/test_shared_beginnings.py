"""Prompts that begin alike are read once up to where they differ, and nothing that is computed changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_gfn.policies.fused import prompt_pass
from lightning_gfn.policies.fused.prompt_pass import PromptPass
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.passes.beginnings import shared_beginning

FUSED = ("llama", "llama_biases_tied", "qwen3", "mistral", "gpt2", "gemma", "gemma2_soft_cap", "gemma3_text")
TEXTS = tuple(f"take 12 + 3 = 15, then {end}" for end in ("a", "bcd efg", "bcd", "x + 12 = 9"))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Prompts, positions and positions before them of each pass that is made."""
    found: list[tuple[int, int, int]] = []

    class Watched(PromptPass):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            found.append((self.num_prompts, self.length, self.num_before))

    monkeypatch.setattr(prompt_pass, "PromptPass", Watched)
    return found


def sample(policy: Any, texts: tuple[str, ...] = TEXTS) -> Any:
    columns = policy.max_new_tokens + 1
    uniforms = torch.rand(4, columns, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return policy.sample([policy.encode_prompt(text) for text in texts], uniforms[: len(texts)])


def expected(policy: Any, texts: tuple[str, ...] = TEXTS) -> list[tuple[int, int, int]]:
    contexts = [policy.encode_prompt(text) for text in texts]
    longest, shared = max(map(len, contexts)), shared_beginning(contexts)
    assert 16 <= shared < min(map(len, contexts))
    windows = [layer.form.window for layer in policy.decoders.fused_weights(policy.hugging_face).layers]
    if any(window is not None and window < longest for window in windows):
        return [(len(texts), longest, 0)]  # a window counts columns, of which some would be padding
    return [(1, shared, 0), (len(texts), longest - shared, shared)]


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3)], ids=["full", "lora"])
@pytest.mark.parametrize("name", [*FUSED, "mistral_window"])
def test_samples_have_the_log_probs_of_whole_rows(
    make_policy: Any, kit: Any, passes: list[tuple[int, int, int]], name: str, lora: Any
) -> None:
    policy = make_policy(name, decoder="fused", lora=lora, min_new_tokens=1, max_prompt_tokens=48)
    sampled = sample(policy)
    assert passes == expected(policy)
    plain = kit.plain_log_probs(policy, kit.rows_of(policy, sampled, TEXTS))
    assert kit.largest_difference(sampled.scores, plain) < 1e-5


def test_prompts_of_one_length_have_no_padding(make_policy: Any, kit: Any, passes: list[tuple[int, int, int]]) -> None:
    policy, texts = (
        make_policy(decoder="fused", min_new_tokens=1, max_prompt_tokens=48),
        (TEXTS[0], TEXTS[0][:-1] + "z"),
    )
    sampled = sample(policy, texts)
    assert passes == expected(policy, texts)
    plain = kit.plain_log_probs(policy, kit.rows_of(policy, sampled, texts))
    assert kit.largest_difference(sampled.scores, plain) < 1e-5


def test_slots_are_given_the_prompts_as_they_stand(make_policy: Any, passes: list[tuple[int, int, int]]) -> None:
    whole, slots = (
        make_policy(decoder=decoder, min_new_tokens=1, max_prompt_tokens=48) for decoder in ("fused", "continuous")
    )
    assert torch.equal(sample(whole).action_ids_NT, sample(slots).action_ids_NT)
    assert passes[:2] == expected(whole) and any(before for _, _, before in passes[2:])


PLANTED = {
    "positions from 0": lambda weights, ids, positions, *rest: PromptPass(weights, ids, positions * 0, *rest),
    "the beginning unseen": lambda weights, ids, positions, mask, before=None: PromptPass(
        weights, ids, positions, mask, None if before is None else [states * 0 for states in before]
    ),
}


@pytest.mark.parametrize("wrong", PLANTED.values(), ids=PLANTED)
def test_planted_errors_are_seen(make_policy: Any, kit: Any, monkeypatch: pytest.MonkeyPatch, wrong: Any) -> None:
    policy = make_policy(decoder="fused", min_new_tokens=1, max_prompt_tokens=48)
    monkeypatch.setattr(prompt_pass, "PromptPass", wrong)
    sampled = sample(policy)
    plain = kit.plain_log_probs(policy, kit.rows_of(policy, sampled, TEXTS))
    assert kit.largest_difference(sampled.scores, plain) > 1e-3
