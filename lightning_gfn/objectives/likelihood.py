"""Maximum likelihood of given completions: supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.stop_action import append_stop
from lightning_gfn.types import LossOutput


def likelihood_loss(log_pf_BT: Tensor, log_pstop_BT1: Tensor, mask_BT: Tensor, forced_stop_B: Tensor) -> LossOutput:
    """Negative log-likelihood per action, the final stop being one action.

        loss = -Σ_b [ Σ_{t<=n_b} log q(z_t | z_<t) + log q(stop | z) ] / Σ_b (n_b + 1)

    A stop that the maximum length forces is not counted.

    Args:
        log_pf_BT: (B, T) log q(token | prefix), nats; gradient flows.
        log_pstop_BT1: (B, T + 1) log q(stop | prefix), nats; read at the last prefix alone; gradient flows.
        mask_BT: (B, T) bool, True on action tokens, padded on the right.
        forced_stop_B: (B,) bool, True where the maximum length forced the stop.

    Returns:
        Sum over actions, weighted by their number; diagnostics ``nll_per_completion`` (nats) and ``perplexity`` (per
        action).

    Raises:
        ValueError: names the argument whose shape or dtype is wrong.
    """
    log_pf_BT1, actions_BT1 = append_stop(log_pf_BT, log_pstop_BT1, mask_BT, forced_stop_B)
    total = -log_pf_BT1.sum()
    weight = actions_BT1.sum().to(total.dtype)
    return LossOutput(
        sum=total,
        weight=weight,
        diagnostics={
            "nll_per_completion": total.detach() / max(1, log_pf_BT.shape[0]),
            "perplexity": (total.detach() / weight.clamp_min(1.0)).exp(),
        },
    )


@dataclass(frozen=True)
class Likelihood(Objective):
    """Token mean of the negative log-likelihood of given completions, their stop included."""

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return frozenset({"log_pf_BT", "log_pstop_BT1", "mask_BT", "forced_stop_B"})

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        return likelihood_loss(
            columns["log_pf_BT"], columns["log_pstop_BT1"], columns["mask_BT"], columns["forced_stop_B"]
        )
