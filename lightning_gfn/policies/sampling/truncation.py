"""The behaviour distribution: q at a temperature, cut to top-k and top-p."""

from __future__ import annotations

import torch
from torch import Tensor


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
        sorted_RV, order_RV = logits_RV.sort(dim=1, descending=True, stable=True)
        probability_RV = sorted_RV.softmax(1, dtype=torch.float64)
        cut_RV = probability_RV.cumsum(1) - probability_RV >= top_p
        logits_RV = logits_RV.masked_fill(torch.zeros_like(cut_RV).scatter_(1, order_RV, cut_RV), -torch.inf)
    return logits_RV
