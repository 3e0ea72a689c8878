"""Encoder-decoder models: the encoder reads contexts, the decoder's position t reads prefix t of an action."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_gfn.policies.models.architectures import Architecture, DecoderOnly
from lightning_gfn.policies.models.forward_pass import ForwardPass, pad_right, prefix_rows
from lightning_gfn.types import StepBatch

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

MAX_PASSES = 8
PASS_OVERHEAD = 128
"""What one more pass of the encoder costs, in padded tokens of the passes that it makes narrower."""


def split_by_length(sorted_lengths: list[int]) -> list[int]:
    """How many contexts each pass of the encoder takes, so that short ones are not padded to the longest.

    Args:
        sorted_lengths: tokens of each context, shortest first.

    Returns:
        sizes of passes, in that order; one pass if more are not worth their overhead.
    """
    total = len(sorted_lengths)

    def sizes(passes: int) -> list[int]:
        ends = [total * (i + 1) // passes for i in range(passes)]
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]

    def cost(chunks: list[int]) -> int:
        padded, end = 0, 0
        for size in chunks:
            end += size
            padded += size * sorted_lengths[end - 1]
        return padded + PASS_OVERHEAD * len(chunks)

    return min((sizes(passes) for passes in range(1, min(MAX_PASSES, total) + 1)), key=cost)


class EncoderDecoderBackbone(nn.Module):
    """Encoder and decoder of a model, without its output layer.

    Args:
        encoder: token ids to states of contexts.
        decoder: states of contexts and token ids to hidden states.
        start_id: the token that stands before every action.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, start_id: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.start_id = encoder, decoder, start_id

    def encode(self, ids_PC: Tensor, mask_PC: Tensor) -> tuple[Tensor, Tensor]:
        """States of contexts, each of which the encoder sees without the padding of much longer ones.

        Args:
            ids_PC: int64, padded on either side.
            mask_PC: bool, True on tokens.

        Returns:
            states (P, C', H), 0 on padding, which is on the right; their mask (P, C'), bool.
        """
        ids_PC = pad_right(ids_PC, mask_PC, 0)
        lengths_P, order_P = mask_PC.sum(1).sort(stable=True)
        sizes = split_by_length(lengths_P.tolist())
        width = ids_PC.shape[1]
        parts = []
        for ids, lengths in zip(ids_PC[order_P].split(sizes), lengths_P.split(sizes), strict=True):
            longest, shortest = int(lengths[-1]), int(lengths[0])
            mask = torch.arange(longest, device=ids.device) < lengths[:, None]
            states = self.encoder(
                input_ids=ids[:, :longest], attention_mask=None if shortest == longest else mask.to(torch.int64)
            ).last_hidden_state
            parts.append(functional.pad(states, (0, 0, 0, width - longest)))
        states_PCH = torch.cat(parts).index_select(0, order_P.argsort())
        mask_PC = torch.arange(width, device=ids_PC.device) < mask_PC.sum(1, keepdim=True)
        return torch.where(mask_PC[:, :, None], states_PCH, 0.0), mask_PC

    def forward(self, ids_NL: Tensor, states_NCH: Tensor, mask_NC: Tensor | None, **options: Any) -> Tensor:
        """Hidden states of the decoder.

        Args:
            ids_NL: decoder tokens, the start token among them.
            states_NCH: states of each row's context.
            mask_NC: bool, True on its tokens; None if nothing is padded.
            options: further arguments of the decoder.
        """
        output = self.decoder(
            input_ids=ids_NL,
            encoder_hidden_states=states_NCH,
            encoder_attention_mask=None if mask_NC is None else mask_NC.to(torch.int64),
            **options,
        )
        return output.last_hidden_state


def start_token(model: PreTrainedModel) -> int:
    """The token that a decoder begins with.

    Raises:
        ValueError: if the model does not say.
    """
    for config in (model.config, model.generation_config):
        token = getattr(config, "decoder_start_token_id", None)
        if token is not None:
            return int(token)
    raise ValueError(
        f"{type(model).__name__} has no decoder_start_token_id: set it in its config.json (for T5 the pad token)"
    )


class EncoderDecoder(Architecture):
    """The encoder reads the context, padded on the right; prefix t is read at the decoder's position t."""

    auto_class, task_type, prompts_end, served_by_vllm = "AutoModelForSeq2SeqLM", "SEQ_2_SEQ_LM", True, False

    def check_config(self, config: PreTrainedConfig) -> None:
        """See ``Architecture.check_config``."""
        if not getattr(config, "is_encoder_decoder", False):
            raise ValueError(
                f"{type(config).__name__} is a decoder-only model, expected an encoder-decoder one: "
                "use lightning_gfn.policies.causal_lm.CausalLM"
            )

    def check_model(self, model: PreTrainedModel) -> None:
        """Refuse models without a start token, or with another state than keys and values."""
        DecoderOnly().check_model(model)
        start_token(model)

    def special_fields(self, special: dict[str, int | None]) -> dict[str, int | None]:
        """As in T5, the decoder begins with the pad token."""
        return {**special, "decoder_start_token_id": special["pad_token_id"]}

    def positions_needed(self, context: int, action: int) -> int:
        """Encoder and decoder have positions of their own; the decoder's first one is the start token."""
        return max(context, action + 1)

    def backbone(self, model: PreTrainedModel) -> EncoderDecoderBackbone:
        """See ``Architecture.backbone``."""
        return EncoderDecoderBackbone(model.get_encoder(), model.get_decoder(), start_token(model))

    def read(self, backbone: Any, steps: StepBatch, *, pad_id: int) -> ForwardPass:
        """One pass of the encoder over the distinct contexts (so equal ones share their dropout), and one of the
        decoder over all actions."""
        marked_NC = steps.context_ids_NC.masked_fill(~steps.context_mask_NC, -1)
        distinct_PC, passage_N = torch.unique(marked_NC, dim=0, return_inverse=True)
        states_PCH, mask_PC = backbone.encode(distinct_PC, distinct_PC >= 0)
        action_NL = pad_right(steps.action_ids_NT, steps.action_mask_NT, pad_id)
        hidden_NLH = backbone(
            functional.pad(action_NL, (1, 0), value=backbone.start_id),
            states_PCH.index_select(0, passage_N),
            None if bool(mask_PC.all()) else mask_PC.index_select(0, passage_N),
            use_cache=False,
        )
        length = hidden_NLH.shape[1]
        first_N = torch.zeros_like(passage_N)
        return ForwardPass(
            hidden_SH=hidden_NLH.reshape(-1, hidden_NLH.shape[-1]),
            flat_NT1=prefix_rows(first_N, steps.action_ids_NT.shape[1] + 1, length),
            context_PCH=states_PCH,
            context_mask_PC=mask_PC,
            passage_N=passage_N,
        )

    def try_out(self, model: PreTrainedModel) -> tuple[Tensor, Tensor]:
        """See ``Architecture.try_out``."""
        ids = torch.arange(3, device=model.device)[None]
        backbone = self.backbone(model)
        states_PCH, _ = backbone.encode(ids, torch.ones_like(ids, dtype=torch.bool))
        logits = model(input_ids=ids, decoder_input_ids=ids, use_cache=False).logits
        return logits, backbone(ids, states_PCH, None, use_cache=False)
