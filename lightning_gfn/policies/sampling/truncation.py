"""The behaviour distribution: q at a temperature, cut to top-k and top-p."""

from __future__ import annotations

import torch
from torch import Tensor

CANDIDATES = (256, 4096)
"""Numbers of most probable actions among which a nucleus is looked for."""
SORT_SHARE = 4
"""Beyond this part of the vocabulary (one in so many), sorting is faster than selecting."""


def check_behaviour(temperature_N: Tensor | None, top_k: int | None, top_p: float | None) -> None:
    """Refuse behaviour settings that define no distribution.

    Raises:
        ValueError: naming the setting and what to use instead.
    """
    if temperature_N is not None and not bool((temperature_N > 0).all()):
        raise ValueError("temperature must be above 0; for greedy decoding use top_k=1")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1; leave it out to keep every action")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must lie in (0, 1]; leave it out to keep every action")


def behaviour_logits(
    action_logits_RV: Tensor, temperature_R1: Tensor | None, top_k: int | None, top_p: float | None
) -> Tensor:
    """Logits of the behaviour distribution: q sharpened by a temperature, then cut to top-k, then to top-p.

    Top-k keeps every action that ties with the k-th; top-p keeps the smallest set of most probable actions whose mass
    reaches p. Stop counts as one action.

    Args:
        action_logits_RV: logits of q as ``ActionSpace.restrict_`` leaves them.
        temperature_R1: (R, 1), above 0; None for 1.
        top_k: number of actions to keep.
        top_p: probability mass to keep.

    Returns:
        (R, V) logits, -inf at actions that are cut.
    """
    logits_RV = action_logits_RV if temperature_R1 is None else action_logits_RV / temperature_R1
    if top_k is not None and top_k < logits_RV.shape[1]:
        kth_R1 = logits_RV.topk(top_k, dim=1).values[:, -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < kth_R1, -torch.inf)
    if top_p is not None and top_p < 1:
        logits_RV = logits_RV.masked_fill(~nucleus(logits_RV, top_p), -torch.inf)
    return logits_RV


def nucleus(logits_RV: Tensor, top_p: float) -> Tensor:
    """The smallest set of most probable actions whose mass reaches p; of equal ones the first come first.

    The vocabulary is not sorted: few actions usually hold the mass, and the largest are found by selection, more of
    them for rows that need more. An accelerator sorts at once, since to look at the mass it would have to wait.

    Args:
        logits_RV: logits of the behaviour.
        top_p: p, below 1.

    Returns:
        (R, V) bool.
    """
    largest_R1 = logits_RV.amax(1, keepdim=True)
    total_R1 = (logits_RV - largest_R1).exp_().sum(1, keepdim=True, dtype=torch.float64)
    num_rows, vocab_size = logits_RV.shape
    cut_R1, kept_R1 = torch.empty_like(largest_R1), torch.zeros_like(largest_R1, dtype=torch.int64)
    waiting = torch.arange(num_rows, device=logits_RV.device)
    sizes = CANDIDATES if logits_RV.device.type == "cpu" else ()
    for size in (*(size for size in sizes if size * SORT_SHARE < vocab_size), vocab_size):
        rows_RV = logits_RV if len(waiting) == num_rows else logits_RV[waiting]
        best_RK = (rows_RV.topk(size, dim=1) if size < vocab_size else rows_RV.sort(1, descending=True)).values
        mass_RK = (best_RK.double() - largest_R1[waiting]).exp_() / total_R1[waiting]
        before_RK = mass_RK.cumsum(1) - mass_RK
        kept_R1[waiting] = (before_RK < top_p).sum(1, keepdim=True).clamp_min_(1)
        cut_R1[waiting] = best_RK.gather(1, kept_R1[waiting] - 1)
        waiting = waiting[before_RK[:, -1] < top_p]
        if not len(waiting):
            break
    inside_RV = logits_RV >= cut_R1
    tied_R = (inside_RV.sum(1) > kept_R1[:, 0]).nonzero()[:, 0]
    for row in tied_R.tolist():
        tied = (logits_RV[row] == cut_R1[row]).nonzero()[:, 0]
        inside_RV[row, tied[len(tied) - (inside_RV[row].sum() - kept_R1[row, 0]) :]] = False
    return inside_RV
