"""The averaged weights and what runs with them; the frozen reference's writing."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_gfn.policies.language_policy import LanguagePolicy
from lightning_gfn.policies.models.adapters import LoraSettings

Maker = Callable[..., LanguagePolicy]
LORA = LoraSettings(rank=2)


def trained(policy: LanguagePolicy) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in policy.hugging_face.named_parameters() if p.requires_grad}


def shift(policy: LanguagePolicy, seed: int) -> None:
    """Something like an optimiser step."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained(policy).values():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("lora", [None, LORA])
def test_average_follows_its_formula(make_policy: Maker, lora: LoraSettings | None) -> None:
    policy = make_policy("llama", lora=lora)
    expected = {name: p.detach().clone() for name, p in trained(policy).items()}
    policy.start_teacher()
    for step, decay in enumerate((0.9, 0.5, 1.0, 0.9)):
        shift(policy, step)
        policy.update_teacher(decay)
        expected = {n: decay * expected[n] + (1 - decay) * p.detach() for n, p in trained(policy).items()}
    averages = dict(policy.averaged_weights.named_buffers())
    assert len(averages) == len(expected) and (lora is None or all("lora_" in name for name in averages))
    for name, value in expected.items():
        torch.testing.assert_close(averages[name.replace(".", "/")], value)
    policy.update_teacher(0.0)
    for name, parameter in trained(policy).items():
        assert torch.equal(averages[name.replace(".", "/")], parameter)
    with pytest.raises(ValueError, match="decay is 1.5"):
        policy.update_teacher(1.5)


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("name", ["llama", "byt5"])
def test_teacher_pass_is_a_pass_of_a_model_with_those_weights(
    make_policy: Maker, kit: SimpleNamespace, name: str, lora: LoraSettings | None
) -> None:
    """The policy and its sampler are the same before and after, also through the working copy of the fused decoder."""
    policy, old = (make_policy(name, lora=lora, decoder="fused") for _ in range(2))
    policy.start_teacher()
    shift(policy, 1)
    contexts = [policy.encode_prompt(text) for text in kit.TEXTS]
    uniforms = torch.rand(len(contexts), 11, generator=torch.Generator().manual_seed(3))
    before = policy.sample(contexts, uniforms)
    rows = kit.rows_of(policy, before)
    weights = {name: p.detach().clone() for name, p in trained(policy).items()}
    pointers = {name: p.data_ptr() for name, p in trained(policy).items()}
    scored = policy.score(rows)
    teacher = policy.teacher_actions(rows, top_k=5)

    old.start_teacher()
    wanted = old.teacher_actions(rows, top_k=5)
    assert torch.equal(teacher.candidates_NT1K, wanted.candidates_NT1K)
    torch.testing.assert_close(teacher.log_p_NT1K, wanted.log_p_NT1K)
    student = policy.candidate_scores(rows, teacher.candidates_NT1K)
    assert (student.log_p_NT1K - teacher.log_p_NT1K).abs().max() > 0.1
    assert all(torch.equal(weights[name], p) and p.data_ptr() == pointers[name] for name, p in trained(policy).items())
    after = policy.sample(contexts, uniforms)
    assert torch.equal(after.action_ids_NT, before.action_ids_NT)
    assert torch.equal(after.scores.log_pf_NT, before.scores.log_pf_NT)
    scored.log_pf_NT.sum().backward()  # a graph that was there before the teacher's pass is unharmed
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained(policy).values())


def test_an_error_in_the_teachers_pass_gives_the_weights_back(make_policy: Maker) -> None:
    policy = make_policy("llama")
    policy.start_teacher()
    shift(policy, 1)
    weights = {name: p.detach().clone() for name, p in trained(policy).items()}
    with pytest.raises(KeyError), policy.averaged_weights.applied(policy.hugging_face):
        raise KeyError
    assert all(torch.equal(weights[name], p) for name, p in trained(policy).items())


@pytest.mark.parametrize("lora", [None, LORA])
def test_averages_are_in_the_state_and_not_trained(make_policy: Maker, lora: LoraSettings | None) -> None:
    policy, fresh = make_policy("llama", lora=lora), make_policy("llama", lora=lora)
    policy.start_teacher()
    fresh.start_teacher()
    shift(policy, 1)
    policy.update_teacher(0.7)
    fresh.load_state_dict(policy.state_dict())
    for (name, value), loaded in zip(
        policy.averaged_weights.named_buffers(), fresh.averaged_weights.buffers(), strict=True
    ):
        assert torch.equal(value, loaded), name
    assert not list(policy.averaged_weights.parameters())


def test_half_precision_weights_are_averaged_in_float32(make_policy: Maker) -> None:
    policy = make_policy("llama", dtype="bfloat16")
    policy.start_teacher()
    assert all(value.dtype == torch.float32 for value in policy.averaged_weights.buffers())
    with policy.averaged_weights.applied(policy.hugging_face):
        assert all(p.dtype == torch.bfloat16 for p in trained(policy).values())


def test_nothing_trained_is_an_error(make_policy: Maker) -> None:
    policy = make_policy("llama").requires_grad_(False)
    with pytest.raises(ValueError, match="no trained parameter"):
        policy.start_teacher()


@pytest.mark.parametrize("settings", [{}, {"lora": LORA}, {"decoder": "hugging_face"}])
@pytest.mark.parametrize("name", ["llama", "byt5"])
def test_the_reference_writes_what_the_start_would_have_written(
    make_policy: Maker, name: str, settings: dict[str, Any]
) -> None:
    policy = make_policy(name, **settings)
    if "lora" in settings:  # a fresh adapter is zero; the fixture's is not
        with torch.no_grad():
            for name, parameter in trained(policy).items():
                if "lora_B" in name:
                    parameter.zero_()
    policy.freeze_reference()
    contexts = [policy.encode_prompt(text) for text in ("12 + 3", "no", "12 + 3")]

    def greedy() -> list[list[int]]:
        sampled = policy.sample(contexts, torch.zeros(3, 11), top_k=1)
        return [ids[mask].tolist() for ids, mask in zip(sampled.action_ids_NT, sampled.action_mask_NT, strict=True)]

    start = greedy()
    shift(policy, 5)
    assert policy.write_as_reference(contexts) == start
    assert greedy() != start, "the policy itself has moved on"
    assert policy.write_as_reference(contexts) == start
