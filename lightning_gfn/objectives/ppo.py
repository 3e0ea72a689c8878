"""Proximal policy optimisation with a learned value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.checks import batch_and_length, check_choice, check_mask, check_shapes
from lightning_gfn.objectives.functional.clipped_surrogate import check_clip, clipped_surrogate, ratio_diagnostics
from lightning_gfn.objectives.functional.gae import action_rewards, generalised_advantages, whitened
from lightning_gfn.objectives.functional.importance import ImportanceSettings, behaviour_columns, weights_of
from lightning_gfn.objectives.functional.potentials import masked
from lightning_gfn.objectives.functional.stop_action import actions_of
from lightning_gfn.types import LossOutput


def value_loss(value_BT: Tensor, old_value_BT: Tensor, return_BT: Tensor, clip: float | None) -> tuple[Tensor, Tensor]:
    """Squared error of the value, pessimistic about moves further than ``clip`` from the old value.

        l = max((V - return)², (V_old + clamp(V - V_old, -clip, clip) - return)²) / 2

    Args:
        value_BT: (B, T) V; gradient flows.
        old_value_BT: (B, T) V when the trajectory was sampled; constant.
        return_BT: (B, T) regression target; constant.
        clip: in units of the reward; None for the plain error.

    Returns:
        l, and True where the clipping removes the gradient; both (B, T).
    """
    error_BT = (value_BT - return_BT).square()
    if clip is None:
        return 0.5 * error_BT, torch.zeros_like(error_BT, dtype=torch.bool)
    clipped_BT = old_value_BT + (value_BT - old_value_BT).clamp(-clip, clip)
    clipped_error_BT = (clipped_BT - return_BT).square()
    return 0.5 * torch.maximum(error_BT, clipped_error_BT), (clipped_error_BT > error_BT).detach()


def ppo_loss(
    log_pf_BT: Tensor,
    old_log_pf_BT: Tensor,
    mask_BT: Tensor,
    advantage_BT: Tensor,
    value_BT: Tensor,
    old_value_BT: Tensor,
    return_BT: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    value_clip: float | None = 0.2,
    value_coefficient: float = 0.1,
    entropy_BT: Tensor | None = None,
    entropy_coefficient: float = 0.0,
    weight_BT: Tensor | None = None,
) -> LossOutput:
    """Clipped surrogate, value error and entropy bonus, means over all actions of the batch.

        loss = mean_bt [ -w min(ρ A, clip(ρ, 1 - clip_low, 1 + clip_high) A) + c_v l_value - c_e H ],    ρ = q / q_old

    Args:
        log_pf_BT: (B, T) log q of each action, stop included (see ``append_stop``), nats; gradient flows.
        old_log_pf_BT: (B, T) the same when the trajectory was sampled, nats; constant.
        mask_BT: (B, T) bool, True on actions.
        advantage_BT: (B, T) advantage of each action; constant.
        value_BT: (B, T) value of the prefix at which each action is taken; gradient flows.
        old_value_BT: (B, T) the same when the trajectory was sampled; constant.
        return_BT: (B, T) regression target of the value; constant.
        clip_low: how far below 1 the ratio may take effect.
        clip_high: how far above 1 the ratio may take effect.
        value_clip: how far from the old value the new one may take effect, in units of the reward; None for no bound.
        value_coefficient: c_v.
        entropy_BT: (B, T) entropy H of the distribution that each action is drawn from, nats; gradient flows; None
            without a bonus.
        entropy_coefficient: c_e.
        weight_BT: (B, T) importance weight w of each action; constant; None for 1.

    Returns:
        The loss; diagnostics ``policy_loss``, ``value_loss``, ``value_clip_fraction``, ``ratio_mean``,
        ``clip_fraction`` and ``approx_kl``, means over actions.

    Raises:
        ValueError: names the argument whose shape, dtype or value is wrong.

    Source: Schulman et al. 2017, arXiv:1707.06347, equations 7 and 9; settings Ziegler et al. 2019, arXiv:1909.08593.
    """
    check_clip(clip_low, clip_high)
    B, T = batch_and_length("log_pf_BT", log_pf_BT)
    check_shapes(
        old_log_pf_BT=(old_log_pf_BT, (B, T)),
        mask_BT=(mask_BT, (B, T)),
        advantage_BT=(advantage_BT, (B, T)),
        value_BT=(value_BT, (B, T)),
        old_value_BT=(old_value_BT, (B, T)),
        return_BT=(return_BT, (B, T)),
    )
    check_mask("mask_BT", mask_BT)
    log_ratio_BT = masked(log_pf_BT, mask_BT) - masked(old_log_pf_BT.detach(), mask_BT)
    policy_BT, removed_BT = clipped_surrogate(log_ratio_BT, masked(advantage_BT.detach(), mask_BT), clip_low, clip_high)
    if weight_BT is not None:
        check_shapes(weight_BT=(weight_BT, (B, T)))
        policy_BT = weight_BT.detach() * policy_BT
    old_value_BT, return_BT = masked(old_value_BT.detach(), mask_BT), masked(return_BT.detach(), mask_BT)
    value_error_BT, value_removed_BT = value_loss(masked(value_BT, mask_BT), old_value_BT, return_BT, value_clip)
    policy, value = masked(policy_BT, mask_BT).sum(), masked(value_error_BT, mask_BT).sum()
    total = policy + value_coefficient * value
    if entropy_BT is not None:
        check_shapes(entropy_BT=(entropy_BT, (B, T)))
        total = total - entropy_coefficient * masked(entropy_BT, mask_BT).sum()
    num_actions = mask_BT.sum().to(total.dtype)
    diagnostics = {
        "policy_loss": policy.detach() / num_actions.clamp_min(1.0),
        "value_loss": value.detach() / num_actions.clamp_min(1.0),
        "value_clip_fraction": (value_removed_BT & mask_BT).sum() / num_actions.clamp_min(1.0),
    }
    return LossOutput(total, num_actions, {**diagnostics, **ratio_diagnostics(log_ratio_BT, removed_BT, mask_BT)})


@dataclass(frozen=True)
class PPO(Objective):
    """PPO; the reward r is the ``log_reward_B`` column, taken as a plain number.

        r_t = 1[t is the last action] r - β (log q_old(a_t) - log q_ref(a_t)),    β from ``model.kl``

    Advantages by GAE, whitened over the rollout batch of each process; ``model.head`` gives the value.

    Args:
        clip_low: how far below 1 the probability ratio may take effect.
        clip_high: how far above 1 the probability ratio may take effect.
        value_clip: how far from the old value the new one may take effect, in units of the reward; None for no bound.
        value_coefficient: weight of the value error.
        entropy_coefficient: weight of the entropy bonus.
        gamma: discount for each action.
        lam: λ of generalised advantage estimation.
        whiten: shift and scale advantages to mean 0 and variance 1.
        kl: penalise the KL to the policy at the start of the stage in the ``reward``, or not (``none``).
        importance: weights for a sampler whose probabilities differ from the trained policy's; None for none. They
            multiply the surrogate; a rejected trajectory counts in none of the three terms.

    Source: Schulman et al. 2017, arXiv:1707.06347; for language models Ziegler et al. 2019, arXiv:1909.08593.
    """

    clip_low: float = field(default=0.2, kw_only=True)
    clip_high: float = field(default=0.2, kw_only=True)
    value_clip: float | None = field(default=0.2, kw_only=True)
    value_coefficient: float = field(default=0.1, kw_only=True)
    entropy_coefficient: float = field(default=0.0, kw_only=True)
    gamma: float = field(default=1.0, kw_only=True)
    lam: float = field(default=0.95, kw_only=True)
    whiten: bool = field(default=True, kw_only=True)
    kl: Literal["none", "reward"] = field(default="reward", kw_only=True)
    importance: ImportanceSettings | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_clip(self.clip_low, self.clip_high)
        check_choice("kl", self.kl, ("none", "reward"))
        for name in ("gamma", "lam"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 <= {name} <= 1")
        if self.value_clip is not None and self.value_clip <= 0.0:
            raise ValueError(f"value_clip is {self.value_clip}, expected a positive number, or null for no clipping")

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read."""
        names = {f"{whose}{name}" for whose in ("", "old_") for name in ("log_pf_BT", "log_pstop_BT1", "value_BT1")}
        names |= {"mask_BT", "forced_stop_B", "log_reward_B"}
        if self.entropy_coefficient:
            names.add("entropy_BT1")
        if self.kl == "reward":
            names |= {"ref_log_pf_BT", "ref_log_pstop_BT1", "kl_coefficient"}
        return frozenset(names) | behaviour_columns(self.importance)

    def prepare(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Advantages and returns of the whole rollout batch."""
        old_BT1, actions_BT1 = actions_of(columns, "old_")
        check_shapes(old_value_BT1=(columns["old_value_BT1"], tuple(old_BT1.shape)))
        penalty_BT1 = torch.zeros_like(old_BT1)
        if self.kl == "reward":
            penalty_BT1 = columns["kl_coefficient"] * (old_BT1 - actions_of(columns, "ref_")[0])
        reward_BT1 = action_rewards(columns["log_reward_B"].detach(), penalty_BT1.detach(), actions_BT1)
        advantage_BT1, return_BT1 = generalised_advantages(
            reward_BT1, columns["old_value_BT1"], actions_BT1, gamma=self.gamma, lam=self.lam
        )
        advantage_BT1 = whitened(advantage_BT1, actions_BT1) if self.whiten else advantage_BT1
        return {"advantage_BT1": advantage_BT1, "return_BT1": return_BT1}

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        log_pf_BT1, actions_BT1 = actions_of(columns, "")
        names = ("value_BT1", "entropy_BT1") if self.entropy_coefficient else ("value_BT1",)
        check_shapes(**{name: (columns[name], tuple(log_pf_BT1.shape)) for name in names})
        weight_BT1: Tensor | None = None
        corrected: dict[str, Tensor] = {}
        if self.importance is not None:
            weight_BT1, accepted_B, corrected = weights_of(columns, self.importance)
            actions_BT1 = actions_BT1 & accepted_B.unsqueeze(1)
        output = ppo_loss(
            log_pf_BT1,
            actions_of(columns, "old_")[0],
            actions_BT1,
            columns["advantage_BT1"],
            columns["value_BT1"],
            columns["old_value_BT1"],
            columns["return_BT1"],
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            value_clip=self.value_clip,
            value_coefficient=self.value_coefficient,
            entropy_BT=columns["entropy_BT1"] if self.entropy_coefficient else None,
            entropy_coefficient=self.entropy_coefficient,
            weight_BT=weight_BT1,
        )
        return LossOutput(output.sum, output.weight, {**output.diagnostics, **corrected})
