"""Advantages that correct samples of low probability raise: by their rank, or by their probability itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gfn.objectives.advantage_rules.base import AdvantageRule, PlainAdvantages, groups
from lightning_gfn.objectives.functional.advantages import in_mixed_group
from lightning_gfn.objectives.functional.stop_action import actions_of

OLD_COLUMNS = frozenset({"old_log_pf_BT", "old_log_pstop_BT1", "mask_BT", "forced_stop_B"})


def ranks_of_likelihood(log_q_B: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor]:
    """How many samples of the problem are more probable than each, and how many there are.

    Args:
        log_q_B: (B,) log q of each whole trajectory, nats.
        group_B: (B,) int64.

    Returns:
        Two (B,) int64: 0 for the most probable one, equal for equally probable ones; and the size of the group.
    """
    same_BB = group_B[:, None] == group_B[None, :]
    above_BB = log_q_B[None, :] > log_q_B[:, None]
    return (same_BB & above_BB).sum(1), same_BB.sum(1)


@dataclass(frozen=True)
class Unlikeliness(AdvantageRule):
    """Unlikeliness reward: of the correct samples of a problem, the less probable ones get more.

        r_b ← r_b (1 - β (n - rank_b) / n) where correct;    rank 0 is the most probable of the n samples of the problem

    then the advantages of the objective. Probabilities are those of whole samples when they were drawn. Groups whose
    rewards are all equal before this have advantage 0.

    Args:
        beta: β, the most that is taken off a reward, as a share of it.

    Source: He, Fried and Welleck 2025, arXiv:2506.02355 (β = 0.25). That groups all right or all wrong are
    skipped is the paper's; equal ranks for equally probable samples (copies of one completion) are ours.
    """

    beta: float = 0.25

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta <= 1.0:
            raise ValueError(f"advantage.beta is {self.beta}, expected 0 to 1")

    @property
    def requires(self) -> frozenset[str]:
        return OLD_COLUMNS

    def advantages(self, reward_B: Tensor, columns: Mapping[str, Tensor], plain: PlainAdvantages) -> Tensor:
        """The objective's advantages of the changed rewards."""
        log_q_B = actions_of(columns, "old_")[0].detach().sum(1)
        rank_B, size_B = ranks_of_likelihood(log_q_B, columns["group_B"])
        share_B = ((size_B - rank_B) / size_B).to(reward_B)
        verdict_B = columns["log_reward_B"].detach()
        changed_B = torch.where(verdict_B > 0.0, reward_B * (1.0 - self.beta * share_B), reward_B)
        return torch.where(in_mixed_group(verdict_B, columns["group_B"]), plain(changed_B), 0.0)


@dataclass(frozen=True)
class UniformCorrect(AdvantageRule):
    """UCPO: the advantage of the correct samples of a problem is shared out by their inverse probability.

        A_b ← A_b n_c [ (1 - τ) / n_c + τ (1 / p_b) / Σ_j (1 / p_j) ]        over the n_c correct samples of a problem
        p_b = exp(log q(z_b) / |z_b|), |z| actions: tokens and the free stop

    so that the sum of the correct samples' advantages stays and what is already probable gains less. Wrong samples keep
    their advantage. Probabilities are those when the samples were drawn.

    Args:
        tau: τ, from 0 (plain GRPO) to 1 (advantages proportional to 1 / p).

    Source: Lochab, Li and Zhang 2026, arXiv:2605.00365. The paper's equations could not be read; this is the
    estimator of the released code that its training scripts name (github.com/AnamikaLochab/UCPO, ``iq``, τ = 0.2),
    without its bound of 1e-6 on the normalised p.
    """

    tau: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 <= self.tau <= 1.0:
            raise ValueError(f"advantage.tau is {self.tau}, expected 0 to 1")

    @property
    def requires(self) -> frozenset[str]:
        return OLD_COLUMNS

    def advantages(self, reward_B: Tensor, columns: Mapping[str, Tensor], plain: PlainAdvantages) -> Tensor:
        """The objective's advantages, shared out among correct samples."""
        log_pf_BT1, actions_BT1 = actions_of(columns, "old_")
        mean_B = log_pf_BT1.detach().sum(1) / actions_BT1.sum(1).clamp_min(1)
        advantage_B = plain(reward_B)
        correct_B = columns["log_reward_B"] > 0.0
        for rows_N in groups(columns["group_B"]):
            right_C = rows_N[correct_B[rows_N]]
            inverse_C = torch.softmax(-mean_B[right_C], 0).to(advantage_B)
            advantage_B[right_C] *= 1.0 - self.tau + self.tau * len(right_C) * inverse_C
        return advantage_B
