"""Passes of a model whose weights are cut over processes: as many on each process, whatever its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lightning_gfn.policies.passes.in_passes import RowFunction, RowValues, joined
from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.types import StepBatch


def in_equal_passes(
    function: RowFunction,
    steps: StepBatch,
    budget: PassBudget,
    most: Callable[[int], int],
    enter: Callable[[Callable[[], RowValues]], RowValues],
) -> dict[str, Tensor | None]:
    """``in_passes`` with as many passes, forward and backward, as the process with the longest rows takes.

    A process with fewer reads its first row again, to no effect. Of several passes each keeps nothing but its values,
    and has a backward pass of its own, which computes its activations again: weights are gathered and gradients summed
    over processes once a pass.

    Args:
        function: steps and their indices in the batch (n,) to values by name; rows must not depend on each other.
        steps: contexts and actions of N rows.
        budget: limits of a pass.
        most: the largest of the numbers that the processes give.
        enter: runs a function with the weights gathered that no layer holds.

    Returns:
        values of all rows in order; beyond the width of their pass 0 or False.
    """
    rows_N = torch.arange(steps.num_steps, device=steps.action_ids_NT.device)
    passes, number = [rows_N.tolist()], 1
    if budget.limits_scoring:
        passes = budget.scoring_passes(steps.context_mask_NC.sum(1).tolist(), steps.lengths_N.tolist())
        number = most(len(passes))

    def one_pass(part: StepBatch, index: Tensor) -> RowValues:
        return enter(partial(function, part, index))

    if number == 1:
        return dict(one_pass(steps, rows_N))
    parts: list[RowValues] = []
    for chosen in (*passes, *[passes[0][:1]] * (number - len(passes))):
        index = torch.tensor(chosen, device=rows_N.device)
        parts.append(computed_again(partial(one_pass, steps.select(index).trimmed(), index)))
    found = joined(parts[: len(passes)], passes, steps.action_ids_NT.shape[1])
    return with_idle(found, parts[len(passes) :])


def computed_again(function: Callable[[], RowValues]) -> RowValues:
    """The values of a pass without its graph; with gradient, it runs again in the backward pass."""
    if not torch.is_grad_enabled():
        return function()
    names: list[str] = []

    def values(anchor: Tensor) -> tuple[Tensor | None, ...]:
        found = function()
        names[:] = found
        return tuple(found.values())

    anchor = torch.zeros((), requires_grad=True)  # something that asks for a gradient, as no parameter is an argument
    found = checkpoint(values, anchor, use_reentrant=True)
    return dict(zip(names, found, strict=True))


def with_idle(found: dict[str, Tensor | None], idle: Sequence[RowValues]) -> dict[str, Tensor | None]:
    """The same values, whose backward pass reaches the idle passes too, with gradient 0."""
    values = [v for part in idle for v in part.values() if v is not None and v.requires_grad]
    if not values:
        return found
    nothing = torch.stack([v.masked_fill(torch.ones_like(v, dtype=torch.bool), 0.0).sum() for v in values]).sum()
    live = next(name for name, value in found.items() if value is not None and value.requires_grad)
    return {**found, live: found[live] + nothing}  # type: ignore[operator]
