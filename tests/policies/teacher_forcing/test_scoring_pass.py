"""Which pass scores, and that its working copy follows the weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.numerics.processor import cpu_has_bfloat16
from lightning_gfn.policies.passes.beginnings import LEAST_SHARED
from lightning_gfn.policies.teacher_forcing.scoring_pass import MAX_POSITIONS, ScoringPass, saved_share
from lightning_gfn.types import StepBatch

MODELS = ["llama", "mistral_window", "gemma", "gemma2_soft_cap", "gemma3_text", "gpt2", "t5", "byt5", "mt5"]


def batch(policy: Any, kit: Any) -> StepBatch:
    contexts = [policy.encode_prompt(text) for text in kit.TEXTS] * 2
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(0, 8, (len(contexts),), generator=generator).tolist()
    return kit.pad_rows(contexts, [torch.randint(3, 200, (n,), generator=generator).tolist() for n in lengths])


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3)], ids=["full", "lora"])
@pytest.mark.parametrize("model", MODELS)
def test_scores_and_gradients_do_not_depend_on_the_pass(make_policy: Any, kit: Any, model: str, lora: Any) -> None:
    found = []
    for name in ("fused", "hugging_face"):
        policy = make_policy(model, lora=lora, scoring=name)
        for label, parameter in policy.named_parameters():
            if "lora_B" in label:
                torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(len(label)))
        scores = policy.score(batch(policy, kit), entropy=True, hidden=True)
        total = scores.log_pf_NT.sum() + scores.log_pstop_NT1.square().sum() + scores.entropy_NT1.sum()
        (total + scores.pooled_NH.square().sum()).backward()
        found.append((scores, {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}))
    (fused, fused_gradients), (own, own_gradients) = found
    for field in ("log_pf_NT", "log_pstop_NT1", "entropy_NT1", "pooled_NH"):
        torch.testing.assert_close(getattr(fused, field), getattr(own, field), atol=1e-5, rtol=1e-5)
    assert fused_gradients.keys() == own_gradients.keys()
    for label, gradient in fused_gradients.items():
        assert (gradient - own_gradients[label]).abs().max() < 2e-4 * gradient.abs().max() + 1e-6, label


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3)], ids=["full", "lora"])
def test_the_working_copy_follows_the_weights_and_is_kept(make_policy: Any, kit: Any, lora: Any) -> None:
    policy = make_policy("llama", lora=lora, scoring="fused")
    steps = batch(policy, kit)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=0.02)
    for _ in range(3):
        scores = policy.score(steps)
        (known,) = policy.scoring.copies.known.values()
        kept = known.layers
        policy.score(steps)
        assert known.layers is kept
        plain = kit.plain_log_probs(policy, steps)
        assert kit.largest_difference(scores, plain) < 1e-5
        scores.log_pf_NT.sum().backward()
        optimizer.step()


def test_the_reference_of_an_adapter_needs_no_copy_of_its_own(make_policy: Any, kit: Any) -> None:
    policy, own = (make_policy("llama", lora=LoraSettings(rank=3), scoring=name) for name in ("fused", "hugging_face"))
    steps = batch(policy, kit)
    scored = policy.score(steps).log_pf_NT
    (known,) = policy.scoring.copies.known.values()
    kept = known.layers
    found, wanted = (each.score(steps, reference=True).log_pf_NT for each in (policy, own))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert (found - scored).abs().max() > 1e-3 and known.layers is kept


def test_auto_leaves_to_the_library_what_it_cannot_do(make_policy: Any, kit: Any) -> None:
    assert not fused(make_policy("cohere_logit_scale"), kit)
    assert not fused(make_policy("llama", attn_implementation="eager"), kit)
    assert not fused(make_policy("llama", scoring="hugging_face"), kit)
    assert fused(make_policy("llama"), kit) and fused(
        make_policy("llama", attn_implementation="eager", scoring="fused"), kit
    )


@pytest.mark.parametrize(
    ("contexts", "lengths", "share"),
    [
        ([[1, 2, 3], [1, 2, 4]], [2, 2], 0.0),
        ([[1, 2, 3], [1, 2, 3]], [2, 2], 0.3),
        ([[1, 2, 3], [3]], [2, 0], 0.4),
        ([[1, 2, 3], [1, 2, 4]], [2, 1], 0.1),
    ],
)
def test_what_the_pass_saves_is_counted(contexts: list[list[int]], lengths: list[int], share: float) -> None:
    steps = pad_steps(contexts, [[5] * length for length in lengths], "cpu")
    assert saved_share(steps, encodes=False) == pytest.approx(share)
    assert saved_share(steps, encodes=True) == pytest.approx(1.0 - sum(lengths) / (2 * max(lengths)))


def test_a_shared_beginning_counts_once() -> None:
    beginning = list(range(10, 10 + LEAST_SHARED))
    steps = pad_steps([[*beginning, 1], [*beginning, 2], [*beginning, 1]], [[5]] * 3, "cpu")
    assert saved_share(steps, encodes=False) == pytest.approx(1.0 - (LEAST_SHARED + 2 + 3) / (3 * (LEAST_SHARED + 2)))


@pytest.mark.parametrize(
    ("name", "shared", "own", "is_short"),
    [
        ("LlamaModel", 0, MAX_POSITIONS, True),
        ("LlamaModel", 0, MAX_POSITIONS + 1, False),
        ("LlamaModel", MAX_POSITIONS, 30, True),
        ("LlamaModel", MAX_POSITIONS, MAX_POSITIONS, True),
        ("LlamaModel", MAX_POSITIONS + 1, MAX_POSITIONS, False),  # more than twice as many in all
        ("LlamaModel", 20, MAX_POSITIONS + 1, False),
        ("T5Stack", MAX_POSITIONS, 30, False),  # encodes each context apart
    ],
)
def test_what_rows_begin_with_does_not_make_them_long(name: str, shared: int, own: int, is_short: bool) -> None:
    beginning = [7] * shared
    steps = pad_steps([beginning + [number] + [1] * (own - 2) for number in (2, 3)], [[5]] * 2, "cpu")
    assert ScoringPass.is_short(type(name, (), {})(), shared + own, steps) == is_short


def test_auto_leaves_batches_that_save_nothing_where_the_library_is_faster(make_policy: Any, kit: Any) -> None:
    def takes(name: str, saves: bool, *, narrow: bool = False, **settings: Any) -> bool:
        policy = make_policy(name, **settings)
        contexts = [policy.encode_prompt(text) for text in (("ab", "ab") if saves else ("ab", "cd"))]
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            policy.score(kit.pad_rows(contexts, [[40, 41], [42, 43]]))
        return bool(policy.scoring.copies.known)

    assert takes("llama", True) and not takes("llama", False)
    assert takes("llama", False, lora=LoraSettings(rank=2)) and takes("llama", False, scoring="fused")
    assert takes("gemma2_soft_cap", True) and not takes("gemma2_soft_cap", False)
    if cpu_has_bfloat16():
        assert takes("llama", False, narrow=True) and not takes("gemma2_soft_cap", False, narrow=True)


def fused(policy: Any, kit: Any) -> bool:
    policy.score(batch(policy, kit))
    return bool(policy.scoring.copies.known)


@pytest.mark.parametrize(("name", "reason"), [("cohere_logit_scale", "CohereModel"), ("bart", "BartEncoder")])
def test_asked_for_it_says_why_it_cannot(make_policy: Any, kit: Any, name: str, reason: str) -> None:
    policy = make_policy(name, scoring="fused")
    with pytest.raises(ValueError, match=rf"{reason}.*scoring: hugging_face"):
        policy.score(batch(policy, kit))


@pytest.mark.parametrize("scoring", ["fused", "hugging_face"])
def test_empty_actions_without_a_stop_have_nothing_to_decide(make_policy: Any, scoring: str) -> None:
    policy = make_policy("llama", scoring=scoring)
    scores = policy.score(pad_steps([[5, 6], [7]], [[], []], "cpu"), stop=False, entropy=False)
    assert scores.log_pf_NT.shape == (2, 0) and scores.stop_mask_NT1.shape == (2, 1)
