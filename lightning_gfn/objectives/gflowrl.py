"""GFlowRL: FlowRL with the group's mean as log Z, a clipped gap and a one-sided importance weight."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning_gfn.objectives.flowrl import FlowRL, RewardScale
from lightning_gfn.objectives.functional.log_z import LogZ


@dataclass(frozen=True)
class GFlowRL(FlowRL):
    """GFlowRL: ``FlowRL`` at other settings, so that a difference between the two is a difference of these.

        g_b  = log Z + log(q_old / q_ref) / l_b - β r_b,    log Z = mean over the group of β r - log(q_old / q_ref) / l
        loss = mean_b min(q / q_old, 1 + clip_high) (clip(g_b, -gap_clip[0], gap_clip[1]) + log(q / q_old) / l_b)²

    The paper prints log Z without the division by l that its residuals have; here both are divided, so that g has mean
    0 in each group.

    Args:
        beta: weight of the reward, nats.
        log_z: as in ``FlowRL``; ``group_mean`` is the paper's.
        length_normalise: divide log-probabilities by the number of actions; this moves the fixed point.
        reward_scale: as in ``FlowRL``.
        clip_low: how far below 1 the importance weight may lie; 1 leaves it free.
        clip_high: how far above 1 the importance weight may lie.
        gap_clip: bounds of g below and above 0, nats; None for none. The default is a choice of this suite.
        prior: as in ``FlowRL``.
        importance: as in ``FlowRL``.

    Source: arXiv:2607.13394.
    """

    beta: float = field(default=8.0, kw_only=True)
    log_z: LogZ = field(default="group_mean", kw_only=True)
    reward_scale: RewardScale = field(default="none", kw_only=True)
    clip_low: float = field(default=1.0, kw_only=True)
    gap_clip: tuple[float, float] | None = field(default=(4.0, 4.0), kw_only=True)
