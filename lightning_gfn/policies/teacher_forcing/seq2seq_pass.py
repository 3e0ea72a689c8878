"""A teacher-forced pass of a T5 model from working copies of its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lightning_gfn.policies.fused.layers import DenseLayers
from lightning_gfn.policies.fused.seq2seq_layers import Seq2SeqLayers, position_bias
from lightning_gfn.policies.models.forward_pass import ForwardPass
from lightning_gfn.policies.teacher_forcing.attention import Scene
from lightning_gfn.policies.teacher_forcing.layer import run_decoder_layer, run_layer
from lightning_gfn.policies.teacher_forcing.packing import Block
from lightning_gfn.policies.teacher_forcing.seq2seq_packing import pack_seq2seq
from lightning_gfn.types import StepBatch


def read_seq2seq(layers: Seq2SeqLayers, steps: StepBatch) -> ForwardPass:
    """One teacher-forced pass; the encoder reads equal contexts once, and nothing is padding.

    Args:
        layers: working copies, with their active adapters.
        steps: contexts and actions, on the device of the model.
    """
    packing = pack_seq2seq(steps, layers.start_id)
    encoder, decoder = layers.encoder, layers.decoder
    encoder_layers, decoder_layers = layers.active()
    with torch.autocast(packing.ids_S.device.type, enabled=False):
        scene = with_positions(encoder, packing.context_blocks)
        x_EH = encoder.embed(packing.context_ids_E, packing.context_ids_E)
        for weights in encoder_layers:
            x_EH = run(encoder, run_layer, x_EH, None, scene, weights, encoder.shape)
        states_EH = encoder.final_norm(x_EH)
        narrow_EH = states_EH.to(layers.dtype)
        form = decoder.layers[0].form
        scenes = with_positions(decoder, packing.own_blocks), Scene(packing.cross_blocks, form)
        x_SH = decoder.embed(packing.ids_S, packing.ids_S)
        for pair in decoder_layers:
            x_SH = run(decoder, run_decoder_layer, x_SH, narrow_EH, scenes, pair, decoder.shape)
        hidden_SH = decoder.final_norm(x_SH)
    return ForwardPass(
        hidden_SH=hidden_SH,
        flat_NT1=packing.flat_NT1,
        context_PCH=states_EH[packing.context_PC],
        context_mask_PC=packing.context_mask_PC,
        passage_N=packing.passage_N,
    )


def with_positions(layers: DenseLayers, blocks: list[Block]) -> Scene:
    """Attention of blocks to themselves, with its bias by position."""
    longest = position_bias(layers, max(block.shape[2] for block in blocks))
    biases = tuple(longest[:, : block.shape[2], : block.shape[2]] for block in blocks)
    return Scene(blocks, layers.layers[0].form, biases)


def run(layers: DenseLayers, layer: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """One layer, which is computed again in the backward pass under gradient checkpointing."""
    stack = layers.backbone
    if stack.gradient_checkpointing and stack.training and torch.is_grad_enabled():
        return checkpoint(layer, *arguments, use_reentrant=False)
    return layer(*arguments)
