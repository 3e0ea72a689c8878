"""The critic: a copy of the policy's network that is read like it and trained apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.critic import Critic
from lightning_gfn.policies.heads import ValueHead
from lightning_gfn.policies.language_policy import LanguagePolicy
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.types import Problem, Rollouts, StepBatch

CONFIG = {
    "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 32,
}  # fmt: skip


T5 = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}


def policy(lora: LoraSettings | None = None, kind: type[LanguagePolicy] = CausalLM, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = CONFIG if kind is CausalLM else T5
    sizes = {"max_prompt_tokens": 8, "max_new_tokens": 4}
    made = kind(config=config, tokenizer=TokenizerSettings(kind="byte"), lora=lora, **sizes, **settings)
    made.build(())
    return made


def rollouts(model: CausalLM) -> Rollouts:
    """Contexts and actions of different lengths, padded on their sides."""
    first, second = model.encode_prompt("xy"), model.encode_prompt("z")
    return Rollouts(
        problems=(Problem(id="p", prompt=""),),
        problem_index_B=torch.zeros(2, dtype=torch.int64),
        trajectory_index_N=torch.arange(2),
        steps=StepBatch(
            torch.tensor([first, [0] * (len(first) - len(second)) + second]),
            torch.tensor([[True] * len(first), [False] * (len(first) - len(second)) + [True] * len(second)]),
            torch.tensor([[*model.encode_completion("ab"), 0], model.encode_completion("cde")]),
            torch.tensor([[True, True, False], [True, True, True]]),
        ),
        completions=("ab", "cde"),
        sources=("on_policy",) * 2,
    )


def scores_of(model: CausalLM, batch: Rollouts) -> Any:
    return model.score(batch.steps, hidden=True)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2, alpha=4)], ids=["full", "lora"])
def test_a_fresh_critic_reads_what_a_value_head_reads(lora: LoraSettings | None) -> None:
    """Same hidden states at the same prefixes, from weights of its own."""
    model = policy(lora)
    batch = rollouts(model)
    critic, head = Critic(initial=0.5), ValueHead(initial=0.5)
    critic.build_for(model)
    head.build_for(model)
    scores = scores_of(model, batch)
    assert (critic(scores, batch) == 0.5).all() and critic(scores, batch).shape == (2, 4)
    torch.nn.init.normal_(head.network[0].weight)
    critic.network.load_state_dict(head.network.state_dict())
    valid = torch.tensor([[True, True, True, False], [True] * 4])
    torch.testing.assert_close(critic(scores, batch)[valid], head(scores, batch)[valid], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [CausalLM, Seq2SeqLM])
@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2, alpha=4)], ids=["full", "lora"])
def test_values_and_gradients_do_not_depend_on_the_pass(lora: LoraSettings | None, kind: type[LanguagePolicy]) -> None:
    found = []
    for name in ("fused", "hugging_face"):
        model, critic = policy(lora, kind, scoring=name).eval(), Critic(initial=0.5, width=5)
        critic.build_for(model)
        generator = torch.Generator().manual_seed(1)
        for parameter in critic.parameters():
            torch.nn.init.normal_(parameter.data, std=0.3, generator=generator)
        batch = rollouts(model)
        values = critic.read(None, batch.steps)[torch.tensor([[True, True, True, False], [True] * 4])]
        (values * torch.arange(len(values))).sum().backward()
        assert len(critic.scoring.copies.known) == (name == "fused") and not model.scoring.copies.known
        found.append((values.detach(), {n: p.grad for n, p in critic.named_parameters() if p.grad is not None}))
    (fused, fused_gradients), (own, own_gradients) = found
    torch.testing.assert_close(fused, own, atol=1e-5, rtol=1e-5)
    assert fused_gradients.keys() == own_gradients.keys() and any("lora_A" in n for n in own_gradients) == bool(lora)
    for label, gradient in own_gradients.items():
        assert (gradient - fused_gradients[label]).abs().max() < 1e-4 * gradient.abs().max(), label


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2, alpha=4)], ids=["full", "lora"])
def test_training_it_leaves_the_policy_alone(lora: LoraSettings | None) -> None:
    model = policy(lora)
    batch = rollouts(model)
    critic = Critic()
    critic.build_for(model)
    torch.nn.init.normal_(critic.network[0].weight)
    scores = scores_of(model, batch)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainable = [p for p in critic.parameters() if p.requires_grad]
    frozen = {name for name, p in critic.named_parameters() if not p.requires_grad}
    assert bool(frozen) == (lora is not None)
    assert all("lora_" in name for name, p in critic.backbone.named_parameters() if p.requires_grad) == bool(lora)
    critic(scores, batch).square().sum().backward()
    if lora is None:
        assert all(p.grad is not None and p.grad.any() for p in trainable)
    assert all(p.grad is None for p in model.parameters())
    torch.optim.SGD(trainable, lr=0.1).step()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_values_stay_float32_under_autocast() -> None:
    model = policy()
    batch = rollouts(model)
    critic = Critic(initial=-300.7)
    critic.build_for(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = critic(scores_of(model, batch), batch)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, torch.full((2, 4), -300.7), atol=1e-4, rtol=0)


def test_only_a_policy_with_a_network_can_be_copied() -> None:
    class Other:
        hidden_size = 3

    with pytest.raises(TypeError, match="not of Other: use ValueHead"):
        Critic().build_for(Other())  # type: ignore[arg-type]
