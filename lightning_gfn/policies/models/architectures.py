"""What differs between decoder-only and encoder-decoder models: which models they are, and how they read rows."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from lightning_gfn.finite import state_of_weights
from lightning_gfn.policies.models.evaluation_mode import evaluation_mode
from lightning_gfn.policies.models.forward_pass import ForwardPass, join_rows, prefix_rows
from lightning_gfn.policies.models.output_layer import OutputLayer
from lightning_gfn.types import StepBatch

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

CACHED_LAYER_TYPES = {"full_attention", "sliding_attention", "chunked_attention", "moe", "mlp"}
RECURRENT_LAYER_TYPES = {"linear_attention", "conv", "mamba", "hybrid"}
"""Layers whose state a cache of the library keeps beside keys and values."""
KNOWN_LAYER_TYPES = CACHED_LAYER_TYPES | RECURRENT_LAYER_TYPES


def max_positions(config: PreTrainedConfig) -> int | None:
    """The longest sequence that the model has positions for; None if unlimited."""
    value = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(value) if value is not None else None


def keeps_recurrent_state(model: PreTrainedModel) -> bool:
    """True if keys and values are not all that a decoder has to keep."""
    layer_types = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    return bool(getattr(model, "_is_stateful", False) or layer_types - CACHED_LAYER_TYPES)


class Architecture(ABC):
    """A kind of language model."""

    auto_class: ClassVar[str]
    """The class of transformers that loads such models."""
    task_type: ClassVar[str]
    """What peft calls them."""
    prompts_end: ClassVar[bool]
    """True if a prompt keeps the end token that its tokenizer adds, and a tokenizer made here adds one."""
    served_by_vllm: ClassVar[bool]
    """True if vLLM can sample from such models."""

    @abstractmethod
    def check_config(self, config: PreTrainedConfig) -> None:
        """Refuse models of another kind by their configuration, before weights are loaded.

        Raises:
            ValueError: naming the class to use instead.
        """

    @abstractmethod
    def check_model(self, model: PreTrainedModel) -> None:
        """Refuse models that cannot be decoded.

        Raises:
            ValueError: naming what the model needs instead.
        """

    @abstractmethod
    def special_fields(self, special: dict[str, int | None]) -> dict[str, int | None]:
        """Fields of a new model's configuration that follow from the ids of the tokenizer's special tokens."""

    @abstractmethod
    def positions_needed(self, context: int, action: int) -> int:
        """Positions that the model needs for a context and an action of so many tokens."""

    @abstractmethod
    def backbone(self, model: PreTrainedModel) -> nn.Module:
        """What ``read`` runs: the model without its output layer."""

    @abstractmethod
    def read(self, backbone: Any, steps: StepBatch, *, pad_id: int) -> ForwardPass:
        """One teacher-forced pass.

        Args:
            backbone: as ``backbone`` gives it.
            steps: contexts and actions.
            pad_id: filler.
        """

    @abstractmethod
    def try_out(self, model: PreTrainedModel) -> tuple[Tensor, Tensor]:
        """The model's own logits for a few tokens, and the hidden states that the output layer makes them from."""

    @torch.no_grad()
    def check_output_layer(self, model: PreTrainedModel, output_layer: OutputLayer) -> None:
        """Compare the output layer with the model's own logits.

        Raises:
            ValueError: if weights are not finite, or the model does something to its logits that ``OutputLayer`` does
                not know.
        """
        with evaluation_mode(model):
            expected, hidden = self.try_out(model)
            given = output_layer(hidden)
        if not (bool(torch.isfinite(given).all()) and bool(torch.isfinite(expected).all())):
            where = model.name_or_path or "its configuration"
            raise ValueError(
                f"{type(model).__name__} of {where} computes logits that are not finite (NaN or infinite): "
                f"{state_of_weights(model)}; take the model of another run or an earlier checkpoint, or a wider dtype"
            )
        if not torch.allclose(expected.float(), given.float(), rtol=1e-2, atol=1e-2):
            raise ValueError(
                f"{type(model).__name__} changes its logits after the output layer in a way that is not supported: "
                "known are logit_scale, logits_scaling, final_logit_softcapping and T5's scaled decoder outputs"
            )


class DecoderOnly(Architecture):
    """Context and action are one sequence; prefix t is read at the last token before it."""

    auto_class, task_type, prompts_end, served_by_vllm = "AutoModelForCausalLM", "CAUSAL_LM", False, True

    def check_config(self, config: PreTrainedConfig) -> None:
        """See ``Architecture.check_config``."""
        if getattr(config, "is_encoder_decoder", False):
            raise ValueError(
                f"{type(config).__name__} is an encoder-decoder model, expected a decoder-only one: "
                "as a policy use lightning_gfn.policies.seq2seq_lm.Seq2SeqLM"
            )

    def check_model(self, model: PreTrainedModel) -> None:
        """Refuse models whose state no cache of the library keeps."""
        if not keeps_recurrent_state(model):
            return
        layer_types = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
        takes_cache = "past_key_values" in inspect.signature(self.backbone(model).forward).parameters
        if model.config.is_encoder_decoder or not takes_cache or not layer_types <= KNOWN_LAYER_TYPES:
            raise ValueError(
                f"model_type {model.config.model_type!r} keeps a recurrent state that is not supported: use a model "
                "of attention (llama, qwen3, gemma3, …) or a hybrid such as qwen3_5_text, qwen3_next or lfm2"
            )

    def special_fields(self, special: dict[str, int | None]) -> dict[str, int | None]:
        """See ``Architecture.special_fields``."""
        return special

    def positions_needed(self, context: int, action: int) -> int:
        """Context and action share the positions."""
        return context + action

    def backbone(self, model: PreTrainedModel) -> nn.Module:
        """See ``Architecture.backbone``; of a model that reads images or sounds too, its language model."""
        is_plain = model.config.get_text_config() is model.config and model.base_model is not model
        found: nn.Module = model.base_model if is_plain else model.get_decoder()
        if found is model:  # Llama 4's text model names a base that it does not have
            found = getattr(model, "model")  # noqa: B009 - typed as a tensor or a module
        return found

    def read(self, backbone: Any, steps: StepBatch, *, pad_id: int) -> ForwardPass:
        """See ``Architecture.read``."""
        ids_NL, context_N = join_rows(steps, pad_id)
        length = ids_NL.shape[1]
        hidden_NLH = backbone(input_ids=ids_NL, use_cache=False).last_hidden_state
        return ForwardPass(
            hidden_SH=hidden_NLH.reshape(-1, hidden_NLH.shape[-1]),
            flat_NT1=prefix_rows(context_N - 1, steps.action_ids_NT.shape[1] + 1, length),
            context_PCH=hidden_NLH,
            context_mask_PC=torch.arange(length, device=ids_NL.device) < context_N[:, None],
        )

    def try_out(self, model: PreTrainedModel) -> tuple[Tensor, Tensor]:
        """See ``Architecture.try_out``."""
        ids = torch.arange(3, device=model.device)[None]
        hidden = self.backbone(model)(input_ids=ids, use_cache=False).last_hidden_state
        return model(input_ids=ids, use_cache=False).logits, hidden
