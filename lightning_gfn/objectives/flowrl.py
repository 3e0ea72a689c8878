"""FlowRL: trajectory balance towards the reference tilted by the reward; four choices of log Z behind one switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.functional.advantages import group_advantages
from lightning_gfn.objectives.functional.checks import batch_and_length, check_choice, check_shapes
from lightning_gfn.objectives.functional.clipped_surrogate import check_clip
from lightning_gfn.objectives.functional.importance import ImportanceSettings, behaviour_columns, weights_of
from lightning_gfn.objectives.functional.log_z import LOG_Z, LogZ, estimated_log_z, noise_log_z
from lightning_gfn.objectives.functional.stop_action import actions_of
from lightning_gfn.types import LossOutput

RewardScale = Literal["group", "none"]
Prior = Literal["reference", "old"]


def check_flow_settings(beta: float, gap_clip: tuple[float, float] | None) -> None:
    """Refuse a negative reward weight and a clipping range that excludes 0.

    Raises:
        ValueError: names the argument.
    """
    if beta < 0.0:
        raise ValueError(f"beta is {beta}, expected beta >= 0")
    if gap_clip is not None and min(gap_clip) < 0.0:
        raise ValueError(f"gap_clip is {gap_clip}, expected two bounds >= 0: how far the gap may lie below and above 0")


def flowrl_loss(
    log_pf_B: Tensor,
    old_log_pf_B: Tensor,
    ref_log_pf_B: Tensor,
    length_B: Tensor,
    log_z_B: Tensor,
    reward_B: Tensor,
    *,
    beta: float = 15.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    gap_clip: tuple[float, float] | None = None,
    importance_B: Tensor | None = None,
    keep_B: Tensor | None = None,
) -> LossOutput:
    """Squared residual of trajectory balance towards q_ref · exp(β r), weighted by a clipped importance ratio.

        g_b  = log Z_b + (log q_old - log q_ref) / l_b - β r_b
        w_b  = clip(q / q_old, 1 - clip_low, 1 + clip_high), constant
        loss = mean_b v_b w_b (clip(g_b, -gap_clip[0], gap_clip[1]) + (log q - log q_old) / l_b)²

    Without ``gap_clip`` the bracket is log Z + log(q / q_ref) / l - β r, FlowRL's; with it, it is GFlowRL's. At l = 1
    the residuals vanish where q = q_ref exp(β r) / Z. With l the number of actions they vanish where
    q = q_ref exp(l (β r - log Z)): long trajectories are favoured where β r > log Z, and short ones elsewhere.

    Args:
        log_pf_B: (B,) log q of the whole trajectory, nats; gradient flows.
        old_log_pf_B: (B,) the same when the trajectory was sampled, nats; constant.
        ref_log_pf_B: (B,) the same under the frozen reference, nats; constant.
        length_B: (B,) divisor l of log-probabilities: the number of actions, or 1; constant.
        log_z_B: (B,) log Z of each trajectory's problem, nats (per action where l is the number of actions); gradient
            flows.
        reward_B: (B,) reward r; constant.
        beta: weight of the reward, nats.
        clip_low: how far below 1 the weight may lie; 1 leaves it free.
        clip_high: how far above 1 the weight may lie.
        gap_clip: bounds of g below and above 0, nats; None for none. A clipped g passes no gradient to log Z.
        importance_B: (B,) importance weight v of each trajectory; constant; None for 1.
        keep_B: (B,) bool, False on trajectories left out of sum and weight; None keeps all.

    Returns:
        Weighted sum over the kept trajectories; diagnostics over all of them: ``residual_mean``, ``residual_std``,
        ``log_z_mean`` (used), ``log_z_estimate`` (mean of β r - log(q / q_ref) / l), ``ratio_mean`` (of w) and
        ``gap_clip_fraction``.

    Raises:
        ValueError: names the argument whose shape or value is wrong.

    Source: Zhu et al. 2025, arXiv:2509.15207, with w clipped as the equation says (the released code does not clip
    it); clipped gap: GFlowRL, arXiv:2607.13394.
    """
    check_clip(clip_low, clip_high)
    check_flow_settings(beta, gap_clip)
    shape = (log_pf_B.numel(),)
    check_shapes(
        log_pf_B=(log_pf_B, shape),
        old_log_pf_B=(old_log_pf_B, shape),
        ref_log_pf_B=(ref_log_pf_B, shape),
        length_B=(length_B, shape),
        log_z_B=(log_z_B, shape),
        reward_B=(reward_B, shape),
    )
    old_B, target_B = old_log_pf_B.detach(), beta * reward_B.detach()
    prior_B = ref_log_pf_B.detach()
    log_ratio_B = log_pf_B - old_B
    weight_B = clipped_ratio(log_pf_B, old_log_pf_B, clip_low, clip_high)
    gap_B = log_z_B + (old_B - prior_B) / length_B - target_B
    bounded_B = gap_B if gap_clip is None else gap_B.clamp(-gap_clip[0], gap_clip[1])
    residual_B = bounded_B + log_ratio_B / length_B
    detached_B = residual_B.detach()
    importance_B = torch.ones_like(weight_B) if importance_B is None else importance_B
    keep_B = torch.ones_like(weight_B, dtype=torch.bool) if keep_B is None else keep_B
    check_shapes(importance_B=(importance_B, shape), keep_B=(keep_B, shape))
    loss_B = importance_B.detach() * weight_B * residual_B.square()
    return LossOutput(
        sum=torch.where(keep_B, loss_B, 0.0).sum(),
        weight=keep_B.sum().to(detached_B.dtype),
        diagnostics={
            "residual_mean": detached_B.mean(),
            "residual_std": detached_B.std(correction=0),
            "log_z_mean": log_z_B.detach().mean(),
            "log_z_estimate": (target_B - (log_pf_B.detach() - prior_B) / length_B).mean(),
            "ratio_mean": weight_B.mean(),
            "gap_clip_fraction": (bounded_B != gap_B).to(detached_B.dtype).mean(),
        },
    )


def clipped_ratio(log_pf_B: Tensor, old_log_pf_B: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """clip(q / q_old, 1 - clip_low, 1 + clip_high) of whole trajectories, (B,), without gradient.

    Args:
        log_pf_B: (B,) log q of whole trajectories, nats.
        old_log_pf_B: (B,) the same when they were sampled, nats.
        clip_low: how far the ratio may fall below 1.
        clip_high: how far it may rise above 1.
    """
    return (log_pf_B.detach() - old_log_pf_B.detach()).exp().clamp(1.0 - clip_low, 1.0 + clip_high)


def whole_log_probs(columns: Mapping[str, Tensor], prefix: str = "") -> tuple[Tensor, Tensor]:
    """log q of whole trajectories, (B,), and their numbers of actions (tokens and free stop), int64 (B,).

    Args:
        columns: hold ``<prefix>log_pf_BT`` and ``<prefix>log_pstop_BT1``.
        prefix: which policy: "" the present one, "old_" or "ref_".

    Raises:
        ValueError: names the column whose shape or dtype is wrong.
    """
    B, T = batch_and_length("mask_BT", columns["mask_BT"])
    shapes = {f"{prefix}log_pf_BT": (B, T), f"{prefix}log_pstop_BT1": (B, T + 1)}
    check_shapes(**{name: (columns[name], shape) for name, shape in shapes.items()})
    log_pf_BT1, actions_BT1 = actions_of(columns, prefix)
    return log_pf_BT1.sum(1), actions_BT1.sum(1)


@dataclass(frozen=True)
class FlowRL(Objective):
    """FlowRL; the reward r is the ``log_reward_B`` column, taken as a plain number, which must not contain log q_ref.

    Sampled from the present policy, without length normalisation and at weight 1, log Z is a baseline alone: the
    expected gradient is the same for every value that does not depend on the trajectory, since E[∇ log q] = 0. With
    length normalisation it is not, since E[∇ log q / l] ≠ 0; then log Z decides which lengths are favoured.

    With the ``prior`` q_old, a new one in each rollout batch, the log Z that minimises the loss at weight 1 says how
    often the problem is solved, without a sample: with l = 1

        log Z* = β E_old[r] + KL(q_old ‖ q)

    and q = q_old in the first update. ``model.selection`` chooses problems by log Z / β.

    Args:
        beta: weight of the reward, nats.
        log_z: ``learned`` by model.head; ``group_mean``: mean of β r - log(q_old / q_ref) / l over a problem's
            trajectories, constant while a rollout batch is used; ``vargrad``: the same under the present policy, the
            minimiser of the loss; ``noise``: a draw of N(0.5, 1) for each problem, see ``noise_log_z``.
        length_normalise: divide log-probabilities by the number of actions; this moves the fixed point.
        reward_scale: ``group``: (r - mean) / standard deviation over the problem's trajectories; ``none``: r itself.
        clip_low: how far below 1 the importance weight may lie; 1 leaves it free.
        clip_high: how far above 1 the importance weight may lie.
        gap_clip: bounds below and above 0 of the residual at the old policy, nats; None for none.
        prior: what the reward tilts, in the place of q_ref: the ``reference``, frozen at the start of the stage, or the
            ``old`` policy, which sampled the rollout batch.
        importance: weights of whole trajectories for a sampler whose probabilities differ from the trained policy's;
            None for none. ``vargrad`` estimates log Z under them, ``group_mean`` without.

    Source: Zhu et al. 2025, arXiv:2509.15207; length normalisation and noise control discussed in arXiv:2607.13394; the
    old policy as prior and what log Z says then: Kim et al. 2026, arXiv:2602.12642 (PACED-RL), proposition 4.1, as
    public notes on the paper give it (their β is 1 / β here).
    """

    beta: float = field(default=15.0, kw_only=True)
    log_z: LogZ = field(default="learned", kw_only=True)
    length_normalise: bool = field(default=True, kw_only=True)
    reward_scale: RewardScale = field(default="group", kw_only=True)
    clip_low: float = field(default=0.2, kw_only=True)
    clip_high: float = field(default=0.2, kw_only=True)
    gap_clip: tuple[float, float] | None = field(default=None, kw_only=True)
    prior: Prior = field(default="reference", kw_only=True)
    importance: ImportanceSettings | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_clip(self.clip_low, self.clip_high)
        check_flow_settings(self.beta, self.gap_clip)
        check_choice("log_z", self.log_z, LOG_Z)
        check_choice("reward_scale", self.reward_scale, ("group", "none"))
        check_choice("prior", self.prior, ("reference", "old"))
        if self.importance is not None and self.importance.level == "token":
            raise ValueError("importance.level is token, but the loss is of whole trajectories: set it to sequence")

    @property
    def requires(self) -> frozenset[str]:
        """Columns that are read; ``log_z_B`` only where it is learned, groups only where they are compared."""
        names = {f"{prefix}log_pf_BT" for prefix in ("", "old_", self.prior_prefix)}
        names |= {f"{prefix}log_pstop_BT1" for prefix in ("", "old_", self.prior_prefix)}
        names |= {"mask_BT", "forced_stop_B", "log_reward_B"}
        if self.log_z == "learned":
            names.add("log_z_B")
        if self.log_z != "learned" or self.reward_scale == "group":
            names.add("group_B")
        return frozenset(names) | behaviour_columns(self.importance)

    @property
    def prior_prefix(self) -> str:
        """Beginning of the names of the prior's columns."""
        return "old_" if self.prior == "old" else "ref_"

    def mean_reward(self, log_z_B: Tensor) -> Tensor:
        """What a learned log Z says of the mean reward of a problem under the old policy, log Z / β, (B,).

        Raises:
            ValueError: log Z says no such thing with these settings.
        """
        if self.prior != "old" or self.reward_scale != "none" or self.log_z != "learned" or self.beta <= 0.0:
            raise ValueError(
                f"log Z of {type(self).__name__} says how often a problem is solved only with prior: old, "
                f"reward_scale: none, log_z: learned and a beta above 0; they are {self.prior}, {self.reward_scale}, "
                f"{self.log_z} and {self.beta}: change model.objective, or remove model.selection"
            )
        return log_z_B / self.beta

    def prepare(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scaled rewards, and log Z where it is the group mean or noise, over the whole groups of a rollout batch."""
        reward_B = columns["log_reward_B"].detach()
        check_shapes(log_reward_B=(reward_B, tuple(columns["forced_stop_B"].shape)))
        prepared = {"advantage_B": reward_B}
        if self.reward_scale == "group":
            prepared["advantage_B"] = group_advantages(reward_B, columns["group_B"], scale="std")
        if self.log_z in ("group_mean", "noise"):
            old_B, num_actions_B = whole_log_probs(columns, "old_")
            if self.log_z == "noise":
                return {**prepared, "log_z_B": noise_log_z(num_actions_B, columns["group_B"]).to(old_B)}
            ref_B, _ = whole_log_probs(columns, self.prior_prefix)
            prepared["log_z_B"] = estimated_log_z(
                old_B,
                ref_B,
                self.divisor(num_actions_B, old_B),
                self.beta * prepared["advantage_B"],
                torch.ones_like(old_B),
                columns["group_B"],
            )
        return prepared

    def divisor(self, num_actions_B: Tensor, like_B: Tensor) -> Tensor:
        """The length that divides log-probabilities, (B,), in the dtype of ``like_B``."""
        return num_actions_B.clamp_min(1).to(like_B) if self.length_normalise else torch.ones_like(like_B)

    def __call__(self, columns: Mapping[str, Tensor]) -> LossOutput:
        """The loss of one batch."""
        log_pf_B, num_actions_B = whole_log_probs(columns)
        old_B, _ = whole_log_probs(columns, "old_")
        ref_B, _ = whole_log_probs(columns, self.prior_prefix)
        length_B, reward_B = self.divisor(num_actions_B, old_B), columns["advantage_B"]
        importance_B, keep_B = torch.ones_like(old_B), torch.ones_like(old_B, dtype=torch.bool)
        corrected: dict[str, Tensor] = {}
        if self.importance is not None:
            weight_BT1, keep_B, corrected = weights_of(columns, self.importance)
            importance_B = weight_BT1[:, 0]
        if self.log_z == "vargrad":
            weight_B = clipped_ratio(log_pf_B, old_B, self.clip_low, self.clip_high) * importance_B * keep_B
            log_z_B = estimated_log_z(log_pf_B, ref_B, length_B, self.beta * reward_B, weight_B, columns["group_B"])
        else:
            log_z_B = columns["log_z_B"]
        output = flowrl_loss(
            log_pf_B,
            old_B,
            ref_B,
            length_B,
            log_z_B,
            reward_B,
            beta=self.beta,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            gap_clip=self.gap_clip,
            importance_B=importance_B,
            keep_B=keep_B,
        )
        return LossOutput(output.sum, output.weight, {**output.diagnostics, **corrected})
