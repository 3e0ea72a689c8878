"""Compiled layers compute what the others do, in scoring, sampling and under the reference."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_gfn.policies.models.repeated_layers import compile_layers, repeated_layers


@pytest.mark.parametrize(("name", "count"), [("llama", 2), ("gpt2", 2), ("t5", 5)])
def test_every_layer_is_found_once(make_policy: Any, name: str, count: int) -> None:
    policy = make_policy(name)
    assert len(set(repeated_layers(policy))) == len(repeated_layers(policy)) == count


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="compile_layers: Linear declares no layers"):
        compile_layers(torch.nn.Linear(2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_compiled_layers_give_the_same_scores_gradients_and_samples(
    make_policy: Any, kit: SimpleNamespace, name: str
) -> None:
    plain = make_policy(name, scoring="hugging_face", decoder="hugging_face")
    compiled = make_policy(name, scoring="hugging_face", decoder="hugging_face", compile_layers=True)
    compiled.load_state_dict(plain.state_dict())
    contexts = [plain.encode_prompt(text) for text in kit.TEXTS]
    uniforms = torch.rand(len(contexts), 11, generator=torch.Generator().manual_seed(1))
    results = []
    for policy in (plain, compiled):
        policy.freeze_reference()
        sampled = policy.sample(contexts, uniforms)
        steps = kit.rows_of(policy, sampled)
        scores = policy.score(steps)
        (scores.log_pf_NT.square().sum() + scores.log_pstop_NT1.sum()).backward()
        reference = policy.score(steps, reference=True).log_pf_NT
        gradients = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
        results.append((sampled.action_ids_NT, scores.log_pf_NT, reference, gradients))
    torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-4)
