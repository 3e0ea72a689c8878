"""Models by name, by path or from a config block; and what their output layer does to hidden states."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from lightning_gfn.policies.adapters import apply_previous_adapter, base_of_adapter, is_adapter_folder
from lightning_gfn.policies.log_probs import OutputLayer
from lightning_gfn.policies.modes import evaluation_mode

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CACHED_LAYER_TYPES = {"full_attention", "sliding_attention", "chunked_attention", "moe", "mlp"}


def check_pretrained(name: str) -> None:
    """Refuse a path that leads nowhere before anything is loaded.

    Args:
        name: Hugging Face name ``owner/model`` or a folder.

    Raises:
        ValueError: if the folder holds no model.
        FileNotFoundError: if the name looks like a path and there is no such folder.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file() and not is_adapter_folder(folder):
            raise ValueError(f"pretrained={name!r}: the folder has neither config.json nor adapter_config.json")
        return
    parts = Path(name).parts
    looks_like_path = name.startswith((".", "~", os.sep)) or len(parts) != name.count("/") + 1 or len(parts) > 2
    if looks_like_path or (len(parts) == 2 and Path(parts[0]).is_dir()):
        raise FileNotFoundError(
            f"pretrained={name!r}: no such folder. Train the earlier stage first (it writes a folder 'model') "
            "or give a Hugging Face name such as owner/model"
        )


def load_pretrained(
    name: str,
    *,
    dtype: torch.dtype,
    attn_implementation: str | None,
    previous_adapter: Literal["merge", "freeze"],
) -> tuple[PreTrainedModel | PeftModel, str]:
    """Load a model; an adapter folder gives its base with the adapter merged or kept beside it.

    Returns:
        the model, and the name or path where its tokenizer is.
    """
    from transformers import AutoModelForCausalLM

    folder = Path(name).expanduser()
    name = str(folder) if folder.is_dir() else name
    with_adapter = folder.is_dir() and is_adapter_folder(folder)
    base_name = base_of_adapter(folder) if with_adapter else name
    options: dict[str, Any] = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    model = AutoModelForCausalLM.from_pretrained(base_name, dtype=dtype, **options)
    if not with_adapter:
        return model, name
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    return apply_previous_adapter(model, folder, previous_adapter), name if has_tokenizer else base_name


def create_model(
    block: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    vocab_size: int,
    dtype: torch.dtype,
    attn_implementation: str | None,
) -> PreTrainedModel:
    """A model with random weights, drawn from torch's global generator.

    Args:
        block: ``model_type`` and fields of its configuration; vocabulary and special tokens come from the tokenizer.
        tokenizer: gives the ids of special tokens.
        vocab_size: rows of the embedding, unless the block says more.
        dtype: of the weights.
        attn_implementation: of attention; None for the library's choice.

    Raises:
        ValueError: if a field is unknown or the vocabulary too small.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = dict(block)
    model_type = fields.pop("model_type")
    known = AutoConfig.for_model(model_type)
    unknown = [name for name in fields if not hasattr(known, name)]
    if unknown:
        raise ValueError(f"config.{unknown[0]} is no field of a {model_type!r} configuration ({type(known).__name__})")
    fields.setdefault("vocab_size", vocab_size)
    if fields["vocab_size"] < vocab_size:
        raise ValueError(
            f"config.vocab_size={fields['vocab_size']} is less than the {vocab_size} tokens of the tokenizer"
        )
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = AutoConfig.for_model(model_type, **{**special, **fields})
    options: dict[str, Any] = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    return AutoModelForCausalLM.from_config(config, dtype=dtype, **options)


def check_decodable(model: PreTrainedModel) -> None:
    """Refuse models that a key-value cache of plain attention cannot serve.

    Raises:
        ValueError: naming what the model needs instead.
    """
    config = model.config
    layer_types = set(getattr(config, "layer_types", None) or ())
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{type(model).__name__} is an encoder-decoder model; CausalLM takes decoder-only models")
    if getattr(model, "_is_stateful", False) or layer_types - CACHED_LAYER_TYPES:
        raise ValueError(f"{type(model).__name__} keeps a recurrent state; CausalLM takes models with attention alone")


def max_positions(config: PreTrainedConfig) -> int | None:
    """The longest sequence that the model has positions for; None if unlimited."""
    value = getattr(config, "max_position_embeddings", None)
    return int(value) if value is not None else None


def output_layer_of(model: PreTrainedModel) -> OutputLayer:
    """How the model turns hidden states into logits, by its configuration.

    Raises:
        ValueError: if the model has no output layer.
    """
    head, config = model.get_output_embeddings(), model.config
    if head is None:
        raise ValueError(
            f"{type(model).__name__} has no output embedding; CausalLM needs a model for causal language modelling"
        )
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)
    factor = (1.0 if scale is None else float(scale)) / (1.0 if divisor is None else float(divisor))
    return OutputLayer(head=head, scale=factor, cap=getattr(config, "final_logit_softcapping", None))


@torch.no_grad()
def check_output_layer(model: PreTrainedModel, output_layer: OutputLayer) -> None:
    """Compare the output layer with the model's own logits on a few tokens.

    Raises:
        ValueError: if the model does something to its logits that ``OutputLayer`` does not know.
    """
    ids = torch.arange(3, device=next(model.parameters()).device)[None]
    with evaluation_mode(model):
        expected = model(input_ids=ids, use_cache=False).logits.float()
        given = output_layer(model.base_model(input_ids=ids, use_cache=False).last_hidden_state).float()
    if not torch.allclose(expected, given, rtol=1e-2, atol=1e-2):
        raise ValueError(
            f"{type(model).__name__} changes its logits after the output layer in a way that is not supported: "
            "known are logit_scale, logits_scaling and final_logit_softcapping"
        )
