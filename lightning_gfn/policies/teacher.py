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
from lightning_gfn.policies.models.forward_pass import Rows
from lightning_gfn.policies.models.output_layer import output_layer_of
from lightning_gfn.policies.sampling.generation import generate
from lightning_gfn.policies.scoring.candidates import candidate_scores
from lightning_gfn.policies.scoring.score_actions import PrefixStates, check_actions, prefix_states
from lightning_gfn.teacher_interfaces import TeachingPolicy
from lightning_gfn.types import CandidateScores

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

    def teacher_actions(
        self,
        context_ids_NC: Tensor,
        context_mask_NC: Tensor,
        action_ids_NT: Tensor,
        action_mask_NT: Tensor,
        *,
        top_k: int,
    ) -> CandidateScores:
        """The teacher's most probable next actions at every prefix, without gradient and without dropout.

        Args:
            context_ids_NC: int64, padded on the left: what the teacher sees.
            context_mask_NC: bool, True on tokens.
            action_ids_NT: int64, padded on the right, no end token.
            action_mask_NT: bool, True on tokens.
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
            rows = self.on_device(context_ids_NC, context_mask_NC, action_ids_NT, action_mask_NT)
            return self._candidates(rows, None, top_k)

    def candidate_scores(
        self,
        context_ids_NC: Tensor,
        context_mask_NC: Tensor,
        action_ids_NT: Tensor,
        action_mask_NT: Tensor,
        candidates_NT1K: Tensor,
    ) -> CandidateScores:
        """Log-probabilities of given next actions at every prefix, with gradient.

        Args:
            context_ids_NC: int64, padded on the left.
            context_mask_NC: bool, True on tokens.
            action_ids_NT: int64, padded on the right, no end token.
            action_mask_NT: bool, True on tokens.
            candidates_NT1K: int64, K different actions at each of the T + 1 prefixes, as ``teacher_actions`` gives.

        Returns:
            scores in float32 (nats).

        Raises:
            ValueError: if an action is impossible, or a row too long for the model.
        """
        rows = self.on_device(context_ids_NC, context_mask_NC, action_ids_NT, action_mask_NT)
        return self._candidates(rows, candidates_NT1K.to(self.device), candidates_NT1K.shape[2])

    def on_device(self, *rows: Tensor) -> Rows:
        """Context ids and mask, action ids and mask, where the model is."""
        context_ids_NC, context_mask_NC, action_ids_NT, action_mask_NT = (tensor.to(self.device) for tensor in rows)
        return context_ids_NC, context_mask_NC, action_ids_NT, action_mask_NT

    def prefix_states(self, model: PreTrainedModel, rows: Rows, *, with_last: bool) -> PrefixStates:
        """Hidden states of one teacher-forced pass of this model or of its reference.

        Args:
            model: whose pass it is.
            rows: what ``on_device`` gives.
            with_last: an action is decided at the last prefix too, unless its stop is forced.

        Raises:
            ValueError: if an action is impossible, or a row too long for the model.
        """
        architecture = self.architecture
        lengths_N, context_N = rows[3].sum(1), rows[1].sum(1)
        check_actions(
            self.space,
            *rows[2:],
            context_N,
            describe=lambda token: repr(self.tokenizer.convert_ids_to_tokens(token)),
        )
        limit = max_positions(model.config)
        if limit is not None and architecture.positions_needed(rows[0].shape[1], rows[2].shape[1]) > limit:
            needed = max(map(architecture.positions_needed, context_N.tolist(), lengths_N.tolist()))
            if needed > limit:
                raise ValueError(f"context and action need {needed} positions, the model has {limit} positions")
        reading = architecture.read(architecture.backbone(model), rows, pad_id=self.pad_id)
        return prefix_states(reading, self.space, lengths_N, with_last=with_last)

    def _candidates(self, rows: Rows, candidates_NT1K: Tensor | None, top_k: int) -> CandidateScores:
        model = self.hugging_face
        return candidate_scores(
            self.prefix_states(model, rows, with_last=True),
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
