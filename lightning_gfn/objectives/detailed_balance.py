"""Detailed balance: one residual per transition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.checks import Reduction, check_choice
from lightning_gfn.objectives.functional.pairs import consecutive_sums, reduce_pairs
from lightning_gfn.objectives.functional.potentials import flow_potentials, stop_potentials
from lightning_gfn.objectives.subtb import FLOW_COLUMNS, PREFIX_MASKS, Level, state_mask
from lightning_gfn.types import LossOutput


def detailed_balance_loss(
    log_pf_BT: Tensor,
    log_pstop_BT1: Tensor,
    log_f_BT1: Tensor,
    log_reward_B: Tensor,
    mask_BT: Tensor,
    *,
    prefix_mask_BT1: Tensor | None = None,
    reduction: Reduction = "mean",
) -> LossOutput:
    """Squared detailed-balance residual of every transition, with a learned state flow F.

        residual_i = log F(z_1:i) + log q(z_{i+1} | z_1:i) - log F(z_1:i+1)        for i = 0..n - 1
        residual_n = log F(z_1:n) + log q(stop | z_1:n) - log R(z)

    Args:
        log_pf_BT: (B, T) log q(token | prefix), nats; gradient flows.
        log_pstop_BT1: (B, T + 1) log q(stop | prefix), nats; read at the last prefix alone; gradient flows.
        log_f_BT1: (B, T + 1) learned log state flow of each prefix, nats; gradient flows.
        log_reward_B: (B,) log reward of the finished trajectory, tempered, nats; constant.
        mask_BT: (B, T) bool, True on action tokens, padded on the right.
        prefix_mask_BT1: (B, T + 1) bool, False on prefixes that are no states; a transition then spans the tokens
            between two states. None takes all.
        reduction: ``mean`` over the transitions of the batch, or ``sum`` over them, divided by the number of
            trajectories.

    Returns:
        The loss; diagnostics ``residual_rms`` (over transitions, nats) and ``log_z_mean`` (mean of log F(∅), nats).

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Bengio et al. 2023, arXiv:2111.09266.
    """
    check_choice("reduction", reduction, ("mean", "sum"))
    potential_BT2, valid_BT2 = flow_potentials(
        log_pf_BT, log_pstop_BT1, log_f_BT1, log_reward_B, mask_BT, prefix_mask_BT1
    )
    sum_B, number_B = consecutive_sums(potential_BT2, valid_BT2)
    total, weight = reduce_pairs(sum_B, number_B, reduction)
    return LossOutput(
        sum=total,
        weight=weight,
        diagnostics={
            "residual_rms": (total.detach() / number_B.sum().clamp_min(1.0)).sqrt(),
            "log_z_mean": log_f_BT1.detach()[:, 0].mean(),
        },
    )


def modified_detailed_balance_loss(
    log_pf_BT: Tensor,
    log_pstop_BT1: Tensor,
    log_reward_BT1: Tensor,
    mask_BT: Tensor,
    *,
    prefix_mask_BT1: Tensor | None = None,
    reduction: Reduction = "mean",
) -> LossOutput:
    """Squared residual between each prefix and the one before it, the state flow being R / q(stop).

        g_i  = log q(z_1:i) + log q(stop | z_1:i) - log R(z_1:i, stop)
        mean = Σ_i (g_{i+1} - g_i)² / number of transitions in the batch

    Where a prefix mask leaves prefixes out, a transition leads from one allowed prefix to the next allowed one, over
    the tokens between them. Without gaps it is the modified SubTB loss at λ → 0.

    Args:
        log_pf_BT: (B, T) log q(token | prefix), nats; gradient flows.
        log_pstop_BT1: (B, T + 1) log q(stop | prefix) of each prefix, 0 where the stop is forced, nats; gradient flows.
        log_reward_BT1: (B, T + 1) log reward of stopping at each prefix, tempered, nats; constant.
        mask_BT: (B, T) bool, True on action tokens, padded on the right; prefixes beyond them are ignored.
        prefix_mask_BT1: (B, T + 1) bool, False on prefixes that may not stop. None allows all.
        reduction: ``mean`` over the transitions of the batch, or ``sum`` over them, divided by the number of
            trajectories.

    Returns:
        The loss; diagnostic ``residual_rms`` (over transitions, nats).

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Deleu et al. 2022, arXiv:2202.13903; Hu et al. 2024, arXiv:2310.04363, equation 3.
    """
    check_choice("reduction", reduction, ("mean", "sum"))
    potential_BT1, valid_BT1 = stop_potentials(log_pf_BT, log_pstop_BT1, log_reward_BT1, mask_BT, prefix_mask_BT1)
    sum_B, number_B = consecutive_sums(potential_BT1, valid_BT1)
    total, weight = reduce_pairs(sum_B, number_B, reduction)
    rms = (total.detach() / number_B.sum().clamp_min(1.0)).sqrt()
    return LossOutput(sum=total, weight=weight, diagnostics={"residual_rms": rms})


@dataclass(frozen=True)
class DetailedBalance(Objective):
    """Detailed balance with a learned state flow; needs a flow head and only terminal rewards.

    Args:
        level: states are all prefixes (``token``), or the beginnings of reasoning steps, for proofs the states between
            tactics (``step``).
        reduction: ``mean`` over transitions, or ``sum`` over them per trajectory.

    Source: Bengio et al. 2023, arXiv:2111.09266.
    """

    level: Level = field(default="token", kw_only=True)
    reduction: Reduction = field(default="mean", kw_only=True)

    def __post_init__(self) -> None:
        check_choice("level", self.level, tuple(PREFIX_MASKS))
        check_choice("reduction", self.reduction, ("mean", "sum"))

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return FLOW_COLUMNS | ({"step_mask_BT1"} if self.level == "step" else frozenset())

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        return detailed_balance_loss(
            columns["log_pf_BT"],
            columns["log_pstop_BT1"],
            columns["log_f_BT1"],
            columns["log_reward_B"],
            columns["mask_BT"],
            prefix_mask_BT1=state_mask(columns, self.level),
            reduction=self.reduction,
        )


@dataclass(frozen=True)
class ModifiedDetailedBalance(Objective):
    """Detailed balance with the state flow R / q(stop); needs a reward with prefix values.

    Args:
        level: transitions between all prefixes that may stop (``token``), or between ends of reasoning steps
            (``step``).
        reduction: ``mean`` over transitions, or ``sum`` over them per trajectory.

    Source: Deleu et al. 2022, arXiv:2202.13903.
    """

    level: Level = field(default="token", kw_only=True)
    reduction: Reduction = field(default="mean", kw_only=True)

    def __post_init__(self) -> None:
        check_choice("level", self.level, tuple(PREFIX_MASKS))
        check_choice("reduction", self.reduction, ("mean", "sum"))

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return frozenset({"log_pf_BT", "log_pstop_BT1", "log_reward_BT1", "mask_BT", PREFIX_MASKS[self.level]})

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        return modified_detailed_balance_loss(
            columns["log_pf_BT"],
            columns["log_pstop_BT1"],
            columns["log_reward_BT1"],
            columns["mask_BT"],
            prefix_mask_BT1=columns[PREFIX_MASKS[self.level]],
            reduction=self.reduction,
        )
