"""Trajectory balance with a learned log partition function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.checks import check_shapes
from lightning_gfn.types import LossOutput


def tb_loss(log_pf_B: Tensor, log_z_B: Tensor, log_reward_B: Tensor) -> LossOutput:
    """Squared trajectory-balance residual, averaged over trajectories.

        loss = mean_b (log Z_b + log q(z_b) - log R(z_b))²

    A completion has one order of construction, so the backward policy is 1.

    Args:
        log_pf_B: (B,) log q of the whole trajectory, final stop included, nats; gradient flows.
        log_z_B: (B,) learned log partition function of each trajectory's problem, nats; gradient flows.
        log_reward_B: (B,) log reward, tempered, nats; constant.

    Returns:
        Sum of squared residuals over B; diagnostics ``residual_mean``, ``residual_std``, ``log_z_mean`` (learned) and
        ``log_z_estimate`` (mean of log R - log q, a lower bound of log Z on average over on-policy samples).

    Raises:
        ValueError: names the argument whose shape is wrong.

    Source: Malkin et al. 2022, arXiv:2201.13259.
    """
    check_shapes(
        log_pf_B=(log_pf_B, (log_pf_B.numel(),)),
        log_z_B=(log_z_B, tuple(log_pf_B.shape)),
        log_reward_B=(log_reward_B, tuple(log_pf_B.shape)),
    )
    gap_B = log_reward_B.detach() - log_pf_B
    residual_B = log_z_B - gap_B
    detached_B = residual_B.detach()
    return LossOutput(
        sum=residual_B.square().sum(),
        weight=detached_B.new_tensor(float(detached_B.numel())),
        diagnostics={
            "residual_mean": detached_B.mean(),
            "residual_std": detached_B.std(correction=0),
            "log_z_mean": log_z_B.detach().mean(),
            "log_z_estimate": gap_B.detach().mean(),
        },
    )


@dataclass(frozen=True)
class TrajectoryBalance(Objective):
    """Trajectory balance; needs a log Z head (a scalar, or a linear map of the prompt) with its own learning rate.

    Source: Malkin et al. 2022, arXiv:2201.13259.
    """

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return frozenset({"log_pf_B", "log_z_B", "log_reward_B"})

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        return tb_loss(columns["log_pf_B"], columns["log_z_B"], columns["log_reward_B"])
