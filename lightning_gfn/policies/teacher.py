"""What makes a language model a teacher: averaged weights, distributions over candidate actions, frozen writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_gfn.policies.language_model import LanguageModel
from lightning_gfn.policies.models.architectures import max_positions
from lightning_gfn.policies.models.averaged_weights import AveragedWeights
from lightning_gfn.policies.models.evaluation_mode import evaluation_mode, no_dropout_and_gradient
from lightning_gfn.policies.models.output_layer import output_layer_of
from lightning_gfn.policies.sampling.generation import generate
from lightning_gfn.policies.scoring.candidates import candidate_scores
from lightning_gfn.policies.scoring.score_actions import PrefixStates, check_actions, prefix_states
from lightning_gfn.teacher_interfaces import TeachingPolicy
from lightning_gfn.types import CandidateScores, StepBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TeachingLM(LanguageModel, TeachingPolicy):
    """A language model with an exponential moving average of its trained weights beside it."""

    @property
    def num_positions(self) -> int | None:
        """Longest sequence of context and action, tokens; None if unlimited."""
        return max_positions(self.hugging_face.config)

    def encode_context(self, text: str) -> list[int]:
        """Token ids of a context of any length."""
        return self.codec.encode_prompt(text)

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
            return self._candidates(steps.to(self.device), None, top_k)

    def candidate_scores(self, steps: StepBatch, candidates_NT1K: Tensor) -> CandidateScores:
        """Log-probabilities of given next actions at every prefix, with gradient.

        Args:
            steps: contexts and actions.
            candidates_NT1K: int64, K different actions at each of the T + 1 prefixes, as ``teacher_actions`` gives.

        Returns:
            scores in float32 (nats).

        Raises:
            ValueError: if an action is impossible, or a row too long for the model.
        """
        return self._candidates(steps.to(self.device), candidates_NT1K.to(self.device), candidates_NT1K.shape[2])

    def prefix_states(self, model: PreTrainedModel, steps: StepBatch, *, with_last: bool) -> PrefixStates:
        """Hidden states of one teacher-forced pass of this model or of its reference.

        Args:
            model: whose pass it is.
            steps: contexts and actions, on the model's device.
            with_last: an action is decided at the last prefix too, unless its stop is forced.

        Raises:
            ValueError: if an action is impossible, or a row too long for the model.
        """
        architecture = self.architecture
        check_actions(self.space, steps, describe=lambda token: repr(self.tokenizer.convert_ids_to_tokens(token)))
        limit, widths = max_positions(model.config), (steps.context_ids_NC.shape[1], steps.action_ids_NT.shape[1])
        if limit is not None and architecture.positions_needed(*widths) > limit:
            lengths = steps.context_mask_NC.sum(1).tolist(), steps.lengths_N.tolist()
            needed = max(map(architecture.positions_needed, *lengths))
            if needed > limit:
                raise ValueError(f"context and action need {needed} positions, the model has {limit} positions")
        reading = architecture.read(architecture.backbone(model), steps, pad_id=self.pad_id)
        return prefix_states(reading, self.space, steps.lengths_N, with_last=with_last)

    def _candidates(self, steps: StepBatch, candidates_NT1K: Tensor | None, top_k: int) -> CandidateScores:
        model = self.hugging_face
        return candidate_scores(
            self.prefix_states(model, steps, with_last=True),
            output_layer_of(model),
            self.space,
            candidates_NT1K,
            top_k=top_k,
            vocab_size=self.vocab_size,
            max_logits=self.max_logits,
        )

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
            decoder, context = self.reference_decoders.make(model)
            with context:
                sampled = generate(
                    decoder,
                    self.space,
                    distinct,
                    uniforms,
                    pad_id=self.pad_id,
                    device=self.device,
                    temperature_N=None,
                    top_k=1,
                    top_p=None,
                )
        rows = zip(sampled.action_ids_NT.tolist(), sampled.action_mask_NT.sum(1).tolist(), strict=True)
        written = dict(zip(distinct, (ids[:length] for ids, length in rows), strict=True))
        return [written[tuple(context)] for context in contexts]
