"""What every language model does as a policy: reading and writing texts, sampling actions and scoring them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_gfn.finite import NotFiniteError, state_of_weights
from lightning_gfn.interfaces import Policy, SearchesBeams
from lightning_gfn.policies.decoder_factory import DecoderFactory
from lightning_gfn.policies.language_model import LanguageModel
from lightning_gfn.policies.models.architectures import max_positions
from lightning_gfn.policies.models.evaluation_mode import evaluation_mode, no_dropout_and_gradient
from lightning_gfn.policies.models.output_layer import output_layer_of
from lightning_gfn.policies.passes.in_passes import RowValues, sampled_in_passes
from lightning_gfn.policies.sampling.beam_search import beam_search
from lightning_gfn.policies.sampling.continuous import generate_in_slots
from lightning_gfn.policies.sampling.generation import check_arguments, generate
from lightning_gfn.policies.scoring.candidates import candidate_scores
from lightning_gfn.policies.scoring.score_actions import PrefixStates, check_actions, prefix_states, score_actions
from lightning_gfn.policies.text.prompt_lengths import cut_prompt
from lightning_gfn.policies.vllm.engine import VllmEngine
from lightning_gfn.types import CandidateScores, SampledActions, Scores, StepBatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LanguagePolicy(LanguageModel, Policy, SearchesBeams):
    """A language model that samples actions and scores them.

        log q(action, stop | context) = Σ_t log q(a_t | context, a_<t) + log q(stop | context, a)

    over the actions that ``ActionSpace`` defines.
    """

    # ---------------------------------------------------------------- text

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a prompt, special tokens included where the tokenizer adds them.

        Raises:
            ValueError: if it is longer than ``max_prompt_tokens`` and ``overlong_prompts`` is not ``truncate``.
        """
        ids = self.codec.encode_prompt(text)
        if self.overlong_prompts == "truncate":
            return cut_prompt(ids, self.max_prompt_tokens, self.tokenizer.bos_token_id)
        if len(ids) > self.max_prompt_tokens:
            raise ValueError(
                f"a prompt has {len(ids)} tokens, max_prompt_tokens is {self.max_prompt_tokens}: raise it or drop the "
                f"problem; the prompt begins {text[:60]!r}"
            )
        return ids

    def encode_context(self, text: str) -> list[int]:
        """Token ids of a context of any length."""
        return self.codec.encode_prompt(text)

    def encode_completion(self, text: str) -> list[int]:
        """Token ids of a completion, without special tokens."""
        return self.codec.encode_completion(text)

    def encode_action(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids of a completion as the policy would have written it, and places of those that a tool wrote."""
        return (self.codec.encode_completion(text), []) if self.results is None else self.results.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of action tokens."""
        return self.codec.decode(ids)

    def marked(self, action: Sequence[int], inserted: Sequence[int]) -> str:
        """Text of an action, what a tool wrote between ⟦ and ⟧."""
        return self.decode(action) if self.results is None else self.results.marked(action, inserted)

    # ---------------------------------------------------------------- acting

    @property
    def stop_id(self) -> int:
        """The action that stands for stop among candidates."""
        return self.space.stop_id

    def can_produce(self, action: Sequence[int], inserted: Sequence[int] = ()) -> bool:
        """True if lengths and allowed tokens permit the action."""
        allowed_V, places = self.space.allowed_V, set(inserted)
        chosen = [token for place, token in enumerate(action) if place not in places]
        tokens = torch.tensor(chosen, dtype=torch.int64, device=allowed_V.device)
        return super().can_produce(action) and bool(allowed_V[tokens].all())

    def set_lengths(self, min_new_tokens: int, max_new_tokens: int) -> None:
        """Let actions have at least and at most so many tokens."""
        super().set_lengths(min_new_tokens, max_new_tokens)
        self.set_action_space()

    def sample(
        self,
        contexts: Sequence[Sequence[int]],
        uniforms_NT1: Tensor,
        *,
        temperature_N: Tensor | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        first_N: Tensor | None = None,
        entropy: bool = False,
    ) -> SampledActions:
        """Continue each context by inverse-CDF sampling, or through ``vllm``; dropout is off and no graph is kept.

        Args:
            contexts: N token id sequences, none empty; equal ones share one prefill.
            uniforms_NT1: numbers in [0, 1), one for each row and prefix.
            temperature_N: behaviour temperature of each row, above 0.
            top_k: most probable actions that the behaviour keeps; 1 is greedy.
            top_p: probability mass that the behaviour keeps.
            first_N: the first token of each row, or the stop; None draws it.
            entropy: also give the entropy of q at each prefix, if rows are decoded in step.

        Returns:
            actions with log-probabilities under q and under the behaviour.

        Raises:
            ValueError: if arguments do not fit each other or the model.
            NotFiniteError: if the model's logits are not finite; says what of its weights.
            VllmError: if the server that samples fails.
        """
        if not contexts:
            raise ValueError("contexts is empty: sample at least one row")
        self.check_positions(max(map(len, contexts)))
        check_arguments(len(contexts), self.max_new_tokens, uniforms_NT1, temperature_N, first_N)

        if self.engine is not None:
            if first_N is not None:
                raise ValueError("policy.vllm cannot begin with given tokens (first_N): set it to null")
            behaviour = {"temperature_N": temperature_N, "top_k": top_k, "top_p": top_p}
            return self._sample_elsewhere(self.engine, contexts, uniforms_NT1, behaviour)
        with torch.no_grad(), evaluation_mode(self.hugging_face):
            try:
                of_rows = (contexts, uniforms_NT1, temperature_N, first_N)
                how: dict[str, Any] = {"top_k": top_k, "top_p": top_p, "entropy": entropy}
                return self._draw(self.decoders, self.hugging_face, *of_rows, **how)
            except NotFiniteError as error:
                raise NotFiniteError(f"{error}: {state_of_weights(self.hugging_face)}") from None

    def _draw(
        self,
        decoders: DecoderFactory,
        model: PreTrainedModel,
        contexts: Sequence[Sequence[int]],
        uniforms_NT1: Tensor,
        temperature_N: Tensor | None = None,
        first_N: Tensor | None = None,
        *,
        entropy: bool = False,
        **truncation: Any,
    ) -> SampledActions:
        settings: dict[str, Any] = {"pad_id": self.pad_id, "device": self.device, **truncation}
        of_rows = {"temperature_N": temperature_N, "first_N": first_N}
        columns_K = None if self.space.narrow is None else self.space.action_ids_K
        if self.results is None and (slots := decoders.make_slots(model, columns_K)) is not None:
            settings |= {**of_rows, "vocab_size": self.vocab_size}
            num_slots = self.budget.sampling_slots(contexts, self.max_new_tokens)
            with torch.autocast(self.device.type, enabled=False):
                return generate_in_slots(slots, self.space, contexts, uniforms_NT1, num_slots=num_slots, **settings)

        def one_pass(rows: list[int]) -> SampledActions:
            decoder, context = decoders.make(model, columns_K)
            chosen = [contexts[n] for n in rows]
            own: dict[str, Any] = {name: None if x is None else x[rows] for name, x in of_rows.items()}
            # Compiled layers would be compiled again for every state of a cache.
            eager = torch.compiler.set_stance("force_eager") if self.compile_layers else nullcontext()
            with context, eager:
                further = {"tools": self.results, "entropy": entropy, **own, **settings}
                return generate(decoder, self.space, chosen, uniforms_NT1[rows], **further)

        return sampled_in_passes(one_pass, self.budget.sampling_passes(contexts, self.max_new_tokens), self.pad_id)

    def search_beams(
        self,
        contexts: Sequence[Sequence[int]],
        *,
        num_beams: int,
        num_groups: int = 1,
        diversity_penalty: float = 0.0,
        length_penalty: float = 0.0,
    ) -> list[list[tuple[int, ...]]]:
        """The best actions that beams find, always on the model's own device; see ``SearchesBeams.search_beams``.

        Raises:
            ValueError: ``num_groups`` does not divide ``num_beams``, or a context is too long for the model.
        """
        if num_beams < 1 or num_beams % num_groups:
            raise ValueError(f"num_groups={num_groups} must divide num_beams={num_beams}, which must be at least 1")
        self.check_positions(max(map(len, contexts)))
        with torch.no_grad(), evaluation_mode(self.hugging_face):
            decoder, context = self.decoders.make(self.hugging_face)
            with context:
                return beam_search(
                    decoder,
                    self.space,
                    contexts,
                    num_beams=num_beams,
                    num_groups=num_groups,
                    diversity_penalty=diversity_penalty,
                    length_penalty=length_penalty,
                    pad_id=self.pad_id,
                    device=self.device,
                )

    def _sample_elsewhere(
        self, engine: VllmEngine, contexts: Sequence[Sequence[int]], uniforms_NT1: Tensor, behaviour: dict[str, Any]
    ) -> SampledActions:
        with no_dropout_and_gradient(self.hugging_face):
            return engine.sample(
                self.peft_model if self.lora is not None else self.hugging_face,
                self.space,
                contexts,
                uniforms_NT1,
                pad_id=self.pad_id,
                device=self.device,
                score=self.score,
                **behaviour,
            )

    def score(
        self,
        steps: StepBatch,
        *,
        stop: bool = True,
        entropy: bool = False,
        hidden: bool = False,
        reference: bool = False,
    ) -> Scores:
        """Log-probabilities of given actions by one teacher-forced pass.

        Args:
            steps: contexts and actions.
            stop: also return log q(stop) of every prefix.
            entropy: also return the entropy at every prefix.
            hidden: also return the hidden state at every prefix, and their mean over the context.
            reference: score under the frozen reference, without gradient and without dropout.

        Returns:
            scores in float32 (nats) on the model's device.

        Raises:
            ValueError: if an action holds a token that q cannot produce, or is too long.
            RuntimeError: if ``reference`` is asked for and there is none.
        """
        model, context = self.reference_model() if reference else (self.hugging_face, nullcontext())
        asked = {"stop": stop, "entropy": entropy, "hidden": hidden}
        with context, no_dropout_and_gradient(model) if reference else nullcontext():
            found = self._in_passes(lambda part, _: vars(self._score(model, part, **asked)), steps)
        return Scores(**found)  # type: ignore[arg-type]

    def score_and_read(
        self,
        steps: StepBatch,
        read: Callable[[Scores | None, StepBatch], Tensor],
        *,
        entropy: bool = False,
        hidden: bool = False,
    ) -> tuple[Scores, Tensor]:
        """Scores with gradient, and what a head reads; see ``Policy.score_and_read``.

        A head that reads hidden states does so inside each pass. Any other has passes of its own, since it may hold a
        network that is as large.
        """

        def one_pass(part: StepBatch, index: Tensor) -> RowValues:
            scores = self._score(self.hugging_face, part, stop=True, entropy=entropy, hidden=True)
            return {**vars(replace(scores, hidden_NT1H=None, pooled_NH=None)), **named(read(scores, part))}

        def head_alone(part: StepBatch, index: Tensor) -> RowValues:
            return named(read(None, part))

        def named(values: Tensor) -> RowValues:
            return {"read_N" if values.ndim == 1 else "read_NT1": values}

        found = self._in_passes(one_pass if hidden else head_alone, steps, of_model=hidden)
        values = next(found.pop(name) for name in ("read_N", "read_NT1") if name in found)
        assert values is not None
        scores = Scores(**found) if hidden else self.score(steps, entropy=entropy)  # type: ignore[arg-type]
        return scores, values

    def _score(self, model: PreTrainedModel, steps: StepBatch, *, stop: bool, entropy: bool, hidden: bool) -> Scores:
        return score_actions(
            self.prefix_states(model, steps, with_last=stop or entropy),
            output_layer_of(model),
            self.space,
            steps,
            vocab_size=self.vocab_size,
            max_logits=self.max_logits,
            stop=stop,
            entropy=entropy,
            hidden=hidden,
        )

    def _in_passes(
        self, function: Callable[[StepBatch, Tensor], RowValues], steps: StepBatch, *, of_model: bool = True
    ) -> dict[str, Tensor | None]:
        steps = steps.to(self.device)
        if self.budget.limits_scoring:  # so that an error names the row of the batch, not of a pass
            self.check(steps)
        backbone = self.architecture.backbone(self.hugging_face)
        shares_prompts = self.budget.limits_scoring and self.scoring.is_fused(self.architecture, backbone, steps)
        return self.in_passes(function, steps, of_model=of_model, shares_prompts=shares_prompts)

    def check(self, steps: StepBatch) -> None:
        """Refuse actions that q cannot produce.

        Raises:
            ValueError: names the row.
        """
        check_actions(self.space, steps, describe=lambda token: repr(self.tokenizer.convert_ids_to_tokens(token)))

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
        return self._candidates(steps, candidates_NT1K.to(self.device), candidates_NT1K.shape[2])

    def top_actions(self, steps: StepBatch, *, top_k: int) -> CandidateScores:
        """The most probable next actions at every prefix; dropout is off and no graph is kept."""
        with no_dropout_and_gradient(self.hugging_face):
            return self._candidates(steps, None, top_k)

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
        self.check(steps)
        limit, widths = max_positions(model.config), (steps.context_ids_NC.shape[1], steps.action_ids_NT.shape[1])
        if limit is not None and architecture.positions_needed(*widths) > limit:
            lengths = steps.context_mask_NC.sum(1).tolist(), steps.lengths_N.tolist()
            needed = max(map(architecture.positions_needed, *lengths))
            if needed > limit:
                raise ValueError(f"context and action need {needed} positions, the model has {limit} positions")
        reading = self.scoring.read(architecture, architecture.backbone(model), steps, self.pad_id)
        return prefix_states(reading, self.space, steps, with_last=with_last)

    def _candidates(self, steps: StepBatch, candidates_NT1K: Tensor | None, top_k: int) -> CandidateScores:
        model = self.hugging_face

        def one_pass(part: StepBatch, index: Tensor) -> RowValues:
            prefixes = part.action_ids_NT.shape[1] + 1
            found = candidate_scores(
                self.prefix_states(model, part, with_last=True),
                output_layer_of(model),
                self.space,
                candidates_NT1K[index, :prefixes] if candidates_NT1K is not None else None,
                top_k=top_k,
                vocab_size=self.vocab_size,
                max_logits=self.max_logits,
            )
            return vars(found)

        return CandidateScores(**self._in_passes(one_pass, steps))  # type: ignore[arg-type]

    @property
    def num_positions(self) -> int | None:
        """Longest sequence of context and action, tokens; None if unlimited."""
        return max_positions(self.hugging_face.config)

    def check_positions(self, context: int) -> None:
        """Refuse contexts that leave the model no positions for the longest action.

        Args:
            context: tokens of the longest context.

        Raises:
            ValueError: the model has fewer positions.
        """
        limit, needed = (
            max_positions(self.hugging_face.config),
            self.architecture.positions_needed(context, self.max_new_tokens),
        )
        if limit is not None and needed > limit:
            raise ValueError(
                f"context and max_new_tokens need {needed} positions, the model has {limit}: shorten the prompt"
            )
