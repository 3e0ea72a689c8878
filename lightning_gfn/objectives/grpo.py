"""Group relative policy optimisation and its relatives, by switches of one objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.advantage_rules.base import AdvantageRule
from lightning_gfn.objectives.functional.advantages import (
    SCALES,
    AdvantageScale,
    Baseline,
    check_mean_scale,
    group_advantages,
    in_mixed_group,
    overlong_penalty,
)
from lightning_gfn.objectives.functional.checks import batch_and_length, check_choice, check_mask, check_shapes
from lightning_gfn.objectives.functional.clipped_surrogate import (
    AGGREGATIONS,
    Aggregation,
    aggregate,
    check_clip,
    clipped_surrogate,
    ratio_diagnostics,
)
from lightning_gfn.objectives.functional.importance import ImportanceSettings, behaviour_columns, weights_of
from lightning_gfn.objectives.functional.kl import ESTIMATORS, KLEstimator, kl_estimate
from lightning_gfn.objectives.functional.potentials import masked
from lightning_gfn.objectives.functional.stop_action import actions_of
from lightning_gfn.objectives.surrogates.base import ActionTerms, Surrogate
from lightning_gfn.types import LossOutput

Ratio = Literal["token", "sequence", "none"]
KLPlace = Literal["none", "reward"] | KLEstimator


def grpo_loss(
    log_pf_BT: Tensor,
    old_log_pf_BT: Tensor,
    mask_BT: Tensor,
    advantage_B: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    aggregation: Aggregation = "sequence",
    ratio: Literal["token", "sequence"] = "token",
    keep_B: Tensor | None = None,
    weight_BT: Tensor | None = None,
    penalty_BT: Tensor | None = None,
    max_length: Tensor | float | None = None,
    surrogate: Surrogate | None = None,
) -> LossOutput:
    """Clipped surrogate of the policy gradient.

        ρ_bt = q(a_bt) / q_old(a_bt)                      ratio "token"
        ρ_bt = (Π_s q(a_bs) / q_old(a_bs))^(1 / n_b)      ratio "sequence" (GSPO)
        l_bt = -w_bt min(ρ_bt A_b, clip(ρ_bt, 1 - clip_low, 1 + clip_high) A_b) + penalty_bt

    and the mean of l that ``aggregation`` names.

    Args:
        log_pf_BT: (B, T) log q of each action, stop included (see ``append_stop``), nats; gradient flows.
        old_log_pf_BT: (B, T) the same when the trajectory was sampled, nats; constant.
        mask_BT: (B, T) bool, True on actions.
        advantage_B: (B,) advantage of each trajectory; constant.
        clip_low: how far below 1 the ratio may take effect.
        clip_high: how far above 1 the ratio may take effect.
        aggregation: mean over the actions of each trajectory and then over trajectories (``sequence``, DeepSeekMath);
            over all actions of the batch (``token``, DAPO); sum over actions, over L, mean over trajectories
            (``constant``, Dr. GRPO); sum over actions, mean over trajectories (``sum``, RLOO).
        ratio: of each action, or of the trajectory with length normalisation.
        keep_B: (B,) bool, False on trajectories left out of loss and weight; None keeps all.
        weight_BT: (B, T) importance weight w of each action; constant; None for 1.
        penalty_BT: (B, T) added to the loss of each action, nats; gradient flows; None for none.
        max_length: L, the most actions of a trajectory; for ``constant``.
        surrogate: another loss of each action than the clipped one; None for that one.

    Returns:
        The loss; diagnostics ``ratio_mean``, ``clip_fraction`` (actions whose gradient the clipping removes) and
        ``approx_kl`` (mean of ρ - 1 - log ρ, nats), all over actions.

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Shao et al. 2024, arXiv:2402.03300, section 4.1; token mean Yu et al. 2025, arXiv:2503.14476; constant
    length Liu et al. 2025, arXiv:2503.20783; sequence ratio Zheng et al. 2025, arXiv:2507.18071, equations 5 and 7.
    """
    check_clip(clip_low, clip_high)
    check_choice("aggregation", aggregation, AGGREGATIONS)
    check_choice("ratio", ratio, ("token", "sequence"))
    B, T = batch_and_length("log_pf_BT", log_pf_BT)
    keep_B = torch.ones_like(advantage_B, dtype=torch.bool) if keep_B is None else keep_B
    check_shapes(
        old_log_pf_BT=(old_log_pf_BT, (B, T)),
        mask_BT=(mask_BT, (B, T)),
        advantage_B=(advantage_B, (B,)),
        keep_B=(keep_B, (B,)),
    )
    check_mask("mask_BT", mask_BT)
    check_mask("keep_B", keep_B)
    log_ratio_BT = masked(log_pf_BT, mask_BT) - masked(old_log_pf_BT.detach(), mask_BT)
    if ratio == "sequence":
        length_B1 = mask_BT.sum(1, keepdim=True).clamp_min(1)
        log_ratio_BT = masked((log_ratio_BT.sum(1, keepdim=True) / length_B1).expand(B, T), mask_BT)
    advantage_B1, kept_BT = advantage_B.detach().unsqueeze(1), mask_BT & keep_B.unsqueeze(1)
    if surrogate is None:
        loss_BT, removed_BT = clipped_surrogate(log_ratio_BT, advantage_B1, clip_low, clip_high)
    else:
        found = masked(log_pf_BT, mask_BT), log_ratio_BT, advantage_B1.expand(B, T), kept_BT
        loss_BT, removed_BT = surrogate(ActionTerms(*found, clip_low=clip_low, clip_high=clip_high))
    if weight_BT is not None:
        check_shapes(weight_BT=(weight_BT, (B, T)))
        loss_BT = weight_BT.detach() * loss_BT
    if penalty_BT is not None:
        check_shapes(penalty_BT=(penalty_BT, (B, T)))
        loss_BT = loss_BT + masked(penalty_BT, mask_BT)
    total, weight = aggregate(loss_BT, mask_BT, keep_B, aggregation, max_length)
    return LossOutput(total, weight, ratio_diagnostics(log_ratio_BT, removed_BT, kept_BT))


@dataclass(frozen=True)
class GRPO(Objective):
    """GRPO and its relatives; the reward r is the ``log_reward_B`` column, taken as a plain number.

        Dr. GRPO  advantage_scale none, aggregation constant
        DAPO      clip_high 0.28, aggregation token, drop_equal_groups with model.resample, overlong_share 0.2 (or
                  drop_truncated)
        GSPO      ratio sequence, clip_low 3e-4, clip_high 4e-4
        RLOO      ratio none, baseline leave_one_out, advantage_scale none, aggregation sum, kl reward
        MaxRL     advantage_scale mean
        CISPO     surrogate Cispo, aggregation token; Clip-Cov and KL-Cov by other surrogates
        PKPO, UCPO, unlikeliness, uniqueness, Poly-EPO, SetPO    advantage, a rule of ``objectives.advantage_rules``

    The KL penalty compares with the policy at the start of the stage; its weight β is ``model.kl.coefficient``. The
    weight c of the entropy bonus, fixed or steered to a target, is ``model.entropy.coefficient``.

    Args:
        clip_low: how far below 1 the probability ratio may take effect.
        clip_high: how far above 1 the probability ratio may take effect.
        advantage_scale: divide advantages by the group's standard deviation (``std``), by its mean reward (``mean``,
            for rewards of at least 0), or not (``none``).
        advantage: a rule that turns the rewards of a group into advantages by more than their mean; None for none.
        surrogate: loss of each action in place of the clipped one; None for that one.
        entropy_bonus: take c times the entropy of each action's distribution off its loss.
        aggregation: mean over the actions of each trajectory first (``sequence``), over all actions (``token``), sum
            over actions divided by the maximum length (``constant``), or sum over actions (``sum``).
        ratio: probability ratio of each action (``token``), of the trajectory to the power 1 / n (``sequence``), or
            none: the plain policy gradient -A ∇log q, right only where each rollout batch is used once.
        baseline: mean reward of the group, or of the group without the trajectory itself (``leave_one_out``).
        kl: no penalty (``none``); β (log q_old - log q_ref) of the trajectory taken off its reward (``reward``); or β
            times an estimator in the loss of each action (``k1``, which has no expected gradient, ``k2``, ``k3``).
        drop_equal_groups: leave out problems whose trajectories all have the same reward (those that ``model.resample``
            could not refill); rules that tell them apart by their classes keep those that teach something.
        drop_truncated: leave out trajectories that the maximum length cut off.
        overlong_share: share of the maximum length, at its end, over which a penalty grows from 0 to 1; 0 for none.
        importance: weights for a sampler whose probabilities differ from the trained policy's; None for none. They
            multiply the surrogate, not penalty and bonus; a rejected trajectory still counts in its group's baseline.

    Source: Shao et al. 2024, arXiv:2402.03300, section 4.1, and the sources of ``grpo_loss``, ``group_advantages`` and
    ``overlong_penalty``; the bonus Mnih et al. 2016, arXiv:1602.01783, section 4.
    """

    clip_low: float = field(default=0.2, kw_only=True)
    clip_high: float = field(default=0.2, kw_only=True)
    advantage_scale: AdvantageScale = field(default="std", kw_only=True)
    aggregation: Aggregation = field(default="sequence", kw_only=True)
    ratio: Ratio = field(default="token", kw_only=True)
    baseline: Baseline = field(default="group", kw_only=True)
    advantage: AdvantageRule | None = field(default=None, kw_only=True)
    surrogate: Surrogate | None = field(default=None, kw_only=True)
    entropy_bonus: bool = field(default=False, kw_only=True)
    kl: KLPlace = field(default="none", kw_only=True)
    drop_equal_groups: bool = field(default=False, kw_only=True)
    drop_truncated: bool = field(default=False, kw_only=True)
    overlong_share: float = field(default=0.0, kw_only=True)
    importance: ImportanceSettings | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_clip(self.clip_low, self.clip_high)
        check_choice("advantage_scale", self.advantage_scale, SCALES)
        check_choice("aggregation", self.aggregation, AGGREGATIONS)
        check_choice("ratio", self.ratio, ("token", "sequence", "none"))
        check_choice("baseline", self.baseline, ("group", "leave_one_out"))
        check_choice("kl", self.kl, ("none", "reward", *ESTIMATORS))
        if not 0.0 <= self.overlong_share <= 1.0:
            raise ValueError(f"overlong_share is {self.overlong_share}, expected 0 (no penalty) to 1")
        self.check_together()

    def check_together(self) -> None:
        """Refuse switches that exclude each other.

        Raises:
            ValueError: names both and the remedy.
        """
        check_mean_scale(self.advantage_scale, self.baseline)
        if self.advantage_scale == "mean" and (self.kl == "reward" or self.overlong_share):
            raise ValueError(
                "advantage_scale is mean (MaxRL), which needs rewards of at least 0, but kl: reward and overlong_share "
                "take something off them: set kl to k3 or none and overlong_share to 0"
            )
        own = self.advantage is not None and self.advantage.replaces_scale
        if own and (self.advantage_scale != "none" or self.baseline != "group"):
            raise ValueError(
                f"advantage {type(self.advantage).__name__} has its own baseline and scale: set advantage_scale to "
                "none and baseline to group"
            )
        if self.surrogate is not None and self.ratio != "token":
            raise ValueError(
                f"surrogate {type(self.surrogate).__name__} reads the ratio of each action, but ratio is {self.ratio}: "
                "set ratio to token"
            )

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        names = {"log_pf_BT", "log_pstop_BT1", "mask_BT", "forced_stop_B", "log_reward_B", "group_B"}
        if self.ratio != "none" or self.kl == "reward":
            names |= {"old_log_pf_BT", "old_log_pstop_BT1"}
        if self.kl != "none":
            names |= {"ref_log_pf_BT", "ref_log_pstop_BT1", "kl_coefficient"}
        if self.aggregation == "constant" or self.overlong_share:
            names.add("max_length")
        if self.entropy_bonus:
            names |= {"entropy_BT1", "entropy_coefficient"}
        if self.advantage is not None:
            names |= self.advantage.requires
        return frozenset(names) | behaviour_columns(self.importance)

    @property
    def min_samples(self) -> int:
        """Those that the rule of advantages asks for; else two."""
        return self.advantage.min_samples if self.advantage is not None else super().min_samples

    def prepare(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Advantages over whole groups, and which trajectories count."""
        verdict_B, group_B = columns["log_reward_B"].detach(), columns["group_B"]
        forced_B = columns["forced_stop_B"]
        check_shapes(log_reward_B=(verdict_B, tuple(group_B.shape)), forced_stop_B=(forced_B, tuple(group_B.shape)))
        reward_B, keep_B = verdict_B, torch.ones_like(group_B, dtype=torch.bool)
        if self.drop_equal_groups:
            rule = self.advantage
            keep_B = in_mixed_group(verdict_B, group_B) if rule is None else rule.teaching(columns)
        if self.drop_truncated:
            keep_B = keep_B & ~forced_B
        if self.overlong_share:
            length_B = columns["mask_BT"].sum(1)
            reward_B = reward_B + overlong_penalty(length_B, columns["max_length"], self.overlong_share)
        if self.kl == "reward":
            difference_BT1 = actions_of(columns, "old_")[0] - actions_of(columns, "ref_")[0]
            reward_B = reward_B - columns["kl_coefficient"] * difference_BT1.detach().sum(1)
        plain = partial(group_advantages, group_B=group_B, scale=self.advantage_scale, baseline=self.baseline)
        advantage_B = plain(reward_B) if self.advantage is None else self.advantage.advantages(reward_B, columns, plain)
        return {"advantage_B": advantage_B, "keep_B": keep_B}

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        log_pf_BT1, actions_BT1 = actions_of(columns, "")
        old_BT1 = log_pf_BT1.detach() if self.ratio == "none" else actions_of(columns, "old_")[0]
        penalty_BT1 = None
        if self.kl in ESTIMATORS:
            estimate_BT1 = kl_estimate(log_pf_BT1, actions_of(columns, "ref_")[0], self.kl)  # type: ignore[arg-type]
            penalty_BT1 = columns["kl_coefficient"] * estimate_BT1
        if self.entropy_bonus:
            check_shapes(entropy_BT1=(columns["entropy_BT1"], tuple(log_pf_BT1.shape)))
            bonus_BT1 = columns["entropy_coefficient"] * columns["entropy_BT1"]
            penalty_BT1 = -bonus_BT1 if penalty_BT1 is None else penalty_BT1 - bonus_BT1
        advantage_B, keep_B = columns["advantage_B"], columns["keep_B"]
        weight_BT1: Tensor | None = None
        corrected: dict[str, Tensor] = {}
        if self.importance is not None:
            weight_BT1, accepted_B, corrected = weights_of(columns, self.importance)
            keep_B = keep_B & accepted_B
        output = grpo_loss(
            log_pf_BT1,
            old_BT1,
            actions_BT1,
            advantage_B,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            aggregation=self.aggregation,
            ratio="sequence" if self.ratio == "sequence" else "token",
            keep_B=keep_B,
            weight_BT=weight_BT1,
            penalty_BT=penalty_BT1,
            max_length=columns["max_length"] if self.aggregation == "constant" else None,
            surrogate=self.surrogate,
        )
        idle = (advantage_B == 0.0).to(torch.float32).mean()
        further = {"zero_advantage_fraction": idle, "kept_fraction": keep_B.to(torch.float32).mean()}
        return LossOutput(output.sum, output.weight, {**output.diagnostics, **further, **corrected})
