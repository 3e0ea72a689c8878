"""Inverse-CDF sampling over a vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor


class InverseCDF:
    """Inverse-CDF sampling of one action a row, in two levels: a block of the vocabulary, then an action in it.

    Sums over a block run in parallel, unlike a cumulative sum over the vocabulary, and only as many numbers as there
    are blocks, and as one block holds, are accumulated one by one, in float64 (float32 where the accelerator lacks it).

    Args:
        num_rows: the most rows of a call.
        vocab_size: V.
        device: where the logits are.
    """

    block = 64

    def __init__(self, num_rows: int, vocab_size: int, device: torch.device) -> None:
        self.vocab_size = vocab_size
        self.num_blocks = -(-vocab_size // self.block)
        self.weights = torch.zeros(num_rows, self.num_blocks * self.block, dtype=torch.float32, device=device)
        self.dtype = cdf_dtype(device)

    def __call__(self, logits_DV: Tensor, uniforms_R1: Tensor, state_R: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The action at each uniform number.

        Args:
            logits_DV: logits, -inf for what cannot happen.
            uniforms_R1: of the dtype of ``cdf_dtype``, in [0, 1).
            state_R: the row of the logits that each number is for; None if each has its own.

        Returns:
            actions (R, 1) and log-normalisers (D, 1), of that dtype.
        """
        num_states = len(logits_DV)
        weights = self.weights[:num_states]
        largest_D1 = logits_DV.amax(1, keepdim=True)
        torch.sub(logits_DV, largest_D1, out=weights[:, : self.vocab_size]).exp_()
        blocks = weights.view(num_states, self.num_blocks, self.block)
        cdf_DK = blocks.sum(2).cumsum(1, dtype=self.dtype)
        state_R = torch.arange(num_states, device=logits_DV.device) if state_R is None else state_R
        cdf_RK = cdf_DK.index_select(0, state_R)
        target_R1 = uniforms_R1 * cdf_RK[:, -1:]
        block_R1 = below(cdf_RK, target_R1)
        before_R1 = cdf_RK.gather(1, (block_R1 - 1).clamp_min_(0)).masked_fill_(block_R1 == 0, 0.0)
        chosen = blocks[state_R, block_R1[:, 0]]
        within_R1 = below(chosen.cumsum(1, dtype=self.dtype), target_R1 - before_R1)
        action_R1 = (block_R1 * self.block + within_R1).clamp_max_(self.vocab_size - 1)
        return action_R1, largest_D1 + cdf_DK[:, -1:].log()

    def entropy(self, num_states: int) -> Tensor:
        """Entropy of the distributions of the last call, (D,), nats, float32.

            H = log W - (1 / W) Σ_a w_a log w_a,      W = Σ_a w_a

        Args:
            num_states: D of that call.
        """
        weights = self.weights[:num_states, : self.vocab_size]
        whole_D = weights.sum(1, dtype=self.dtype)
        return (whole_D.log() + torch.special.entr(weights).sum(1, dtype=self.dtype) / whole_D).float()


def cdf_dtype(device: torch.device) -> torch.dtype:
    """What cumulative sums and uniform numbers are kept in on this device."""
    return torch.float32 if device.type == "mps" else torch.float64


def below(cdf_RK: Tensor, target_R1: Tensor) -> Tensor:
    """The first column whose cumulative weight exceeds the target, never one of zero weight.

    A target that rounding put at the total or above is moved below it. Weights that are not finite give the last
    column: an index that exists, so that the caller can say what is wrong.
    """
    limit_R1 = cdf_RK[:, -1:] * (1 - torch.finfo(cdf_RK.dtype).eps)
    found_R1 = torch.searchsorted(cdf_RK, torch.minimum(target_R1, limit_R1), right=True)
    return found_R1.clamp_max_(cdf_RK.shape[1] - 1)
