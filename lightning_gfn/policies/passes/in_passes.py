"""Functions of the rows of a batch, computed pass by pass: exact values and gradients, the activations of one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.types import SampledActions, Scores, StepBatch

RowValues = Mapping[str, Tensor | None]
"""Tensors with one row a step, by names with their shape: ``_N…``, ``_NT…`` or ``_NT1…``."""
RowFunction = Callable[[StepBatch, Tensor], RowValues]
"""Steps and their indices in the batch (n,) to values by name."""


def in_passes(
    function: RowFunction,
    steps: StepBatch,
    budget: PassBudget,
    *,
    shares_prompts: bool = False,
) -> dict[str, Tensor | None]:
    """The values of a function of rows, as one call with all rows gives them.

    With gradient every pass but the last keeps nothing but its values; the backward pass computes its activations again
    when it comes to it. A loss may join any rows: its gradient with respect to the values is known before the first
    pass is computed again.

    Args:
        function: steps and their indices in the batch (n,) to values by name; rows must not depend on each other.
        steps: contexts and actions of N rows.
        budget: limits of a pass.
        shares_prompts: the function reads equal contexts once, so that their rows should share a pass.

    Returns:
        values of all rows in order; beyond the width of their pass 0 or False.
    """
    rows_N = torch.arange(steps.num_steps, device=steps.action_ids_NT.device)
    if not budget.limits_scoring:
        return dict(function(steps, rows_N))
    prompts = steps.context_ids_NC.unique(dim=0, return_inverse=True)[1].tolist() if shares_prompts else None
    passes = budget.scoring_passes(steps.context_mask_NC.sum(1).tolist(), steps.lengths_N.tolist(), prompts)
    if len(passes) == 1:
        return dict(function(steps, rows_N))
    parts: list[RowValues] = []
    for number, chosen in enumerate(passes, start=1):
        index = torch.tensor(chosen, device=rows_N.device)
        is_repeated = torch.is_grad_enabled() and number < len(passes)
        run = partial(checkpoint, function, use_reentrant=False) if is_repeated else function
        parts.append(run(steps.select(index).trimmed(), index))
    return joined(parts, passes, steps.action_ids_NT.shape[1])


def joined(parts: Sequence[RowValues], passes: Sequence[Sequence[int]], width: int) -> dict[str, Tensor | None]:
    """The values of all rows in order.

    Args:
        parts: values of each pass.
        passes: rows of each pass.
        width: T of the whole batch.
    """
    order = torch.tensor([n for chosen in passes for n in chosen]).argsort()
    whole: dict[str, Tensor | None] = {}
    for name, first in parts[0].items():
        found = [widened(name, value, width) for part in parts if (value := part[name]) is not None]
        whole[name] = None if first is None else torch.cat(found).index_select(0, order.to(first.device))
    return whole


def widened(name: str, values: Tensor, width: int) -> Tensor:
    """Values per token or per prefix, filled up with 0 to T or T + 1 columns; others as they are."""
    shape = name.rsplit("_", 1)[1]
    if not shape.startswith("NT"):
        return values
    missing = width + shape.startswith("NT1") - values.shape[1]
    return pad(values, (0, 0) * (values.ndim - 2) + (0, missing))


def sampled_in_passes(
    sample: Callable[[list[int]], SampledActions], passes: Sequence[list[int]], pad_id: int
) -> SampledActions:
    """Actions sampled pass by pass, as one call gives them.

    Args:
        sample: samples the rows at these indices.
        passes: rows of each pass.
        pad_id: filler.
    """
    if len(passes) == 1:
        return sample(sorted(passes[0]))
    parts = [vars(drawn) | vars(drawn.scores) for drawn in map(sample, passes)]
    given = [{name: value for name, value in part.items() if not isinstance(value, Scores)} for part in parts]
    whole = joined(given, passes, max(part["action_ids_NT"].shape[1] for part in parts))
    scores = Scores(**{name: whole.pop(name) for name in vars(parts[0]["scores"])})  # type: ignore[arg-type]
    ids_NT, mask_NT = whole.pop("action_ids_NT"), whole.pop("action_mask_NT")
    assert ids_NT is not None and mask_NT is not None
    filled_NT = torch.where(mask_NT, ids_NT, pad_id)
    return SampledActions(filled_NT, mask_NT, scores, **whole)  # type: ignore[arg-type]
