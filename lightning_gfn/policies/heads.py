"""Learned quantities beside the policy: log Z of a problem and log F of a state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_gfn.types import Rollouts, Scores


class Head(nn.Module, ABC):
    """Gives one column of ``interfaces.COLUMNS``; its weights are made by ``build``."""

    provides: ClassVar[frozenset[str]]
    """``log_z_B`` or ``log_f_BT1``."""
    needs_hidden: ClassVar[bool]
    """True if ``forward`` reads ``scores.hidden_NT1H``."""

    @abstractmethod
    def build(self, hidden_size: int) -> None:
        """Make the weights for a policy of this hidden width."""

    @abstractmethod
    def forward(self, scores: Scores, rollouts: Rollouts) -> Tensor:
        """The column, with gradient to the head."""


def output_network(hidden_size: int, width: int | None, initial: float) -> nn.Sequential:
    """A linear layer, or a perceptron with one hidden layer, whose output is ``initial`` before training.

    Args:
        hidden_size: H.
        width: units of the hidden layer; None for a linear layer.
        initial: the constant.

    Returns:
        network (…, H) → (…, 1).
    """
    output = nn.Linear(hidden_size if width is None else width, 1)
    nn.init.zeros_(output.weight)
    nn.init.constant_(output.bias, initial)
    if width is None:
        return nn.Sequential(output)
    return nn.Sequential(nn.Linear(hidden_size, width), nn.GELU(), output)


def hidden_of(scores: Scores, head: Head, detach: bool) -> Tensor:
    """Hidden states in float32, cut off from the policy's graph if asked."""
    if scores.hidden_NT1H is None:
        raise ValueError(f"{type(head).__name__} reads hidden states: call Policy.score with hidden=True")
    hidden_NT1H = scores.hidden_NT1H.float()
    return hidden_NT1H.detach() if detach else hidden_NT1H


class LogZScalar(Head):
    """One learned log Z for all problems.

    Args:
        initial: value before training, nats.

    Source: Malkin et al. 2022, arXiv:2201.13259, section 3.
    """

    provides = frozenset({"log_z_B"})
    needs_hidden = False

    def __init__(self, *, initial: float = 0.0) -> None:
        super().__init__()
        self.log_z = nn.Parameter(torch.tensor(float(initial)))

    def build(self, hidden_size: int) -> None:
        """Nothing to make."""

    def forward(self, scores: Scores, rollouts: Rollouts) -> Tensor:
        """log Z of each trajectory's problem, (B,)."""
        return self.log_z.expand(rollouts.num_trajectories)


class LogZHead(Head):
    """log Z of a problem from the hidden state at the end of its prompt.

        log Z = f(h(prefix 0 of the trajectory's first step))

    Args:
        initial: value before training, nats.
        width: units of a hidden layer; a linear map if None.
        detach: keep the gradient of log Z from the policy's weights.
    """

    provides = frozenset({"log_z_B"})
    needs_hidden = True

    def __init__(self, *, initial: float = 0.0, width: int | None = None, detach: bool = False) -> None:
        super().__init__()
        self.initial, self.width, self.detach = initial, width, detach

    def build(self, hidden_size: int) -> None:
        """Make the network."""
        self.network = output_network(hidden_size, self.width, self.initial)

    def forward(self, scores: Scores, rollouts: Rollouts) -> Tensor:
        """log Z of each trajectory's problem, (B,)."""
        trajectories_B = torch.arange(rollouts.num_trajectories, device=rollouts.trajectory_index_N.device)
        first_step_B = torch.searchsorted(rollouts.trajectory_index_N.contiguous(), trajectories_B)
        hidden_BH = hidden_of(scores, self, self.detach)[first_step_B, 0]
        return self.network(hidden_BH).squeeze(-1)


class FlowHead(Head):
    """log state flow of every prefix of a single-step trajectory.

        log F(prefix) = f(h(prefix))

    Args:
        initial: value before training, nats.
        width: units of a hidden layer; a linear map if None.
        detach: keep the gradient of log F from the policy's weights.

    Source: Madan et al. 2023, arXiv:2209.12782, section 3.
    """

    provides = frozenset({"log_f_BT1"})
    needs_hidden = True

    def __init__(self, *, initial: float = 0.0, width: int | None = None, detach: bool = False) -> None:
        super().__init__()
        self.initial, self.width, self.detach = initial, width, detach

    def build(self, hidden_size: int) -> None:
        """Make the network."""
        self.network = output_network(hidden_size, self.width, self.initial)

    def forward(self, scores: Scores, rollouts: Rollouts) -> Tensor:
        """log F of each prefix, (B, T + 1).

        Raises:
            ValueError: if trajectories have several steps.
        """
        if len(rollouts.trajectory_index_N) != rollouts.num_trajectories:
            raise ValueError(
                "FlowHead needs trajectories of one step; use LogZHead with trajectory balance for several"
            )
        return self.network(hidden_of(scores, self, self.detach)).squeeze(-1)
