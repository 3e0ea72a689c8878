"""Clipped importance weights instead of clipped updates (CISPO)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lightning_gfn.objectives.surrogates.base import ActionTerms, Surrogate


@dataclass(frozen=True)
class Cispo(Surrogate):
    """CISPO: a policy gradient whose importance weight is clipped, so that no action loses its gradient.

        l = -sg[ clip(ρ, 1 - clip_low, 1 + clip_high) ] A log q

    The objective's ``clip_low`` and ``clip_high`` bound the weight; ``clip_low`` 1 is no lower bound, the paper's
    choice. With one update a rollout batch ρ is 1 and this is the plain policy gradient. ``clip_fraction`` is the share
    of actions whose weight is clipped.

    Source: MiniMax 2025 (MiniMax-M1), arXiv:2506.13585, section 3.
    """

    def __call__(self, terms: ActionTerms) -> tuple[Tensor, Tensor]:
        """See ``Surrogate.__call__``."""
        ratio_BT = terms.log_ratio_BT.detach().exp()
        weight_BT = ratio_BT.clamp(1.0 - terms.clip_low, 1.0 + terms.clip_high)
        return -weight_BT * terms.advantage_BT * terms.log_pf_BT, weight_BT != ratio_BT
