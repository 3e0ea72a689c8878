"""Trajectories as sequences of a policy's own actions, so that every objective reads them."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_gfn.types import Rollouts, Scores


class JoinedLayout:
    """The steps of each trajectory one after the other.

    A trajectory with actions a¹, …, aᵐ of n¹, …, nᵐ tokens is read as the action sequence

        a¹_1 … a¹_n¹ ⊤ a²_1 … a²_n² ⊤ … aᵐ_1 … aᵐ_nᵐ        and at its end the stop ⊤ of the last step

    of T = Σ (nᵏ + 1) - 1 actions. Its T + 1 prefixes are those of the steps in order: the stop that ends a step is the
    action chosen at the step's last prefix. A stop that the maximum length forced counts as an action of probability 1.
    Trajectories that are no proofs and have one step keep the layout of their steps, padding included. Where tools
    wrote into them, tokens of tools are left out: of the prefixes from a call to the end of its result only the last
    one remains, since all of them are one state.

    Args:
        rollouts: N steps of B trajectories, steps of one trajectory in order.
    """

    def __init__(self, rollouts: Rollouts) -> None:
        mask_NT = rollouts.action_mask_NT
        self.lengths_N = mask_NT.sum(1)
        self.is_joined = len(mask_NT) != rollouts.num_trajectories or rollouts.episodes is not None
        self.index_BT1: Tensor | None = None
        if not self.is_joined:
            self.mask_BT = mask_NT
            self.last_step_B = torch.arange(len(mask_NT), device=mask_NT.device)
            if rollouts.steps.inserted_NT is not None:
                self.leave_out(rollouts.steps.chosen_NT)
            return
        num_trajectories, width = rollouts.num_trajectories, mask_NT.shape[1] + 1
        step_N = torch.arange(len(mask_NT), device=mask_NT.device)
        trajectory_N = rollouts.trajectory_index_N
        prefixes_B = torch.zeros(num_trajectories, dtype=torch.int64, device=mask_NT.device)
        prefixes_B.index_add_(0, trajectory_N, self.lengths_N + 1)
        first_B = torch.searchsorted(trajectory_N.contiguous(), torch.arange(num_trajectories, device=mask_NT.device))
        before_N = (self.lengths_N + 1).cumsum(0) - (self.lengths_N + 1)
        start_N = before_N - before_N[first_B][trajectory_N]
        prefix_T1 = torch.arange(width, device=mask_NT.device)
        is_prefix_NT1 = prefix_T1 <= self.lengths_N[:, None]
        place_NT1 = (start_N[:, None] + prefix_T1, trajectory_N[:, None].expand(-1, width))
        rows, columns = place_NT1[1][is_prefix_NT1], place_NT1[0][is_prefix_NT1]
        shape = (num_trajectories, int(prefixes_B.max()))
        self.index_BT1 = torch.full(shape, -1, dtype=torch.int64, device=mask_NT.device)
        self.index_BT1[rows, columns] = (step_N[:, None] * width + prefix_T1)[is_prefix_NT1]
        self.mask_BT = (self.index_BT1 >= 0)[:, 1:]
        self.last_step_B = first_B + torch.bincount(trajectory_N, minlength=num_trajectories) - 1
        self.starts_step_BT1 = torch.zeros(shape, dtype=torch.bool, device=mask_NT.device)
        self.starts_step_BT1[trajectory_N, start_N] = True

    def leave_out(self, chosen_NT: Tensor) -> None:
        """Keep the prefixes before chosen tokens, and the last one of each row.

        Args:
            chosen_NT: bool, True on tokens that the policy chose.
        """
        num_rows, width = chosen_NT.shape[0], chosen_NT.shape[1] + 1
        kept_NT1 = torch.nn.functional.pad(chosen_NT, (0, 1)).scatter(1, self.lengths_N[:, None], True)
        rows_M, prefixes_M = kept_NT1.nonzero(as_tuple=True)
        places_M = kept_NT1.cumsum(1)[rows_M, prefixes_M] - 1
        shape = (num_rows, int(kept_NT1.sum(1).max()) if num_rows else 1)
        self.index_BT1 = torch.full(shape, -1, dtype=torch.int64, device=chosen_NT.device)
        self.index_BT1[rows_M, places_M] = rows_M * width + prefixes_M
        self.mask_BT = (self.index_BT1 >= 0)[:, 1:]

    def prefixes(self, values_NT1: Tensor) -> Tensor:
        """Values per prefix of the steps, (N, T + 1), as values per prefix of the trajectories; 0 beyond the last."""
        if self.index_BT1 is None:
            return values_NT1
        taken_BT1 = values_NT1.reshape(-1)[self.index_BT1.clamp_min(0)]
        return torch.where(self.index_BT1 >= 0, taken_BT1, torch.zeros_like(taken_BT1))

    def log_pf(self, scores: Scores) -> Tensor:
        """Log-probability of each action of the trajectories, (B, T), nats; 0 beyond the last."""
        actions_NT1 = torch.nn.functional.pad(scores.log_pf_NT, (0, 1))
        if not self.is_joined:
            # In row n the last of the kept prefixes holds no token, so that the padding is never read.
            return scores.log_pf_NT if self.index_BT1 is None else self.prefixes(actions_NT1)[:, :-1]
        assert scores.log_pstop_NT1 is not None
        at_end_N1 = self.lengths_N[:, None]
        actions_NT1 = actions_NT1.scatter(1, at_end_N1, scores.log_pstop_NT1.gather(1, at_end_N1))
        return torch.where(self.mask_BT, self.prefixes(actions_NT1)[:, :-1], 0.0)

    def log_pstop(self, scores: Scores) -> Tensor:
        """Log-probability of ending the trajectory at each prefix, (B, T + 1), nats; several steps end at the last."""
        assert scores.log_pstop_NT1 is not None
        if not self.is_joined:
            return self.prefixes(scores.log_pstop_NT1)
        return torch.where(self.is_last_prefix(), self.prefixes(scores.log_pstop_NT1), 0.0)

    def stop_mask(self, scores: Scores) -> Tensor:
        """True on prefixes at which the trajectory may end, (B, T + 1)."""
        return self.is_last_prefix() if self.is_joined else self.prefixes(scores.stop_mask_NT1)

    def is_last_prefix(self) -> Tensor:
        """True on the last prefix of each trajectory, (B, T + 1)."""
        empty_BT1 = torch.nn.functional.pad(torch.zeros_like(self.mask_BT), (0, 1))
        return empty_BT1.scatter(1, self.mask_BT.sum(1, keepdim=True), True)
