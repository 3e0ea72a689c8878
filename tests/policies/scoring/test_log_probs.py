"""Token, stop and entropy with their gradients, against plain autograd; chunks against one piece."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_gfn.policies.action_space import ActionSpace
from lightning_gfn.policies.models.output_layer import OutputLayer
from lightning_gfn.policies.scoring import log_probs
from lightning_gfn.policies.scoring.log_probs import action_log_probs

M, H, V = 11, 6, 23


def space_of(end_ids: list[int]) -> ActionSpace:
    allowed = [i for i in range(V) if i not in (0, 1, 22)]
    return ActionSpace(vocab_size=V, allowed_ids=allowed, end_ids=end_ids, min_new_tokens=0, max_new_tokens=4)


def plain(logits: Tensor, token: Tensor, may_stop: Tensor, space: ActionSpace) -> tuple[Tensor, Tensor, Tensor]:
    """The same by log-softmax over explicit action columns: allowed tokens, then stop."""
    ends, tokens = space.end_ids, space.allowed_V.nonzero().squeeze(1)
    stop = logits[:, ends].logsumexp(1).masked_fill(~may_stop, -torch.inf)
    log_p = torch.cat([logits[:, tokens], stop[:, None]], 1).log_softmax(1)
    column = (tokens[None] == token[:, None]).long().argmax(1)
    finite = log_p.masked_fill(log_p == -torch.inf, 0.0)
    entropy = -(log_p.exp() * finite).sum(1)
    return log_p.gather(1, column[:, None])[:, 0], torch.where(may_stop, finite[:, -1], 0.0), entropy


def problem(seed: int = 0) -> tuple[Tensor, nn.Linear, Tensor, Tensor]:
    torch.manual_seed(seed)
    hidden = torch.randn(M, H, requires_grad=True)
    head = nn.Linear(H, V)
    token = torch.randint(6, 20, (M,))
    return hidden, head, token, torch.rand(M) > 0.4


def gradients(values: tuple[Tensor, ...], hidden: Tensor, head: nn.Linear) -> list[Tensor]:
    torch.manual_seed(9)
    loss = sum((torch.randn(M) * value).sum() for value in values)
    assert isinstance(loss, Tensor)
    return list(torch.autograd.grad(loss, [hidden, head.weight, head.bias], retain_graph=True))


@pytest.mark.parametrize("max_logits", [10**6, V, 3 * V])
@pytest.mark.parametrize("end_ids", [[2], [2, 5, 21]])
@pytest.mark.parametrize("layer", [{}, {"scale": 0.5}, {"cap": 1.5}])
def test_values_and_gradients_match_plain_autograd(
    end_ids: list[int], max_logits: int, layer: dict[str, float]
) -> None:
    hidden, head, token, may_stop = problem()
    space, output_layer = space_of(end_ids), OutputLayer(head, **layer)
    given = action_log_probs(
        hidden, output_layer, token, may_stop, space, vocab_size=V, with_entropy=True, max_logits=max_logits
    )
    expected = plain(output_layer(hidden), token, may_stop, space)
    assert given[2] is not None
    for a, b in zip(given, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    for a, b in zip(gradients(given, hidden, head), gradients(expected, hidden, head), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_the_gradient_can_be_taken_twice() -> None:
    hidden, head, token, may_stop = problem()
    values = action_log_probs(
        hidden, OutputLayer(head), token, may_stop, space_of([2]), vocab_size=V, with_entropy=False, max_logits=10**6
    )
    first, second = (gradients(values[:2], hidden, head) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_a_planted_sign_error_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    backward = log_probs._ActionLogProbs.backward

    def wrong(ctx: Any, grad_token: Tensor, grad_stop: Tensor, grad_entropy: Tensor | None) -> Any:
        return backward(ctx, grad_token, -grad_stop, grad_entropy)

    monkeypatch.setattr(log_probs._ActionLogProbs, "backward", staticmethod(wrong))
    with pytest.raises(AssertionError):
        test_values_and_gradients_match_plain_autograd([2], 10**6, {})


@pytest.mark.parametrize("with_gradient", [True, False])
def test_no_more_logits_than_allowed_exist_at_a_time(with_gradient: bool) -> None:
    hidden, head, token, may_stop = problem()
    sizes: list[int] = []

    def counted(hidden_MH: Tensor) -> Tensor:
        sizes.append(hidden_MH.shape[0] * V)
        return head(hidden_MH)

    with torch.set_grad_enabled(with_gradient):
        log_token, *_ = action_log_probs(
            hidden,
            OutputLayer(counted),
            token,
            may_stop,
            space_of([2]),
            vocab_size=V,
            with_entropy=False,
            max_logits=4 * V,
        )
    if with_gradient:
        log_token.sum().backward()
    assert max(sizes) <= 4 * V and len(sizes) == (6 if with_gradient else 3)


@pytest.mark.parametrize("how", ["weights", "autocast"])
def test_logits_of_half_precision_states_are_float32(how: str) -> None:
    """Logits of 20 lie 0.125 apart in bfloat16."""
    hidden, head, _, _ = problem()
    hidden = (8 * hidden).bfloat16()
    if how == "weights":
        head = head.bfloat16()
    logits = torch.nn.functional.linear(hidden.float(), head.weight.float(), head.bias.float())
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        given = OutputLayer(head)(hidden)
    assert given.dtype == torch.float32
    torch.testing.assert_close(given, logits, atol=1e-4, rtol=0)


def test_half_precision_logits_are_normalised_in_float32() -> None:
    hidden, head, token, may_stop = problem()
    values = action_log_probs(
        hidden.bfloat16(),
        OutputLayer(head.bfloat16()),
        token,
        may_stop,
        space_of([2]),
        vocab_size=V,
        with_entropy=True,
        max_logits=10**6,
    )
    logits = torch.nn.functional.linear(hidden.bfloat16().float(), head.weight.float(), head.bias.float())
    for given, expected in zip(values, plain(logits, token, may_stop, space_of([2])), strict=True):
        assert given is not None and given.dtype == torch.float32
        torch.testing.assert_close(given, expected, atol=1e-5, rtol=0)


def test_large_vocabularies_are_normalised_as_exactly_as_small_ones() -> None:
    """Tokens of a sequence share the sign of their error: 2e-5 each would be 0.02 over a thousand."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(16, 50_000, generator=generator)
    token, may_stop = torch.arange(16) + 3, torch.ones(16, dtype=torch.bool)
    space = ActionSpace(
        vocab_size=50_000, allowed_ids=range(3, 50_000), end_ids=[2], min_new_tokens=0, max_new_tokens=9
    )
    log_token, log_stop, _ = action_log_probs(
        logits, OutputLayer(torch.nn.Identity()), token, may_stop, space,
        vocab_size=50_000, with_entropy=False, max_logits=10**7,
    )  # fmt: skip
    exact = logits.double()[:, 2:].log_softmax(1)
    assert (log_token - exact.gather(1, token[:, None] - 2).squeeze(1)).abs().max() < 2e-6
    assert (log_stop - exact[:, 0]).abs().max() < 2e-6


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("max_logits", [10**6, 5])
@pytest.mark.parametrize("end_ids", [[2], [2, 21]])
def test_few_actions_cost_their_own_logits_alone(
    end_ids: list[int], max_logits: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, head, _, may_stop = problem()
    if not bias:
        head.register_parameter("bias", None)
    space = ActionSpace(vocab_size=V, allowed_ids=[7, 4, 19], end_ids=end_ids, min_new_tokens=0, max_new_tokens=4)
    assert space.narrow is not None and space_of([2]).narrow is None
    token = torch.tensor([4, 7, 19])[torch.randint(0, 3, (M,))]
    widths: list[int] = []
    whole = log_probs.softmax_in_place
    monkeypatch.setattr(log_probs, "softmax_in_place", lambda x, *rest: (widths.append(x.shape[1]), whole(x, *rest))[1])
    settings: dict[str, Any] = {"vocab_size": V, "with_entropy": True, "max_logits": max_logits}
    given = action_log_probs(hidden, OutputLayer(head, cap=1.5), token, may_stop, space, **settings)
    assert set(widths) == {3 + len(end_ids)}
    expected = plain(OutputLayer(head, cap=1.5)(hidden), token, may_stop, space)
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    over = [hidden, *head.parameters()]
    found, wanted = (torch.autograd.grad(sum(x.pow(2).sum() for x in values), over) for values in (given, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
