"""Any Hugging Face encoder-decoder model as a policy."""

from __future__ import annotations

from lightning_gfn.policies.models.encoder_decoder import EncoderDecoder
from lightning_gfn.policies.teacher import TeachingLM


class Seq2SeqLM(TeachingLM):
    """An encoder-decoder model (T5, ByT5, mT5, …) that samples actions and scores them.

        log q(action, stop | context) = Σ_t log q(a_t | encoder(context), a_<t) + log q(stop | encoder(context), a)

    over the actions that ``ActionSpace`` defines. ``LanguageModel`` describes the settings, which are those of
    ``CausalLM``; ``decoder: fused`` decodes T5 and mT5. A prompt ends with the end token where the model's tokenizer
    adds one (T5's and those made here do), and counts it; an action has none. ``Scores.hidden_NT1H`` are states of the
    decoder, ``Scores.pooled_NH`` means of the encoder's.

    Equal contexts pass the encoder once, also in scoring: their dropout is the same.
    """

    architecture = EncoderDecoder()
