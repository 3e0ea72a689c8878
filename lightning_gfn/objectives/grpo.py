"""Group relative policy optimisation without a KL penalty: the reward-maximising baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives._checks import batch_and_length, check_choice, check_mask, check_shapes
from lightning_gfn.objectives._prefixes import masked
from lightning_gfn.objectives.actions import append_stop
from lightning_gfn.objectives.advantages import AdvantageScale, group_advantages
from lightning_gfn.types import LossOutput

Aggregation = Literal["sequence", "token"]


def check_clip(clip_low: float, clip_high: float) -> None:
    """Refuse clipping ranges that would exclude ratio 1 or admit negative ratios.

    Raises:
        ValueError: names the argument.
    """
    if not 0.0 <= clip_low <= 1.0:
        raise ValueError(f"clip_low is {clip_low}, expected 0 <= clip_low <= 1")
    if clip_high < 0.0:
        raise ValueError(f"clip_high is {clip_high}, expected clip_high >= 0")


def grpo_loss(
    log_pf_BT: Tensor,
    old_log_pf_BT: Tensor,
    mask_BT: Tensor,
    advantage_B: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    aggregation: Aggregation = "sequence",
) -> LossOutput:
    """Clipped surrogate of the policy gradient, without a KL penalty.

        ρ_bt     = q(a_bt) / q_old(a_bt)
        l_bt     = -min(ρ_bt A_b, clip(ρ_bt, 1 - clip_low, 1 + clip_high) A_b)
        sequence = mean_b (1 / n_b) Σ_t l_bt          token = Σ_bt l_bt / Σ_b n_b

    Args:
        log_pf_BT: (B, T) log q of each action, stop included (see ``append_stop``), nats; gradient flows.
        old_log_pf_BT: (B, T) the same when the trajectory was sampled, nats; constant.
        mask_BT: (B, T) bool, True on actions.
        advantage_B: (B,) advantage of each trajectory; constant.
        clip_low: how far below 1 the ratio may take effect.
        clip_high: how far above 1 the ratio may take effect.
        aggregation: mean over the actions of each trajectory and then over trajectories (DeepSeekMath), or over all
            actions of the batch (DAPO).

    Returns:
        The loss; diagnostics ``ratio_mean``, ``clip_fraction`` (actions whose gradient the clipping removes) and
        ``approx_kl`` (mean of ρ - 1 - log ρ, nats), all over actions.

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Shao et al. 2024, arXiv:2402.03300, section 4.1, with β = 0; token mean Yu et al. 2025, arXiv:2503.14476.
    """
    check_clip(clip_low, clip_high)
    check_choice("aggregation", aggregation, ("sequence", "token"))
    B, T = batch_and_length("log_pf_BT", log_pf_BT)
    check_shapes(old_log_pf_BT=(old_log_pf_BT, (B, T)), mask_BT=(mask_BT, (B, T)), advantage_B=(advantage_B, (B,)))
    check_mask("mask_BT", mask_BT)
    log_ratio_BT = masked(log_pf_BT, mask_BT) - masked(old_log_pf_BT.detach(), mask_BT)
    ratio_BT = log_ratio_BT.exp()
    advantage_B1 = advantage_B.detach().unsqueeze(1)
    clipped_BT = ratio_BT.clamp(1.0 - clip_low, 1.0 + clip_high) * advantage_B1
    loss_BT = -torch.where(mask_BT, torch.minimum(ratio_BT * advantage_B1, clipped_BT), 0.0)
    length_B = mask_BT.sum(1).to(loss_BT.dtype)
    num_actions = length_B.sum()
    per_action = num_actions.clamp_min(1.0)
    removed_BT = mask_BT & (clipped_BT < ratio_BT * advantage_B1).detach()
    approx_kl_BT = (ratio_BT - 1.0 - log_ratio_BT).detach()
    diagnostics = {
        "ratio_mean": masked(ratio_BT.detach(), mask_BT).sum() / per_action,
        "clip_fraction": removed_BT.sum() / per_action,
        "approx_kl": masked(approx_kl_BT, mask_BT).sum() / per_action,
    }
    if aggregation == "token":
        return LossOutput(loss_BT.sum(), num_actions, diagnostics)
    return LossOutput((loss_BT.sum(1) / length_B.clamp_min(1.0)).sum(), length_B.new_tensor(float(B)), diagnostics)


@dataclass(frozen=True)
class GRPO(Objective):
    """GRPO without KL; the reward is the ``log_reward_B`` column, taken as a plain number.

    Args:
        clip_low: how far below 1 the probability ratio may take effect.
        clip_high: how far above 1 the probability ratio may take effect.
        advantage_scale: divide advantages by the group's standard deviation (``std``), or not (``none``).
        aggregation: mean over the actions of each trajectory first (``sequence``), or over all actions (``token``).

    Source: Shao et al. 2024, arXiv:2402.03300, section 4.1.
    """

    clip_low: float = field(default=0.2, kw_only=True)
    clip_high: float = field(default=0.2, kw_only=True)
    advantage_scale: AdvantageScale = field(default="std", kw_only=True)
    aggregation: Aggregation = field(default="sequence", kw_only=True)

    def __post_init__(self) -> None:
        check_clip(self.clip_low, self.clip_high)
        check_choice("advantage_scale", self.advantage_scale, ("std", "none"))
        check_choice("aggregation", self.aggregation, ("sequence", "token"))

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        return frozenset(
            {
                "log_pf_BT",
                "log_pstop_BT1",
                "old_log_pf_BT",
                "old_log_pstop_BT1",
                "mask_BT",
                "forced_stop_B",
                "log_reward_B",
                "group_B",
            }
        )

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        mask_BT, forced_B = columns["mask_BT"], columns["forced_stop_B"]
        log_pf_BT1, actions_BT1 = append_stop(columns["log_pf_BT"], columns["log_pstop_BT1"], mask_BT, forced_B)
        old_BT1, _ = append_stop(columns["old_log_pf_BT"], columns["old_log_pstop_BT1"], mask_BT, forced_B)
        advantage_B = group_advantages(columns["log_reward_B"], columns["group_B"], scale=self.advantage_scale)
        output = grpo_loss(
            log_pf_BT1,
            old_BT1,
            actions_BT1,
            advantage_B,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            aggregation=self.aggregation,
        )
        idle = (advantage_B == 0.0).to(torch.float32).mean()
        return LossOutput(output.sum, output.weight, {**output.diagnostics, "zero_advantage_fraction": idle})
