"""VarGrad: trajectory balance at the best log Z of each problem, with nothing learned beside the policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.advantages import group_mean
from lightning_gfn.objectives.functional.checks import check_shapes
from lightning_gfn.types import LossOutput


def vargrad_loss(log_pf_B: Tensor, log_reward_B: Tensor, group_B: Tensor) -> LossOutput:
    """Population variance of log q - log R within each problem, averaged over trajectories.

        loss = mean_b (ζ_b - mean_{group of b} ζ)²,    ζ = log q(z) - log R(z)

    It is the trajectory-balance loss with log Z replaced by its minimiser, mean(log R - log q) of the group. Detaching
    that mean changes no gradient, since the residuals of a group sum to 0. A group of one gives 0, with a graph.

    Args:
        log_pf_B: (B,) log q of the whole trajectory, final stop included, nats; gradient flows.
        log_reward_B: (B,) log reward, tempered, nats; constant.
        group_B: (B,) int64, the problem of each trajectory; arbitrary ids.

    Returns:
        Sum of squared deviations over B; diagnostics ``residual_std``, ``log_z_estimate`` (mean of log R - log q) and
        ``group_size_mean``.

    Raises:
        ValueError: names the argument whose shape is wrong.

    Source: Zhang et al. 2023, arXiv:2302.05446; Richter et al. 2020, arXiv:2010.10436.
    """
    check_shapes(
        log_pf_B=(log_pf_B, (log_pf_B.numel(),)),
        log_reward_B=(log_reward_B, tuple(log_pf_B.shape)),
        group_B=(group_B, tuple(log_pf_B.shape)),
    )
    gap_B = log_reward_B.detach() - log_pf_B
    log_z_B, size_B = group_mean(gap_B, group_B)
    residual_B = log_z_B - gap_B
    total = residual_B.square().sum()
    weight = size_B.new_tensor(float(size_B.numel()))
    return LossOutput(
        sum=total,
        weight=weight,
        diagnostics={
            "residual_std": (total.detach() / weight.clamp_min(1.0)).sqrt(),
            "log_z_estimate": gap_B.detach().mean(),
            "group_size_mean": size_B.mean(),
        },
    )


@dataclass(frozen=True)
class VarGrad(Objective):
    """VarGrad over the trajectories of each problem; needs only terminal rewards and at least two samples per problem.

    Source: Zhang et al. 2023, arXiv:2302.05446.
    """

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return frozenset({"log_pf_B", "log_reward_B", "group_B"})

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        return vargrad_loss(columns["log_pf_B"], columns["log_reward_B"], columns["group_B"])
