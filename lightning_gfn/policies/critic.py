"""A value function with a network of its own."""

from __future__ import annotations

import copy

from torch import Tensor

from lightning_gfn.interfaces import Policy
from lightning_gfn.policies.heads import ValueHead
from lightning_gfn.policies.language_model import LanguageModel
from lightning_gfn.types import Scores, StepBatch


class Critic(ValueHead):
    """Value of every prefix from a copy of the policy's network, made at the start of the stage and trained apart.

        V(prefix) = f(h'(prefix)),    h' the hidden states of the copy

    Of the copy the same weights are trained as of the policy: all of them, or its adapter. Its learning rate is
    ``optimizer.head_lr``: a rate for heads is too large for a network, set it to the policy's size. It is read by the
    pass that the policy's setting ``scoring`` chooses.

    Args:
        initial: value before training, in units of the reward.
        width: units of a hidden layer of f; a linear map if None.
    """

    needs_hidden = False

    def __init__(self, *, initial: float = 0.0, width: int | None = None) -> None:
        super().__init__(initial=initial, width=width)

    def build_for(self, policy: Policy) -> None:
        """Copy the policy's network, without its output layer.

        Raises:
            TypeError: if the policy has no network that could be copied.
        """
        if not isinstance(policy, LanguageModel):
            raise TypeError(
                f"Critic copies the network of a CausalLM or Seq2SeqLM, not of {type(policy).__name__}: use ValueHead"
            )
        self.architecture, self.pad_id, self.scoring = policy.architecture, policy.pad_id, policy.scoring.for_another()
        self.backbone = copy.deepcopy(self.architecture.backbone(policy.hugging_face))
        self.build(policy.hidden_size)

    def hidden_states(self, scores: Scores | None, steps: StepBatch) -> Tensor:
        """h' of each prefix of each step, (N, T + 1, H), float32."""
        reading = self.scoring.read(self.architecture, self.backbone, steps, self.pad_id)
        return reading.hidden_SH[reading.flat_NT1].float()
