"""Importance weights between the policy that is trained and the sampler that drew its trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.objectives.functional.checks import batch_and_length, check_choice, check_mask, check_shapes
from lightning_gfn.objectives.functional.potentials import masked
from lightning_gfn.objectives.functional.stop_action import actions_of

LEVELS = ("token", "sequence", "none")
BOUNDS = ("truncate", "mask")
REJECTIONS = ("none", "mean", "max")
BEHAVIOUR_COLUMNS = frozenset({"behaviour_log_pf_BT", "behaviour_log_pstop_BT1"})


@dataclass(frozen=True)
class ImportanceSettings:
    """Correction for a sampler whose probabilities are not those of the policy in training (its precision, its engine).

        ρ_bt = q_old(a_bt) / q_sampler(a_bt)      level "token"; the stop is an action like the others
        ρ_bt = Π_s q_old(a_bs) / q_sampler(a_bs)  level "sequence"
        w_bt = min(ρ_bt, cap)                     bound "truncate"
        w_bt = ρ_bt if 1 / cap <= ρ_bt <= cap, else 0        bound "mask"

    Without a bound (``cap: .inf``) weights of level ``sequence`` are unbiased, those of level ``token`` are not: the
    distribution of prefixes stays the sampler's.

    Args:
        level: whose ratio weights an action: its own, or that of its trajectory; ``none`` weights nothing.
        bound: what becomes of ratios beyond ``cap``. Masked actions and trajectories still count in the divisor of a
            mean.
        cap: largest weight, at least 1.
        reject: leave out of sum and divisor trajectories whose geometric mean ratio (``mean``), or the ratio of any
            action (``max``), lies outside [1 / reject_cap, reject_cap]; ``none`` leaves out none.
        reject_cap: bound of that ratio, at least 1.

    Source: truncation Espeholt et al. 2018, arXiv:1802.01561, for language models Yao et al. 2025
    (fengyao.notion.site/off-policy-rl); mask IcePop, arXiv:2510.18855; rejection Liu et al. 2025
    (richardli.xyz/rl-collapse). TRL calls them ``token_truncate``, ``sequence_truncate``, ``token_mask`` and
    ``sequence_mask``, whose mask has no lower bound by default; in verl they are ``rollout_is`` and, for rejection,
    ``seq_mean_k1``, whose bounds are on the inverse ratio and so the same at 1 / C and C. Both clamp differently at
    extreme ratios: verl to exp(±20) before the bound, here and in TRL not at all.
    """

    level: Literal["token", "sequence", "none"] = "token"
    bound: Literal["truncate", "mask"] = "truncate"
    cap: float = 2.0
    reject: Literal["none", "mean", "max"] = "none"
    reject_cap: float = 2.0

    def __post_init__(self) -> None:
        check_choice("importance.level", self.level, LEVELS)
        check_choice("importance.bound", self.bound, BOUNDS)
        check_choice("importance.reject", self.reject, REJECTIONS)
        for name in ("cap", "reject_cap"):
            if not getattr(self, name) >= 1.0:
                raise ValueError(f"importance.{name} is {getattr(self, name)}, expected a number of at least 1")
        if self.level == self.reject == "none":
            raise ValueError("importance.level is none and so is importance.reject: set one, or importance to null")


def behaviour_columns(importance: ImportanceSettings | None) -> frozenset[str]:
    """Columns that a correction reads: log-probabilities under the sampler, and those of the old policy."""
    return frozenset() if importance is None else BEHAVIOUR_COLUMNS | {"old_log_pf_BT", "old_log_pstop_BT1"}


def importance_weights(
    old_log_pf_BT: Tensor, behaviour_log_pf_BT: Tensor, mask_BT: Tensor, importance: ImportanceSettings
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Weights of actions, and the trajectories that count; see ``ImportanceSettings``.

    Args:
        old_log_pf_BT: (B, T) log q of each action when the trajectory was sampled, by the policy that is trained, stop
            included, nats; constant.
        behaviour_log_pf_BT: (B, T) the same as the sampler gave it, nats; constant.
        mask_BT: (B, T) bool, True on actions.
        importance: which weights.

    Returns:
        w (B, T), 1 beyond the last action; (B,) bool, False on rejected trajectories; diagnostics
        ``importance_log_mean`` (log of the mean weight, rejected trajectories left out), ``importance_truncated`` and
        ``importance_masked`` (shares of all actions whose weight the cap cuts, or that count for nothing).

    Raises:
        ValueError: names the argument whose shape or dtype is wrong.
    """
    B, T = batch_and_length("old_log_pf_BT", old_log_pf_BT)
    check_shapes(behaviour_log_pf_BT=(behaviour_log_pf_BT, (B, T)), mask_BT=(mask_BT, (B, T)))
    check_mask("mask_BT", mask_BT)
    log_ratio_BT = masked(old_log_pf_BT.detach(), mask_BT) - masked(behaviour_log_pf_BT.detach(), mask_BT)
    total_B1 = log_ratio_BT.sum(1, keepdim=True)
    of_level = {"token": log_ratio_BT, "sequence": total_B1.expand(B, T), "none": torch.zeros_like(log_ratio_BT)}
    ratio_BT = torch.where(mask_BT, of_level[importance.level], 0.0).exp()
    above_BT = ratio_BT > importance.cap
    weight_BT = ratio_BT.clamp_max(importance.cap)
    if importance.bound == "mask":
        weight_BT = torch.where(above_BT | (ratio_BT < 1.0 / importance.cap), 0.0, ratio_BT)
    accepted_B = accepted(log_ratio_BT, mask_BT, importance)
    kept_BT, num_actions = mask_BT & accepted_B.unsqueeze(1), mask_BT.sum().clamp_min(1)
    mean = masked(weight_BT, kept_BT).sum() / kept_BT.sum().clamp_min(1)
    diagnostics = {
        "importance_log_mean": mean.clamp_min(torch.finfo(mean.dtype).tiny).log(),
        "importance_truncated": (above_BT & mask_BT).sum() / num_actions * (importance.bound == "truncate"),
        "importance_masked": (mask_BT & ~(kept_BT & (weight_BT > 0.0))).sum() / num_actions,
    }
    return weight_BT, accepted_B, diagnostics


def accepted(log_ratio_BT: Tensor, mask_BT: Tensor, importance: ImportanceSettings) -> Tensor:
    """(B,) bool, False on trajectories that are rejected.

    Args:
        log_ratio_BT: (B, T) log of each action's ratio, 0 beyond the last, nats.
        mask_BT: (B, T) bool, True on actions.
        importance: which are rejected.
    """
    if importance.reject == "none":
        return torch.ones(mask_BT.shape[0], dtype=torch.bool, device=mask_BT.device)
    if importance.reject == "max":
        distance_B = log_ratio_BT.abs().amax(1)
    else:
        distance_B = (log_ratio_BT.sum(1) / mask_BT.sum(1).clamp_min(1)).abs()
    return distance_B.exp() <= importance.reject_cap


def weights_of(
    columns: Mapping[str, Tensor], importance: ImportanceSettings
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """``importance_weights`` of columns, (B, T + 1): the actions are the tokens and the free stop."""
    old_BT1, actions_BT1 = actions_of(columns, "old_")
    return importance_weights(old_BT1, actions_of(columns, "behaviour_")[0], actions_BT1, importance)
