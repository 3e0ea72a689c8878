"""Weights that are cut and whole by turns, on one process: what working copies of them notice, and which pass runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from lightning_gfn.finite import own_part
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.fused.families import unsupported_reason
from lightning_gfn.policies.models.weight_state import PROBES, WeightState
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.sharding.shards import Shards
from lightning_gfn.types import StepBatch

LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """A process group of this process."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def cut_policy(mesh: DeviceMesh, **settings: str) -> tuple[CausalLM, Shards]:
    """A policy whose weights are cut."""
    policy = CausalLM(
        config=LLAMA, tokenizer=TokenizerSettings(kind="byte"), max_prompt_tokens=8, max_new_tokens=4,
        allowed_tokens=list("abcd"), **settings,
    )  # type: ignore[arg-type]  # fmt: skip
    torch.manual_seed(0)
    policy.build(())
    shards = Shards(mesh)
    policy.cut(shards)
    return policy, shards


def steps(policy: CausalLM) -> StepBatch:
    """Two actions of different length after two contexts of different length."""
    contexts = [policy.encode_prompt(text) for text in ("xy", "z")]
    return pad_steps(contexts, [policy.encode_completion(text) for text in ("abc", "d")], "cpu")


def state(policy: CausalLM) -> WeightState:
    """What a working copy would compare."""
    return WeightState(torch.float32, policy.hugging_face.parameters())


def test_working_copies_outlive_a_gathering_and_notice_every_change(mesh: DeviceMesh) -> None:
    """One number that no probe looks at; gathered weights have versions of their own, which FSDP never raises."""
    policy, shards = cut_policy(mesh)
    with shards.whole():
        first = state(policy)
    with shards.whole():
        assert state(policy).equals(first), "nothing was trained in between"
    with torch.no_grad():
        largest = max(policy.hugging_face.parameters(), key=torch.numel)
        assert largest.numel() > 2 * PROBES
        own_part(largest).view(-1)[1] += 1.0
    with shards.whole():
        assert not state(policy).equals(first)
        assert torch.equal(state(policy).probes, first.probes), "the probes alone would not have seen it"


def test_weights_are_whole_inside_alone(mesh: DeviceMesh) -> None:
    policy, shards = cut_policy(mesh)
    model = policy.hugging_face
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    assert unsupported_reason(model.base_model) is not None
    with shards.whole(), shards.whole():
        assert not any(isinstance(parameter, DTensor) for parameter in model.parameters())
        assert unsupported_reason(model.base_model) is None, "the fused decoder and pass run there"
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())


def test_scores_are_the_same_cut_or_whole(mesh: DeviceMesh) -> None:
    """By the model's own pass with gathered layers, and by the fused one on whole weights."""
    policy, shards = cut_policy(mesh)
    with shards.whole(), torch.no_grad():
        whole = policy.score(steps(policy)).log_pf_NT
    cut = policy.score(steps(policy)).log_pf_NT
    torch.testing.assert_close(cut.detach(), whole, atol=1e-5, rtol=1e-5)
    cut.sum().backward()
    gradients = [parameter.grad for parameter in policy.hugging_face.parameters()]
    assert all(isinstance(gradient, DTensor) and bool(own_part(gradient).any()) for gradient in gradients)


def test_the_fused_pass_is_refused_where_weights_are_cut(mesh: DeviceMesh) -> None:
    policy, _ = cut_policy(mesh, scoring="fused")
    with pytest.raises(ValueError, match=r"the fused scoring pass cannot run this model.*set scoring: hugging_face"):
        policy.score(steps(policy))
