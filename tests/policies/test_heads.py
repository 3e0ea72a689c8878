"""Heads for log Z, log F and values: constant at the start, right shapes, gradients where they belong."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_gfn.policies.heads import FlowHead, LogZHead, LogZScalar, ValueHead
from lightning_gfn.types import Problem, Rollouts, Scores, StepBatch

H, T = 6, 4


def batch(steps: tuple[int, ...] = (0, 1, 2)) -> tuple[Scores, Rollouts]:
    """N steps of the given trajectories; hidden states carry a gradient."""
    torch.manual_seed(0)
    n, b = len(steps), max(steps) + 1
    mask = torch.ones(n, T, dtype=torch.bool)
    scores = Scores(
        log_pf_NT=torch.zeros(n, T),
        log_pstop_NT1=None,
        stop_mask_NT1=torch.ones(n, T + 1, dtype=torch.bool),
        hidden_NT1H=torch.randn(n, T + 1, H, requires_grad=True),
        pooled_NH=torch.randn(n, H, requires_grad=True),
    )
    rollouts = Rollouts(
        problems=(Problem(id="p", prompt=""),),
        problem_index_B=torch.zeros(b, dtype=torch.int64),
        trajectory_index_N=torch.tensor(steps),
        steps=StepBatch(
            torch.zeros(n, 2, dtype=torch.int64),
            torch.ones(n, 2, dtype=torch.bool),
            torch.zeros(n, T, dtype=torch.int64),
            mask,
        ),
        completions=("",) * b,
        sources=("on_policy",) * b,
    )
    return scores, rollouts


HEADS = [
    (lambda **kw: LogZScalar(initial=kw["initial"]), (3,)),
    (LogZHead, (3,)),
    (lambda **kw: LogZHead(width=5, **kw), (3,)),
    (lambda **kw: LogZHead(pool=True, **kw), (3,)),
    (FlowHead, (3, T + 1)),
    (lambda **kw: FlowHead(width=5, **kw), (3, T + 1)),
    (ValueHead, (3, T + 1)),
    (lambda **kw: ValueHead(width=5, **kw), (3, T + 1)),
]


@pytest.mark.parametrize(("make", "shape"), HEADS)
def test_a_fresh_head_is_a_known_constant_and_trains(make: Any, shape: tuple[int, ...]) -> None:
    head = make(initial=-3.5)
    head.build(H)
    scores, rollouts = batch()
    value = head(scores, rollouts)
    assert value.shape == shape and (value == -3.5).all()
    per_prefix = {"value_BT1"} if isinstance(head, ValueHead) else {"log_f_BT1"}
    assert head.provides == (per_prefix if len(shape) == 2 else {"log_z_B"})
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (head(scores, rollouts) - torch.randn(shape)).square().sum().backward()
        assert all(parameter.grad is not None for parameter in head.parameters())
        optimizer.step()
    assert all(parameter.grad.any() for parameter in head.parameters())


@pytest.mark.parametrize("head_class", [LogZHead, FlowHead, ValueHead])
@pytest.mark.parametrize("detach", [True, False])
def test_detach_cuts_the_policy_off(head_class: Any, detach: bool) -> None:
    head = head_class(detach=detach)
    head.build(H)
    torch.nn.init.normal_(head.network[0].weight)
    scores, rollouts = batch()
    head(scores, rollouts).sum().backward()
    assert scores.hidden_NT1H is not None
    assert (scores.hidden_NT1H.grad is None) == detach


def test_log_z_is_read_at_the_prompt_of_the_first_step() -> None:
    head = LogZHead()
    head.build(H)
    torch.nn.init.normal_(head.network[0].weight)
    scores, rollouts = batch((0, 0, 1, 2, 2, 2))
    assert scores.hidden_NT1H is not None
    expected = head.network(scores.hidden_NT1H[[0, 2, 3], 0]).squeeze(-1)
    torch.testing.assert_close(head(scores, rollouts), expected)


@pytest.mark.parametrize("detach", [True, False])
def test_pooled_log_z_reads_the_mean_over_the_first_context(detach: bool) -> None:
    head = LogZHead(pool=True, detach=detach)
    head.build(H)
    torch.nn.init.normal_(head.network[0].weight)
    scores, rollouts = batch((0, 0, 1, 2, 2, 2))
    assert scores.pooled_NH is not None
    log_z = head(scores, rollouts)
    torch.testing.assert_close(log_z, head.network(scores.pooled_NH[[0, 2, 3]]).squeeze(-1))
    log_z.sum().backward()
    assert (scores.pooled_NH.grad is None) == detach


def test_prefix_heads_give_every_prefix_of_every_step() -> None:
    head = FlowHead()
    head.build(H)
    torch.nn.init.normal_(head.network[0].weight)
    scores, rollouts = batch((0, 0, 1))
    assert scores.hidden_NT1H is not None
    given = head(scores, rollouts)
    assert given.shape == (3, T + 1)
    for step in range(3):
        for t in range(T + 1):
            torch.testing.assert_close(given[step, t], head.network(scores.hidden_NT1H[step, t])[0])


@pytest.mark.parametrize(("make", "shape"), HEADS)
@pytest.mark.parametrize("how", ["autocast", "cast", "default_dtype"])
def test_heads_stay_float32_in_bfloat16_runs(make: Any, shape: tuple[int, ...], how: str) -> None:
    """-300.7 is -300 in bfloat16: there a loss of (log Z - target)² would never fall below 0.09 for a target of -300.3.

    bf16-mixed computes under autocast; bf16-true casts the module and makes new tensors in bfloat16.
    """
    try:
        torch.set_default_dtype(torch.bfloat16 if how == "default_dtype" else torch.float32)
        head = make(initial=-300.7)
        head.build(H)
    finally:
        torch.set_default_dtype(torch.float32)
    scores, rollouts = batch()
    if how == "cast":
        head = head.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
        value = head(scores, rollouts)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, torch.full(shape, -300.7), atol=1e-4, rtol=0)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=how == "autocast"):
            loss = (head(scores, rollouts) + 300.3).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.01


@pytest.mark.parametrize("head", [FlowHead(), LogZHead(), LogZHead(pool=True)])
def test_missing_inputs_are_named(head: Any) -> None:
    head.build(H)
    scores, rollouts = batch()
    with pytest.raises(ValueError, match="hidden=True"):
        head(Scores(scores.log_pf_NT, None, scores.stop_mask_NT1), rollouts)
