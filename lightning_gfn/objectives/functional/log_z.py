"""Estimates of the log partition function of a problem, for objectives whose log Z no head learns."""

from __future__ import annotations

import hashlib
from statistics import NormalDist
from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.objectives.functional.advantages import group_mean
from lightning_gfn.objectives.functional.checks import check_shapes

LogZ = Literal["learned", "group_mean", "vargrad", "noise"]
LOG_Z: tuple[LogZ, ...] = ("learned", "group_mean", "vargrad", "noise")
NOISE = NormalDist(0.5, 1.0)


def estimated_log_z(
    log_pf_B: Tensor, ref_log_pf_B: Tensor, length_B: Tensor, target_B: Tensor, weight_B: Tensor, group_B: Tensor
) -> Tensor:
    """The log Z of each group that makes its weighted squared residuals smallest.

        log Z = Σ_group w (β r - log(q / q_ref) / l) / Σ_group w

    Where q is the policy that is trained, the weighted residuals of a group then sum to 0, so that leaving this mean
    without gradient changes no gradient: VarGrad.

    Args:
        log_pf_B: (B,) log q of whole trajectories, nats.
        ref_log_pf_B: (B,) the same under the reference, nats.
        length_B: (B,) divisor of log-probabilities.
        target_B: (B,) β r, nats.
        weight_B: (B,) weights w ≥ 0.
        group_B: (B,) int64, arbitrary ids.

    Returns:
        (B,) without gradient, nats.

    Raises:
        ValueError: names the argument whose shape is wrong.
    """
    check_shapes(target_B=(target_B, tuple(log_pf_B.shape)), group_B=(group_B, tuple(log_pf_B.shape)))
    partition_B = target_B - (log_pf_B - ref_log_pf_B) / length_B
    total_B, _ = group_mean(weight_B, group_B)
    weighted_B, _ = group_mean(weight_B * partition_B, group_B)
    return (weighted_B / total_B.clamp_min(torch.finfo(total_B.dtype).tiny)).detach()


def noise_log_z(length_B: Tensor, group_B: Tensor) -> Tensor:
    """A draw of N(0.5, 1) for each group, in place of log Z: the control that knows nothing of the problem.

        log Z = Φ⁻¹(u) + 0.5,    u = blake2b(lengths of the group's trajectories in order)

    Two visits of a problem share a draw only where all lengths agree. The same samples draw the same, so a resumed run
    repeats what an unbroken one does, on any number of ranks, and no generator is touched.

    Args:
        length_B: (B,) int64, number of actions of each trajectory.
        group_B: (B,) int64, arbitrary ids.

    Returns:
        (B,) float32, one value a group, nats.

    Raises:
        ValueError: names the argument whose shape is wrong.

    Source: the noise control of GFlowRL, arXiv:2607.13394.
    """
    check_shapes(group_B=(group_B, tuple(length_B.shape)))
    lengths: dict[int, list[int]] = {}
    groups = group_B.tolist()
    for group, length in zip(groups, length_B.tolist(), strict=True):
        lengths.setdefault(group, []).append(length)
    draws = {group: NOISE.inv_cdf(_uniform(members)) for group, members in lengths.items()}
    return torch.tensor([draws[group] for group in groups], device=length_B.device)


def _uniform(lengths: list[int]) -> float:
    digest = hashlib.blake2b(repr(lengths).encode(), digest_size=8, person=b"log Z noise").digest()
    return ((int.from_bytes(digest, "little") >> 12) + 0.5) / 2.0**52
