"""What turns probability ratios and advantages into a loss for each action."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ActionTerms:
    """What is known of the actions of B trajectories.

    Args:
        log_pf_BT: (B, T) log q of each action, 0 beyond the last, nats; gradient flows.
        log_ratio_BT: (B, T) log q - log q_old, 0 beyond the last action, nats; gradient flows.
        advantage_BT: (B, T) advantage of the trajectory; constant.
        mask_BT: (B, T) bool, True on actions that count.
        clip_low: how far below 1 the ratio may take effect.
        clip_high: how far above 1 the ratio may take effect.
    """

    log_pf_BT: Tensor
    log_ratio_BT: Tensor
    advantage_BT: Tensor
    mask_BT: Tensor
    clip_low: float
    clip_high: float


class Surrogate(ABC):
    """Loss of each action in place of PPO's clipped surrogate; a frozen dataclass that YAML names in ``surrogate``."""

    @abstractmethod
    def __call__(self, terms: ActionTerms) -> tuple[Tensor, Tensor]:
        """The loss of each action.

        Args:
            terms: probabilities and advantages.

        Returns:
            The loss, and True where the surrogate holds the action back; both (B, T), arbitrary beyond the last action.
        """
