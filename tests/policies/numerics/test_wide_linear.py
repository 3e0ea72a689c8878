"""float32 results from narrow weights: against float64, in blocks, with gradients, and with small adapters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from lightning_gfn.policies.models.adapters import LoraSettings, without_trained_adapter
from lightning_gfn.policies.numerics import wide_linear


@pytest.mark.parametrize("block", [1, 2**24])
@pytest.mark.parametrize("autocast", [False, True])
def test_products_and_gradients_are_those_of_wide_numbers(
    monkeypatch: pytest.MonkeyPatch, block: int, autocast: bool
) -> None:
    monkeypatch.setattr(wide_linear, "BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    x, weight, bias, outer = (
        torch.randn(*shape, generator=generator).bfloat16() for shape in ((3, 2, 7), (5, 7), (5,), (3, 2, 5))
    )
    x, weight, bias = (tensor.requires_grad_() for tensor in (x, weight, bias))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = wide_linear.wide_linear(x, weight, bias)
    assert out.dtype == torch.float32
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    expected = functional.linear(exact[0], exact[1], exact[2])
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=0)
    gradients = torch.autograd.grad((out * outer.float()).sum(), (x, weight, bias))
    wide = torch.autograd.grad((expected * outer.double()).sum(), exact)
    for given, right in zip(gradients, wide, strict=True):
        assert given.dtype == torch.bfloat16
        torch.testing.assert_close(given, right.bfloat16(), atol=0, rtol=2**-7)


@pytest.mark.parametrize("how", ["weights", "autocast"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_adapter_below_the_grid_of_bfloat16_moves_scores_as_it_should(
    make_policy: Any, kit: Any, name: str, how: str
) -> None:
    """The slope of scored changes of log q over those of a float32 model, over many tokens, is 1.

    The adapter changes outputs of layers by less than half a step of bfloat16; W x rounded before it is added
    swallows most of that.
    """
    pairs = [changes(make_policy, kit, name, how, seed) for seed in range(1, 5)]
    true, scored = (torch.cat([pair[i] for pair in pairs]) for i in (0, 1))
    slope = float((true * scored).sum() / true.square().sum())
    assert abs(slope - 1) < 0.15


def changes(make_policy: Any, kit: Any, name: str, how: str, seed: int) -> list[torch.Tensor]:
    """What an adapter changes log q of many tokens by: of a float32 model, and of a narrow one."""
    settings = {"lora": LoraSettings(rank=3), "decoder": "hugging_face", "max_new_tokens": 24}
    dtype = "bfloat16" if how == "weights" else "float32"
    wide, narrow = make_policy(name, **settings), make_policy(name, dtype=dtype, **settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.copy_(parameter.bfloat16())
        for (label, parameter), own in zip(wide.named_parameters(), narrow.parameters(), strict=True):
            if "lora_B" in label:
                parameter.copy_(1e-4 * torch.randn(parameter.shape, generator=generator))
            own.copy_(parameter)
    contexts = [narrow.encode_prompt(text) for text in kit.TEXTS] * 12
    actions = [torch.randint(3, 259, (24,), generator=generator).tolist() for _ in contexts]
    rows = kit.pad_rows(contexts, actions)
    found = []
    for policy in (wide, narrow):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=policy is narrow and how == "autocast"):
            after = policy.score(rows).log_pf_NT
            with without_trained_adapter(policy.peft_model):
                found.append(after - policy.score(rows).log_pf_NT)
    return found
