"""Decoding any Hugging Face encoder-decoder model through its own forward pass and our cache."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import EncoderDecoderCache

from lightning_gfn.policies.encoder_decoder import EncoderDecoderBackbone
from lightning_gfn.policies.generation import Decoder
from lightning_gfn.policies.kv_cache import CrossCache, PreallocatedCache, move_rows_
from lightning_gfn.policies.log_probs import OutputLayer


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
        self.states_RCH, self.mask_RC = self.backbone.encode(ids_PC, mask_PC)
        self.own = PreallocatedCache(self.num_layers, 1)
        self.cross = CrossCache(self.num_layers, self.states_RCH.shape[1])
        self.cache = EncoderDecoderCache(self.own, self.cross)
        return self.step(ids_PC.new_full((ids_PC.shape[0],), self.backbone.start_id))

    def expand(self, rows_N: Tensor, num_steps: int) -> None:
        """See ``Decoder.expand``."""
        self.own.repeat_rows(rows_N, 1 + num_steps)
        self.cross.repeat_rows(rows_N, self.states_RCH.shape[1])
        self.states_RCH, self.mask_RC = (tensor.index_select(0, rows_N) for tensor in (self.states_RCH, self.mask_RC))

    def step(self, tokens_R: Tensor) -> Tensor:
        """See ``Decoder.step``."""
        hidden_R1H = self.backbone(
            tokens_R[:, None], self.states_RCH, self.mask_RC, past_key_values=self.cache, use_cache=True
        )
        return self.output_layer(hidden_R1H[:, -1]).float()

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """See ``Decoder.move_rows``."""
        self.own.move_rows(target_R, source_R, num_rows)
        self.cross.move_rows(target_R, source_R, num_rows)
        for tensor in (self.states_RCH, self.mask_RC):
            move_rows_(tensor, target_R, source_R)
        self.states_RCH, self.mask_RC = self.states_RCH[:num_rows], self.mask_RC[:num_rows]
