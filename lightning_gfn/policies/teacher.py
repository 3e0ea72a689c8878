"""What makes a policy a teacher: averaged weights, their most probable actions, frozen writing."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lightning_gfn.policies.models.averaged_weights import AveragedWeights
from lightning_gfn.policies.models.evaluation_mode import evaluation_mode, no_dropout_and_gradient
from lightning_gfn.policies.text_likelihood import TextScoringLM
from lightning_gfn.teacher_interfaces import TeachingPolicy
from lightning_gfn.types import CandidateScores, StepBatch


class TeachingLM(TextScoringLM, TeachingPolicy):
    """A policy with an exponential moving average of its trained weights beside it."""

    def start_teacher(self) -> None:
        """Make the teacher: a copy of the trained weights as they are now."""
        self.teacher = AveragedWeights(self.hugging_face)

    def update_teacher(self, decay: float) -> None:
        """Move the teacher's weights: teacher = decay · teacher + (1 - decay) · policy.

        Raises:
            RuntimeError: if there is no teacher.
        """
        self.averaged_weights.update(self.hugging_face, decay)

    @property
    def averaged_weights(self) -> AveragedWeights:
        """The teacher's weights.

        Raises:
            RuntimeError: if there is no teacher.
        """
        if self.teacher is None:
            raise RuntimeError("there is no teacher: call start_teacher after build")
        return self.teacher

    def teacher_actions(self, steps: StepBatch, *, top_k: int) -> CandidateScores:
        """The teacher's most probable next actions at every prefix, without gradient and without dropout.

        Args:
            steps: what the teacher sees, and the actions.
            top_k: K; all actions where there are fewer.

        Returns:
            scores in float32 (nats), most probable first.

        Raises:
            ValueError: if ``top_k`` is below 1, an action is impossible, or a row too long for the model.
            RuntimeError: if there is no teacher.
        """
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, expected at least 1")
        model = self.hugging_face
        with self.averaged_weights.applied(model), no_dropout_and_gradient(model):
            return self._candidates(steps, None, top_k)

    def write_as_reference(self, contexts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Greedy continuations by the frozen reference, at most ``max_new_tokens`` long; equal contexts share one.

        Args:
            contexts: token ids, none empty.

        Returns:
            one action a context, without end tokens.

        Raises:
            RuntimeError: if there is no reference.
        """
        model, frozen = self.reference_model()
        distinct = list(dict.fromkeys(tuple(context) for context in contexts))
        uniforms = torch.zeros(len(distinct), self.max_new_tokens + 1, device=self.device)

        with frozen, torch.no_grad(), evaluation_mode(model):
            # Decoders of its own: those of the policy keep a copy of the present weights.
            sampled = self._draw(self.reference_decoders, model, distinct, uniforms, top_k=1)
        rows = zip(sampled.action_ids_NT.tolist(), sampled.action_mask_NT.sum(1).tolist(), strict=True)
        written = dict(zip(distinct, (ids[:length] for ids, length in rows), strict=True))
        return [written[tuple(context)] for context in contexts]
