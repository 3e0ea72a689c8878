"""Which decoder samples from a model, and the working copy of the weights that it may need."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from lightning_gfn.policies.fused.families import part
from lightning_gfn.policies.fused.layer_copies import LayerCopies, compute_dtype
from lightning_gfn.policies.models.adapters import has_adapters
from lightning_gfn.policies.models.architectures import DecoderOnly, keeps_recurrent_state
from lightning_gfn.policies.models.encoder_decoder import EncoderDecoder
from lightning_gfn.policies.models.output_layer import output_layer_of
from lightning_gfn.policies.models.weight_state import WeightState, adapter_state
from lightning_gfn.policies.sampling.continuous import SlotDecoder
from lightning_gfn.policies.sampling.generation import Decoder
from lightning_gfn.policies.sampling.merged_rows import MergedRows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lightning_gfn.policies.fused.decoder_weights import FusedWeights
    from lightning_gfn.policies.fused.t5.weights import FusedT5Weights

DTypeName = Literal["float32", "bfloat16"]
DecoderName = Literal["auto", "hugging_face", "fused", "continuous"]
MAX_WORKING_COPY_BYTES = 4 * 2**30
"""``auto`` makes no working copy of the weights larger than this in the memory of a processor,"""
MAX_WORKING_COPY_SHARE = 0.25
"""nor larger than this part of an accelerator's."""


class DecoderFactory:
    """Makes decoders for one model and keeps its working copy up to date.

    Args:
        decoder: ``fused``, ``continuous``, ``hugging_face`` or ``auto``.
        dtype: of the model's weights.
        sampling_dtype: of the working copy; None to choose.
        copies: working copies of layers, shared with the scoring pass.

    Raises:
        ValueError: if the two contradict each other.
    """

    def __init__(
        self, *, decoder: DecoderName, dtype: DTypeName, sampling_dtype: DTypeName | None, copies: LayerCopies
    ) -> None:
        if sampling_dtype is not None and decoder == "hugging_face":
            raise ValueError(
                "sampling_dtype needs the working copy of the fused decoder; leave it out or set decoder: fused"
            )
        self.decoder, self.dtype, self.sampling_dtype, self.copies = decoder, dtype, sampling_dtype, copies
        self.state: WeightState | None = None
        self.weights: FusedWeights | FusedT5Weights | None = None

    def make(
        self, model: PreTrainedModel, columns_K: Tensor | None = None
    ) -> tuple[Decoder, AbstractContextManager[Any]]:
        """A decoder for one batch, which runs rows that hold the same tokens once, and the context that it runs in.

        Args:
            model: to sample from.
            columns_K: token ids whose logits are wanted; None for all. A decoder may compute others too.
        """
        weights = self.fused_weights(model, columns_K)
        if weights is not None:
            return MergedRows(fused_decoder(weights)), torch.autocast(model.device.type, enabled=False)
        output_layer = output_layer_of(model)
        if model.config.is_encoder_decoder:
            from lightning_gfn.policies.sampling.hugging_face_decoders import HuggingFaceSeq2SeqDecoder

            backbone = EncoderDecoder().backbone(model)
            decoder: Decoder = HuggingFaceSeq2SeqDecoder(backbone, output_layer, decoder_layers(model))
            return MergedRows(decoder), nullcontext()
        from lightning_gfn.policies.sampling.hugging_face_decoders import HuggingFaceDecoder

        num_layers = int(model.config.get_text_config().num_hidden_layers)
        decoder = HuggingFaceDecoder(
            DecoderOnly().backbone(model), output_layer, num_layers, recurrent=keeps_recurrent_state(model)
        )
        return MergedRows(decoder), nullcontext()

    def make_slots(self, model: PreTrainedModel, columns_K: Tensor | None = None) -> SlotDecoder | None:
        """A decoder in slots for one batch, as ``make`` gives one; None if rows are decoded in step.

        Raises:
            ValueError: if it is asked for and cannot run this model.
        """
        if self.decoder == "hugging_face" or (self.decoder != "continuous" and model.device.type != "cuda"):
            return None
        from lightning_gfn.policies.fused.decoder_weights import FusedWeights
        from lightning_gfn.policies.fused.slot_decoder import FusedSlotDecoder

        weights = self.fused_weights(model, columns_K)
        if isinstance(weights, FusedWeights):
            return FusedSlotDecoder(weights)
        if self.decoder == "continuous":
            raise ValueError("decoder: continuous runs decoder-only models; set decoder: fused or auto")
        return None

    def fused_weights(
        self, model: PreTrainedModel, columns_K: Tensor | None = None
    ) -> FusedWeights | FusedT5Weights | None:
        """The up-to-date working copy; None if the model decodes through its own forward pass.

        Raises:
            ValueError: if the fused decoder is asked for and cannot run this model.
        """
        if self.decoder == "hugging_face":
            return None
        from lightning_gfn.policies.fused import families, layers
        from lightning_gfn.policies.fused.t5 import weights as t5_weights

        seq2seq = model.config.is_encoder_decoder
        if seq2seq:
            reason = t5_weights.unsupported_reason(model)
        else:
            reason = families.unsupported_reason(DecoderOnly().backbone(model))
        if reason is not None and (self.decoder != "auto" or self.sampling_dtype is not None):
            raise ValueError(
                f"the fused decoder cannot run this model: {reason}; set decoder: hugging_face without sampling_dtype"
            )
        dtype = self.copy_dtype(model)
        too_large = layers.copy_bytes(model, dtype) > max_working_copy_bytes(model.device)
        if reason is not None or (self.decoder == "auto" and too_large):
            return None
        copy = self.t5_weights if seq2seq else self.dense_weights
        return copy(model, dtype, columns_K)

    def dense_weights(self, model: PreTrainedModel, dtype: torch.dtype, columns_K: Tensor | None) -> FusedWeights:
        """The working copy of a decoder-only model; its layers are those of the scoring pass if that computes alike."""
        from lightning_gfn.policies.fused.decoder_weights import FusedWeights

        layers = self.copies.of(DecoderOnly().backbone(model), dtype)
        inner = {id(weight) for weight in part(layers.backbone, layers.family.layers).parameters()}
        outer = (weight for weight in model.parameters() if id(weight) not in inner)
        state = WeightState(dtype, outer, (adapter_state(model), place(columns_K)))
        if isinstance(self.weights, FusedWeights) and self.state is not None and self.state.equals(state):
            self.weights.use_layers(layers)
        else:
            self.weights = None
            self.state, self.weights = state, FusedWeights(model, layers, output_layer_of(model), columns_K)
        return self.weights

    def t5_weights(self, model: PreTrainedModel, dtype: torch.dtype, columns_K: Tensor | None) -> FusedT5Weights:
        """The working copy of a T5 model."""
        from lightning_gfn.policies.fused.t5.weights import FusedT5Weights

        state = WeightState(dtype, model.parameters(), (adapter_state(model), place(columns_K)))
        if not isinstance(self.weights, FusedT5Weights) or self.state is None or not self.state.equals(state):
            self.weights = None
            scale = output_layer_of(model).scale
            backbone = EncoderDecoder().backbone(model)
            self.state, self.weights = state, FusedT5Weights(model, backbone, scale, dtype, columns_K)
        return self.weights

    def copy_dtype(self, model: PreTrainedModel) -> torch.dtype:
        """What the working copy is kept in: as asked, else as the model computes, where the processor can.

        The adapter of a T5 model is added to the copy, and the steps between narrow weights would swallow it: float32
        then. In a decoder-only model it stands beside the weights.
        """
        if self.sampling_dtype is not None:
            return getattr(torch, self.sampling_dtype)
        if model.config.is_encoder_decoder and has_adapters(model):
            return torch.float32
        return compute_dtype(model)


def place(columns_K: Tensor | None) -> tuple[int, int] | None:
    """What tells the columns of a working copy, which holds on to them, from others."""
    return None if columns_K is None else (columns_K.data_ptr(), len(columns_K))


def max_working_copy_bytes(device: torch.device) -> float:
    """The largest working copy that ``auto`` makes on a device."""
    if device.type != "cuda":
        return MAX_WORKING_COPY_BYTES
    return MAX_WORKING_COPY_SHARE * torch.cuda.get_device_properties(device).total_memory


def fused_decoder(weights: FusedWeights | FusedT5Weights) -> Decoder:
    """A decoder for one batch from a working copy."""
    from lightning_gfn.policies.fused.decoder import FusedDecoder
    from lightning_gfn.policies.fused.t5.decoder import FusedT5Decoder, FusedT5Weights

    return FusedT5Decoder(weights) if isinstance(weights, FusedT5Weights) else FusedDecoder(weights)


def decoder_layers(model: PreTrainedModel) -> int:
    """Layers of the decoder of an encoder-decoder model."""
    for name in ("num_decoder_layers", "decoder_layers"):
        layers = getattr(model.config, name, None)
        if layers is not None:
            return int(layers)
    return int(model.config.get_text_config(decoder=True).num_hidden_layers)
