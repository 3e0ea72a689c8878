"""Decoding any Hugging Face causal model through its own forward pass and our cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_gfn.policies.models.output_layer import OutputLayer
from lightning_gfn.policies.sampling.generation import Decoder
from lightning_gfn.policies.sampling.kv_cache import (
    PreallocatedCache,
    RecurrentCache,
    decoding_mask,
    left_positions,
    with_room,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel
from transformers.cache_utils import EncoderDecoderCache

from lightning_gfn.policies.models.encoder_decoder import EncoderDecoderBackbone
from lightning_gfn.policies.sampling.kv_cache import CrossCache, move_rows_


class HuggingFaceDecoder(Decoder):
    """Runs ``backbone`` with a preallocated cache.

    Args:
        backbone: the model without its output layer, in evaluation mode.
        output_layer: hidden states to logits.
        num_layers: its attention layers.
        recurrent: some layers keep a state that is neither keys nor values.
    """

    def __init__(
        self, backbone: PreTrainedModel, output_layer: OutputLayer, num_layers: int, *, recurrent: bool = False
    ) -> None:
        self.backbone, self.recurrent = backbone, recurrent
        self.output_layer = output_layer
        self.num_layers = num_layers
        self.mask_NL: Tensor | None = None

    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        """See ``Decoder.prefill``."""
        num_prompts, self.length = ids_PC.shape
        self.cache: PreallocatedCache | RecurrentCache = (
            RecurrentCache(self.backbone.config) if self.recurrent else PreallocatedCache(self.num_layers, self.length)
        )
        self.prompt_mask_PC = mask_PC
        if mask_PC is None:
            position_ids = torch.arange(self.length, device=ids_PC.device).expand(num_prompts, -1)
        else:
            position_ids = left_positions(mask_PC)
        self.position_N = position_ids[:, -1]
        return self.logits(ids_PC, position_ids, mask_PC)

    def expand(self, rows_N: Tensor, num_steps: int, room: int | None = None) -> None:
        """See ``Decoder.expand``."""
        self.num_rows = len(rows_N)
        room, capacity = self.num_rows if room is None else room, self.length + num_steps
        self.cache.repeat_rows(rows_N, capacity, room)
        self.position_N = with_room(self.position_N.index_select(0, rows_N), room)
        if self.prompt_mask_PC is not None:
            self.mask_NL = with_room(decoding_mask(self.prompt_mask_PC.index_select(0, rows_N), capacity), room)

    def step(self, tokens_R: Tensor) -> Tensor:
        """See ``Decoder.step``."""
        self.length += 1
        self.position_N += 1
        mask = None if self.mask_NL is None else self.mask_NL[: self.num_rows, : self.length]
        return self.logits(tokens_R[:, None], self.position_N[: self.num_rows, None], mask)

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """See ``Decoder.move_rows``."""
        self.cache.move_rows(target_R, source_R, num_rows)
        for tensor in (self.position_N, self.mask_NL):
            if tensor is not None:
                move_rows_(tensor, target_R, source_R)
        self.num_rows = num_rows

    def logits(self, ids: Tensor, position_ids: Tensor, mask: Tensor | None) -> Tensor:
        """One forward pass; float32 logits at the last position, a copy of their own."""
        hidden = self.backbone(
            input_ids=ids, attention_mask=mask, position_ids=position_ids, past_key_values=self.cache, use_cache=True
        ).last_hidden_state
        logits = self.output_layer(hidden[:, -1])
        return logits.float()


class HuggingFaceSeq2SeqDecoder(Decoder):
    """Encodes contexts once, and keeps the keys and values of cross-attention and of self-attention.

    Args:
        backbone: encoder and decoder, in evaluation mode.
        output_layer: hidden states to logits.
        num_layers: attention layers of the decoder.
    """

    def __init__(self, backbone: EncoderDecoderBackbone, output_layer: OutputLayer, num_layers: int) -> None:
        self.backbone, self.output_layer, self.num_layers = backbone, output_layer, num_layers

    def prefill(self, ids_PC: Tensor, mask_PC: Tensor | None) -> Tensor:
        """See ``Decoder.prefill``."""
        mask_PC = torch.ones_like(ids_PC, dtype=torch.bool) if mask_PC is None else mask_PC
        self.states_NCH, self.mask_NC = self.backbone.encode(ids_PC, mask_PC)
        self.own = PreallocatedCache(self.num_layers, 1)
        self.cross = CrossCache(self.num_layers, self.states_NCH.shape[1])
        self.cache = EncoderDecoderCache(self.own, self.cross)
        return self.step(ids_PC.new_full((ids_PC.shape[0],), self.backbone.start_id))

    def expand(self, rows_N: Tensor, num_steps: int, room: int | None = None) -> None:
        """See ``Decoder.expand``."""
        room = len(rows_N) if room is None else room
        self.own.repeat_rows(rows_N, 1 + num_steps, room)
        self.cross.repeat_rows(rows_N, self.states_NCH.shape[1], room)
        self.states_NCH, self.mask_NC = (
            with_room(tensor.index_select(0, rows_N), room) for tensor in (self.states_NCH, self.mask_NC)
        )

    def step(self, tokens_R: Tensor) -> Tensor:
        """See ``Decoder.step``."""
        states_RCH, mask_RC = (tensor[: len(tokens_R)] for tensor in (self.states_NCH, self.mask_NC))
        hidden_R1H = self.backbone(tokens_R[:, None], states_RCH, mask_RC, past_key_values=self.cache, use_cache=True)
        return self.output_layer(hidden_R1H[:, -1]).float()

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """See ``Decoder.move_rows``."""
        self.own.move_rows(target_R, source_R, num_rows)
        self.cross.move_rows(target_R, source_R, num_rows)
        for tensor in (self.states_NCH, self.mask_NC):
            move_rows_(tensor, target_R, source_R)
