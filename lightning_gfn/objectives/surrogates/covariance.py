"""Actions whose log-probability and advantage go together most are held back, since they are what ends entropy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gfn.objectives.functional.checks import check_positive
from lightning_gfn.objectives.functional.clipped_surrogate import clipped_surrogate
from lightning_gfn.objectives.functional.potentials import masked
from lightning_gfn.objectives.surrogates.base import ActionTerms, Surrogate


def covariances(log_pf_BT: Tensor, advantage_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Each action's part of the covariance of log-probability and advantage over the actions of the batch.

        Cov_bt = (log q_bt - mean log q) (A_b - mean A)

    Args:
        log_pf_BT: (B, T) nats.
        advantage_BT: (B, T).
        mask_BT: (B, T) bool, True on actions that count.

    Returns:
        (B, T), without gradient; arbitrary where the mask is False.

    Source: Cui et al. 2025, arXiv:2505.22617, section 4 (the token-wise centred product).
    """
    count = mask_BT.sum().clamp_min(1)
    log_pf_BT, advantage_BT = masked(log_pf_BT.detach(), mask_BT), masked(advantage_BT, mask_BT)
    return (log_pf_BT - log_pf_BT.sum() / count) * (advantage_BT - advantage_BT.sum() / count)


def num_chosen(share: float, mask_BT: Tensor) -> int:
    """A share of the actions, at least one."""
    return max(1, int(share * int(mask_BT.sum())))


def content_seed(values_M: Tensor) -> int:
    """A seed that numbers fix: equal for equal numbers, so that a resumed run draws what the straight one drew."""
    bits_M = values_M.detach().to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    return int(bits_M.sum()) % 2**63


@dataclass(frozen=True)
class ClipCov(Surrogate):
    """Clip-Cov: the clipped surrogate, less a few actions of high covariance, drawn at random.

        l_bt = 0                                                    for the drawn ones
        l_bt = -min(ρ A, clip(ρ, 1 - clip_low, 1 + clip_high) A)    for all others

    drawn without replacement from the actions with low < Cov_bt < high whose gradient is not clipped already. The draw
    depends on the log-probabilities of the batch alone.

    Args:
        share: drawn actions, as a share of all actions of the batch; at least one action.
        low: covariances from here on are drawn from, nats.
        high: up to here.

    Source: Cui et al. 2025, arXiv:2505.22617, section 4 (share 2e-4). That the loss of drawn actions is 0, that clipped
    actions are not drawn, that at least one is, and the bounds 1 and 5 are the released code's (verl, ``clip_cov``).
    """

    share: float = 2e-4
    low: float = 1.0
    high: float = 5.0

    def __post_init__(self) -> None:
        _check_share(self.share)
        if not self.low < self.high:
            raise ValueError(f"surrogate.low is {self.low} and surrogate.high {self.high}: low must be below high")

    def __call__(self, terms: ActionTerms) -> tuple[Tensor, Tensor]:
        """See ``Surrogate.__call__``."""
        mask_BT = terms.mask_BT
        loss_BT, removed_BT = clipped_surrogate(terms.log_ratio_BT, terms.advantage_BT, terms.clip_low, terms.clip_high)
        covariance_BT = covariances(terms.log_pf_BT, terms.advantage_BT, mask_BT)
        in_band_BT = (covariance_BT > self.low) & (covariance_BT < self.high) & mask_BT & ~removed_BT
        rows_M, places_M = in_band_BT.nonzero(as_tuple=True)
        generator = torch.Generator().manual_seed(content_seed(terms.log_pf_BT[mask_BT]))
        order_M = torch.randperm(len(rows_M), generator=generator)[: num_chosen(self.share, mask_BT)]
        drawn_BT = torch.zeros_like(mask_BT)
        drawn_BT[rows_M[order_M.to(rows_M.device)], places_M[order_M.to(rows_M.device)]] = True
        return torch.where(drawn_BT, 0.0, loss_BT), removed_BT | drawn_BT


@dataclass(frozen=True)
class KLCov(Surrogate):
    """KL-Cov: the unclipped surrogate, with a penalty on moving the actions of the highest covariance.

        l_bt = -ρ A + β |log ρ|    for the actions of the highest Cov_bt
        l_bt = -ρ A                for all others

    The penalty acts from the second update on a rollout batch on: at ρ = 1 its gradient is 0. The objective's clipping
    range is not used. ``clip_fraction`` is the share of penalised actions.

    Args:
        share: penalised actions, as a share of all actions of the batch; at least one action.
        coefficient: β.

    Source: Cui et al. 2025, arXiv:2505.22617, section 4 (β = 1; shares 2e-3 to 2e-4); |log ρ| as the estimator of the
    divergence from the old policy, and that at least one action is penalised, are the released code's (verl,
    ``kl_cov``).
    """

    share: float = 2e-4
    coefficient: float = 1.0

    def __post_init__(self) -> None:
        _check_share(self.share)
        check_positive(**{"surrogate.coefficient": self.coefficient})

    def __call__(self, terms: ActionTerms) -> tuple[Tensor, Tensor]:
        """See ``Surrogate.__call__``."""
        mask_BT, log_ratio_BT = terms.mask_BT, terms.log_ratio_BT
        covariance_BT = covariances(terms.log_pf_BT, terms.advantage_BT, mask_BT)
        # Rows of equal covariance are told apart by their place among the actions, however wide the padding is.
        chosen_M = covariance_BT[mask_BT].argsort(descending=True, stable=True)[: num_chosen(self.share, mask_BT)]
        rows_M, places_M = mask_BT.nonzero(as_tuple=True)
        highest_BT = torch.zeros_like(mask_BT)
        highest_BT[rows_M[chosen_M], places_M[chosen_M]] = True
        penalty_BT = torch.where(highest_BT, self.coefficient * log_ratio_BT.abs(), 0.0)
        return penalty_BT - log_ratio_BT.exp() * terms.advantage_BT, highest_BT


def _check_share(share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise ValueError(f"surrogate.share is {share}, expected above 0 and at most 1")
