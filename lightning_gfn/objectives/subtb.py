"""Sub-trajectory balance: with a learned state flow, and in the form without one that language models allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.checks import Reduction, check_choice, check_lam
from lightning_gfn.objectives.functional.pairs import group_pair_sums, pair_sums, reduce_pairs
from lightning_gfn.objectives.functional.potentials import flow_potentials, stop_potentials
from lightning_gfn.types import LossOutput

Level = Literal["token", "step"]
Pairs = Literal["trajectory", "problem"]
PREFIX_MASKS: Mapping[str, str] = {"token": "stop_mask_BT1", "step": "step_mask_BT1"}
FLOW_COLUMNS = frozenset({"log_pf_BT", "log_pstop_BT1", "log_f_BT1", "log_reward_B", "mask_BT"})


def check_pairs(lam: float, pairs: Pairs) -> None:
    """Refuse a decay over pairs that have no distance.

    Raises:
        ValueError: λ below 1 with pairs of different trajectories.
    """
    if pairs == "problem" and lam != 1.0:
        raise ValueError(
            f"lam is {lam}, but prefixes of two trajectories have no distance: set lam to 1, or pairs to trajectory"
        )


def state_mask(columns: Mapping[str, Tensor], level: Level) -> Tensor | None:
    """The prefixes that have a learned flow, (B, T + 1): at step level the ends of steps and the empty prefix."""
    if level == "token":
        return None
    mask_BT1 = columns["step_mask_BT1"].clone()
    mask_BT1[:, 0] = True
    return mask_BT1


def modified_subtb_loss(
    log_pf_BT: Tensor,
    log_pstop_BT1: Tensor,
    log_reward_BT1: Tensor,
    mask_BT: Tensor,
    *,
    prefix_mask_BT1: Tensor | None = None,
    lam: float = 1.0,
    reduction: Reduction = "mean",
    group_B: Tensor | None = None,
) -> LossOutput:
    """Squared sub-trajectory balance over all pairs of prefixes, every prefix being a possible completion.

        g_i  = log q(z_1:i) + log q(stop | z_1:i) - log R(z_1:i, stop)
        mean = Σ_{i<j} λ^(j-i-1) (g_j - g_i)² / Σ_{i<j} λ^(j-i-1)       both sums over the whole batch
        sum  = Σ_{i<j} λ^(j-i-1) (g_j - g_i)²                          averaged over trajectories

    The state flow is R(z_1:i, stop) / q(stop | z_1:i), so neither a flow network nor log Z is learned. i and j count
    tokens, also where a prefix mask leaves prefixes out. Work and memory are linear in the length for every λ.

    All g of one problem are -log Z of it where the loss vanishes. Pairs within a trajectory reach that through the
    empty prefix, which all trajectories share; where it may not stop, nothing says how likely different beginnings are.
    With ``group_B`` the pairs are those of all prefixes of a problem, also of different trajectories.

    Args:
        log_pf_BT: (B, T) log q(token | prefix), nats; gradient flows.
        log_pstop_BT1: (B, T + 1) log q(stop | prefix) of each prefix, 0 where the stop is forced, nats; gradient flows.
        log_reward_BT1: (B, T + 1) log reward of stopping at each prefix, tempered, nats; constant.
        mask_BT: (B, T) bool, True on the n action tokens of a row, padded on the right. Prefixes beyond n are ignored,
            whatever they hold.
        prefix_mask_BT1: (B, T + 1) bool, False on prefixes that may not stop; pairs use only the others. None allows
            all.
        lam: λ in (0, 1], the weight of one more token between two prefixes.
        reduction: ``mean`` over the weighted pairs of the batch, or ``sum`` over pairs as in the paper's equation,
            divided by the number of trajectories. A row with fewer than two prefixes adds 0, with a graph.
        group_B: (B,) int64, the problem of each trajectory: pairs are formed within a problem. None forms them within
            a trajectory. Needs λ = 1, since prefixes of two trajectories have no distance.

    Returns:
        The loss; diagnostics ``residual_rms`` (over weighted pairs, nats) and ``log_z_estimate`` (mean of -g, first
        over the prefixes of a row and then over rows, nats).

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Hu et al. 2024, arXiv:2310.04363, equation 3; weights as in their code; λ after Madan et al. 2023.
    """
    check_lam(lam)
    check_choice("reduction", reduction, ("mean", "sum"))
    check_pairs(lam, "trajectory" if group_B is None else "problem")
    potential_BT1, valid_BT1 = stop_potentials(log_pf_BT, log_pstop_BT1, log_reward_BT1, mask_BT, prefix_mask_BT1)
    if group_B is None:
        sum_B, weight_B = pair_sums(potential_BT1, valid_BT1, lam)
    else:
        sum_B, weight_B = group_pair_sums(potential_BT1, valid_BT1, group_B)
    total, weight = reduce_pairs(sum_B, weight_B, reduction)
    row_mean_B = torch.where(valid_BT1, potential_BT1.detach(), 0.0).sum(1) / valid_BT1.sum(1).clamp_min(1)
    return LossOutput(
        sum=total,
        weight=weight,
        diagnostics={
            "residual_rms": (total.detach() / weight_B.sum().clamp_min(1e-12)).sqrt(),
            "log_z_estimate": -row_mean_B.mean(),
        },
    )


def subtb_loss(
    log_pf_BT: Tensor,
    log_pstop_BT1: Tensor,
    log_f_BT1: Tensor,
    log_reward_B: Tensor,
    mask_BT: Tensor,
    *,
    prefix_mask_BT1: Tensor | None = None,
    lam: float = 0.9,
    reduction: Reduction = "mean",
) -> LossOutput:
    """Squared sub-trajectory balance over all pairs of states, with a learned state flow F.

        residual_ij = log F(s_i) + log q(s_i → s_j) - log F(s_j),      i < j <= n + 1
        mean        = Σ_{i<j} λ^(j-i-1) residual_ij² / Σ_{i<j} λ^(j-i-1)       both sums over the whole batch

    State n + 1 is the finished trajectory, with flow R; only the terminal reward is needed. λ → 0 gives detailed
    balance; with the empty prefix as the only other state it is trajectory balance with log Z := log F(∅).

    Args:
        log_pf_BT: (B, T) log q(token | prefix), nats; gradient flows.
        log_pstop_BT1: (B, T + 1) log q(stop | prefix), nats; read at the last prefix alone; gradient flows.
        log_f_BT1: (B, T + 1) learned log state flow of each prefix, nats; gradient flows.
        log_reward_B: (B,) log reward of the finished trajectory, tempered, nats; constant.
        mask_BT: (B, T) bool, True on action tokens, padded on the right.
        prefix_mask_BT1: (B, T + 1) bool, False on prefixes to leave out (ends of reasoning steps alone, say). None
            takes all.
        lam: λ in (0, 1], the weight of one more action between two states.
        reduction: ``mean`` over the weighted pairs of the batch, or ``sum`` over pairs, divided by the number of
            trajectories.

    Returns:
        The loss; diagnostics ``residual_rms`` (over weighted pairs, nats) and ``log_z_mean`` (mean of log F(∅), nats).

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Madan et al. 2023, arXiv:2209.12782, which normalises each trajectory alone; here one normaliser
        serves the batch, so that every pair of equal length weighs the same.
    """
    check_lam(lam)
    check_choice("reduction", reduction, ("mean", "sum"))
    potential_BT2, valid_BT2 = flow_potentials(
        log_pf_BT, log_pstop_BT1, log_f_BT1, log_reward_B, mask_BT, prefix_mask_BT1
    )
    sum_B, weight_B = pair_sums(potential_BT2, valid_BT2, lam)
    total, weight = reduce_pairs(sum_B, weight_B, reduction)
    return LossOutput(
        sum=total,
        weight=weight,
        diagnostics={
            "residual_rms": (total.detach() / weight_B.sum().clamp_min(1e-12)).sqrt(),
            "log_z_mean": log_f_BT1.detach()[:, 0].mean(),
        },
    )


@dataclass(frozen=True)
class ModifiedSubTB(Objective):
    """Modified sub-trajectory balance of Hu et al.; needs a reward with prefix values.

    Args:
        lam: λ in (0, 1], the weight of one more token between two prefixes.
        level: pairs of all prefixes that may stop (``token``), or of those that end a reasoning step (``step``).
        reduction: ``mean`` over weighted pairs, or ``sum`` over pairs per trajectory as in the paper's equation.
        pairs: of prefixes of one trajectory as in the paper's equation (``trajectory``), or of all trajectories of a
            problem (``problem``), which joins different beginnings where the empty completion is too short to stop.

    Source: Hu et al. 2024, arXiv:2310.04363, equation 3.
    """

    lam: float = field(default=1.0, kw_only=True)
    level: Level = field(default="token", kw_only=True)
    reduction: Reduction = field(default="mean", kw_only=True)
    pairs: Pairs = field(default="trajectory", kw_only=True)

    def __post_init__(self) -> None:
        check_lam(self.lam)
        check_choice("level", self.level, tuple(PREFIX_MASKS))
        check_choice("reduction", self.reduction, ("mean", "sum"))
        check_choice("pairs", self.pairs, ("trajectory", "problem"))
        check_pairs(self.lam, self.pairs)

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        own = {"log_pf_BT", "log_pstop_BT1", "log_reward_BT1", "mask_BT", PREFIX_MASKS[self.level]}
        return frozenset(own | ({"group_B"} if self.pairs == "problem" else set()))

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        return modified_subtb_loss(
            columns["log_pf_BT"],
            columns["log_pstop_BT1"],
            columns["log_reward_BT1"],
            columns["mask_BT"],
            prefix_mask_BT1=columns[PREFIX_MASKS[self.level]],
            lam=self.lam,
            reduction=self.reduction,
            group_B=columns["group_B"] if self.pairs == "problem" else None,
        )


@dataclass(frozen=True)
class SubTB(Objective):
    """SubTB(λ) with a learned state flow; needs a flow head and only terminal rewards.

    Args:
        lam: λ in (0, 1], the weight of one more action (token or stop) between two states, at step level too.
        level: states are all prefixes (``token``), or the beginnings of reasoning steps, for proofs the states between
            tactics (``step``).
        reduction: ``mean`` over weighted pairs, or ``sum`` over pairs per trajectory.

    Source: Madan et al. 2023, arXiv:2209.12782.
    """

    lam: float = field(default=0.9, kw_only=True)
    level: Level = field(default="token", kw_only=True)
    reduction: Reduction = field(default="mean", kw_only=True)

    def __post_init__(self) -> None:
        check_lam(self.lam)
        check_choice("level", self.level, tuple(PREFIX_MASKS))
        check_choice("reduction", self.reduction, ("mean", "sum"))

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return FLOW_COLUMNS | ({"step_mask_BT1"} if self.level == "step" else frozenset())

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        return subtb_loss(
            columns["log_pf_BT"],
            columns["log_pstop_BT1"],
            columns["log_f_BT1"],
            columns["log_reward_B"],
            columns["mask_BT"],
            prefix_mask_BT1=state_mask(columns, self.level),
            lam=self.lam,
            reduction=self.reduction,
        )
