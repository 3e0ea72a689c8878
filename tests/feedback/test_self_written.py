"""Feedback by the frozen reference of a small real policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_gfn.feedback.messages import fill_request
from lightning_gfn.feedback.self_written import SelfFeedback
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.types import Rollouts

REQUEST = "{problem}{attempt} is {verdict}:"


@pytest.fixture
def policy() -> CausalLM:
    torch.manual_seed(0)
    config = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
    }  # fmt: skip
    policy = CausalLM(config=config, max_prompt_tokens=20, max_new_tokens=8, allowed_tokens=list("abc "))
    policy.build(())
    policy.freeze_reference()
    return policy


def test_the_reference_reads_problem_and_attempt(policy: CausalLM, rollouts: Rollouts) -> None:
    source = SelfFeedback(request=REQUEST)
    assert source.needs_reference
    given = source.give(rollouts, policy, [1, 3])
    for b, text in zip([1, 3], given.texts, strict=True):
        prompt = fill_request(REQUEST, rollouts.problem_of(b), rollouts.completions[b], False, 0.5)
        sampled = policy.sample([policy.encode_context(prompt)], torch.zeros(1, 9), top_k=1)
        assert text == policy.decode(sampled.action_ids_NT[0][sampled.action_mask_NT[0]].tolist()).strip()
    written = [policy.encode_completion(text) for text in given.texts if text is not None]
    assert given.counts["generated_tokens"] >= sum(map(len, written)) > 0
    with torch.no_grad():
        for parameter in policy.hugging_face.parameters():
            parameter.mul_(-1.0)
    assert source.give(rollouts, policy, [1, 3]).texts == given.texts, "training does not change it"


def test_too_long_a_request_gives_no_feedback(policy: CausalLM, rollouts: Rollouts) -> None:
    long = replace(rollouts, completions=("x" * 60, *rollouts.completions[1:]))
    given = SelfFeedback(request=REQUEST).give(long, policy, [0, 1])
    assert given.texts[0] is None and given.counts["request_too_long"] == 1


def test_wrong_arguments_name_themselves(policy: CausalLM, rollouts: Rollouts) -> None:
    no_teacher: Any = object()
    with pytest.raises(TypeError, match="needs a policy that can teach"):
        SelfFeedback().give(rollouts, no_teacher, [0])
    with pytest.raises(ValueError, match="must hold {attempt}"):
        SelfFeedback(request="{problem}")
