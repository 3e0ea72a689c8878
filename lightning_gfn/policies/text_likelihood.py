"""How likely a language model finds texts, whatever its actions as a policy are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from lightning_gfn.interfaces import TextLikelihood
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.action_space import every_token
from lightning_gfn.policies.language_policy import LanguagePolicy
from lightning_gfn.policies.models.evaluation_mode import no_dropout_and_gradient
from lightning_gfn.policies.models.output_layer import output_layer_of
from lightning_gfn.policies.passes.in_passes import RowValues
from lightning_gfn.policies.scoring.choices import lay_out, token_log_probs
from lightning_gfn.types import StepBatch


class TextScoringLM(LanguagePolicy, TextLikelihood):
    """A policy that also scores texts as a plain language model, all tokens being possible at every place."""

    def text_log_probs(
        self,
        contexts: Sequence[Sequence[int]],
        texts: Sequence[Sequence[int]],
        *,
        reference: bool = False,
        given: Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """log p of texts, all tokens being possible; see ``TextLikelihood.text_log_probs``.

        Raises:
            ValueError: if a text holds the tokenizer's end token.
            RuntimeError: if ``reference`` is asked for and there is none.
        """
        steps = pad_steps(contexts, texts, self.device, given)
        with self._all_tokens():
            return self.score(steps, stop=False, reference=reference).log_pf_NT.sum(1, dtype=torch.float64)

    def choice_log_probs(
        self,
        contexts: Sequence[Sequence[int]],
        stems: Sequence[Sequence[int]],
        choices: Sequence[Sequence[Sequence[int]]],
        *,
        reference: bool = False,
    ) -> list[list[float]]:
        """log p of each of several texts behind a stem; see ``TextLikelihood.choice_log_probs``.

        Raises:
            ValueError: if a choice begins another one, or a text holds the tokenizer's end token.
            RuntimeError: if ``reference`` is asked for and there is none.
        """
        layout = lay_out(stems, choices)
        steps = pad_steps([contexts[n] for n in layout.owners], layout.actions, self.device)
        wanted_NT1, tokens_NT1K = layout.wanted_NT1.to(self.device), layout.tokens_NT1K.to(self.device)
        model, context = self.reference_model() if reference else (self.hugging_face, nullcontext())

        def one_pass(part: StepBatch, index: Tensor) -> RowValues:
            width = part.action_ids_NT.shape[1] + 1
            found = token_log_probs(
                self.prefix_states(model, part, with_last=True),
                output_layer_of(model),
                wanted_NT1[index, :width],
                tokens_NT1K[index, :width],
                vocab_size=self.vocab_size,
                max_logits=self.max_logits,
            )
            return {"log_p_NT1K": found}

        with self._all_tokens(), context, no_dropout_and_gradient(model) if reference else nullcontext():
            log_p_NT1K = self._in_passes(one_pass, steps)["log_p_NT1K"]
        assert log_p_NT1K is not None
        return layout.summed(log_p_NT1K)

    @contextmanager
    def _all_tokens(self) -> Iterator[None]:
        """Inside, every token is an action, as for a plain language model, and no gradient is kept.

        Passes that are computed again in a backward pass would see the policy's own actions.
        """
        own = self.space
        try:
            self.space = every_token(self.vocab_size, self.tokenizer.eos_token_id, self.device)
            with torch.no_grad():
                yield
        finally:
            self.space = own
