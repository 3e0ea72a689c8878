"""Learned quantities beside the policy: log Z of a problem, log F of a state, and its value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_gfn.interfaces import Policy
from lightning_gfn.types import Rollouts, Scores, StepBatch


class Head(nn.Module, ABC):
    """Gives one column of ``interfaces.COLUMNS``; its weights are made by ``build``."""

    provides: ClassVar[frozenset[str]]
    """``log_z_B``, ``log_f_BT1`` or ``value_BT1``."""
    needs_hidden: ClassVar[bool]
    """True if ``read`` looks at ``scores.hidden_NT1H`` or ``scores.pooled_NH``."""

    @abstractmethod
    def build(self, hidden_size: int) -> None:
        """Make the weights for a policy of this hidden width."""

    def build_for(self, policy: Policy) -> None:
        """Make the weights for this policy; by default its hidden width is all that matters."""
        self.build(policy.hidden_size)

    @abstractmethod
    def read(self, scores: Scores | None, steps: StepBatch) -> Tensor:
        """One value for each step, (N,), or for each prefix of each step, (N, T + 1); no row depends on another.

        Args:
            scores: the policy's scores of these steps; None may be given where ``needs_hidden`` is False.
            steps: contexts and actions.
        """

    def column(self, values_N: Tensor, rollouts: Rollouts) -> Tensor:
        """The column from what ``read`` gave: of each trajectory its first step, or all prefixes of all steps.

        Args:
            values_N: (N,) or (N, T + 1).
            rollouts: the trajectories of these steps.
        """
        if values_N.ndim == 2:
            return values_N
        trajectories_B = torch.arange(rollouts.num_trajectories, device=rollouts.trajectory_index_N.device)
        return values_N[torch.searchsorted(rollouts.trajectory_index_N.contiguous(), trajectories_B)]

    def forward(self, scores: Scores, rollouts: Rollouts) -> Tensor:
        """The column, with gradient to the head."""
        return self.column(self.read(scores, rollouts.steps), rollouts)


class InFloat32(nn.Module):
    """A module whose weights stay float32 when the model around it is cast to a narrower type.

    bfloat16 has 8 bits: a log Z of -300.7 would be -300, and an optimiser step below 1 would change nothing.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InFloat32:
        def apply_but_keep_type(tensor: Tensor) -> Tensor:
            applied = fn(tensor)
            return tensor.to(applied.device) if applied.dtype in (torch.bfloat16, torch.float16) else applied

        super()._apply(apply_but_keep_type, recurse)
        return self


class Float32Network(InFloat32, nn.Sequential):
    """Layers that compute in float32 under autocast too."""

    def forward(self, x: Tensor) -> Tensor:
        """The output in float32."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def output_network(hidden_size: int, width: int | None, initial: float) -> Float32Network:
    """A linear layer, or a perceptron with one hidden layer, whose output is ``initial`` before training.

    Args:
        hidden_size: H.
        width: units of the hidden layer; None for a linear layer.
        initial: the constant.

    Returns:
        network (…, H) → (…, 1), float32.
    """
    output = nn.Linear(hidden_size if width is None else width, 1, dtype=torch.float32)
    nn.init.zeros_(output.weight)
    nn.init.constant_(output.bias, initial)
    if width is None:
        return Float32Network(output)
    return Float32Network(nn.Linear(hidden_size, width, dtype=torch.float32), nn.GELU(), output)


def hidden_of(hidden: Tensor | None, head: Head, detach: bool) -> Tensor:
    """Hidden states in float32, cut off from the policy's graph if asked.

    Args:
        hidden: hidden states of one pass.
        head: named in the error.
        detach: let no gradient into the policy.

    Raises:
        ValueError: hidden states were not asked for.
    """
    if hidden is None:
        raise ValueError(f"{type(head).__name__} reads hidden states: call Policy.score with hidden=True")
    return hidden.float().detach() if detach else hidden.float()


class LogZScalar(InFloat32, Head):
    """One learned log Z for all problems.

    Args:
        initial: value before training, nats.

    Source: Malkin et al. 2022, arXiv:2201.13259, section 3.
    """

    provides = frozenset({"log_z_B"})
    needs_hidden = False

    def __init__(self, *, initial: float = 0.0) -> None:
        super().__init__()
        self.log_z = nn.Parameter(torch.tensor(float(initial), dtype=torch.float32))

    def build(self, hidden_size: int) -> None:
        """Nothing to make."""

    def read(self, scores: Scores | None, steps: StepBatch) -> Tensor:
        """log Z of each step's problem, (N,)."""
        return self.log_z.expand(steps.num_steps)


class HiddenHead(Head):
    """A head that reads the policy's hidden states h: f(h), with f linear or a perceptron, constant at the start.

    Args:
        initial: value before training.
        width: units of a hidden layer; a linear map if None.
        detach: keep the gradient of the head from the policy's weights.
    """

    needs_hidden = True

    def __init__(self, *, initial: float = 0.0, width: int | None = None, detach: bool = False) -> None:
        super().__init__()
        self.initial, self.width, self.detach = initial, width, detach

    def build(self, hidden_size: int) -> None:
        """Make the network."""
        self.network = output_network(hidden_size, self.width, self.initial)


class LogZHead(HiddenHead):
    """log Z of a problem from the hidden states of its prompt, nats.

        log Z = f(h(prefix 0 of the trajectory's first step)), or with ``pool`` f(mean of h over the first context)

    Args:
        initial: value before training, nats.
        width: units of a hidden layer; a linear map if None.
        detach: keep the gradient of the head from the policy's weights.
        pool: read the mean over the prompt (of the encoder's states, where there is an encoder) instead of its end.
    """

    provides = frozenset({"log_z_B"})

    def __init__(
        self, *, initial: float = 0.0, width: int | None = None, detach: bool = False, pool: bool = False
    ) -> None:
        super().__init__(initial=initial, width=width, detach=detach)
        self.pool = pool

    def read(self, scores: Scores | None, steps: StepBatch) -> Tensor:
        """log Z of each step's context, (N,)."""
        assert scores is not None
        if self.pool:
            hidden_NH = hidden_of(scores.pooled_NH, self, self.detach)
        else:
            hidden_NH = hidden_of(scores.hidden_NT1H, self, self.detach)[:, 0]
        return self.network(hidden_NH).squeeze(-1)


class PrefixHead(HiddenHead):
    """One number for every prefix of every step: f(h(prefix))."""

    def hidden_states(self, scores: Scores | None, steps: StepBatch) -> Tensor:
        """h of each prefix of each step, (N, T + 1, H)."""
        assert scores is not None
        return hidden_of(scores.hidden_NT1H, self, self.detach)

    def read(self, scores: Scores | None, steps: StepBatch) -> Tensor:
        """f of each prefix of each step, (N, T + 1); a trajectory of one step is that step, N = B."""
        return self.network(self.hidden_states(scores, steps)).squeeze(-1)


class FlowHead(PrefixHead):
    """log state flow of every prefix, nats: log F(prefix) = f(h(prefix)).

    Source: Madan et al. 2023, arXiv:2209.12782, section 3.
    """

    provides = frozenset({"log_f_BT1"})


class ValueHead(PrefixHead):
    """Value of every prefix, in units of the reward: V(prefix) = f(h(prefix)).

    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2.
    """

    provides = frozenset({"value_BT1"})
