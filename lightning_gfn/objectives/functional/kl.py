"""Estimators of KL(q ‖ q_ref) from the log-probabilities of actions that q sampled."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.objectives.functional.checks import check_choice, check_shapes

KLEstimator = Literal["k1", "k2", "k3"]
ESTIMATORS = ("k1", "k2", "k3")


def kl_estimate(log_pf: Tensor, ref_log_pf: Tensor, estimator: KLEstimator) -> Tensor:
    """KL from one sample, with d = log q - log q_ref.

        k1 = d                     k2 = d² / 2                     k3 = exp(-d) - 1 + d

    Under q, k1 and k3 have mean KL(q ‖ q_ref); k3 is never negative, k2 neither but biased. As a *loss* on samples of q
    they differ: E[∇k1] = 0, E[∇k2] = ∇KL(q ‖ q_ref), E[∇k3] = ∇KL(q_ref ‖ q).

    Args:
        log_pf: log q of actions, any shape, nats; gradient flows.
        ref_log_pf: log q_ref of the same, nats; constant.
        estimator: which.

    Returns:
        The estimates, shaped as ``log_pf``, nats.

    Raises:
        ValueError: if the shapes differ or there is no such estimator.

    Source: Schulman 2020, "Approximating KL divergence"; k3 as a loss Shao et al. 2024, arXiv:2402.03300, equation 4.
    """
    check_choice("estimator", estimator, ESTIMATORS)
    check_shapes(ref_log_pf=(ref_log_pf, tuple(log_pf.shape)))
    difference = log_pf - ref_log_pf.detach()
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return 0.5 * difference.square()
    return torch.expm1(-difference) + difference
