"""Models by name, by path or from a config block; and what their output layer does to hidden states."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightning_gfn.policies.models.adapters import apply_previous_adapter, base_of_adapter, is_adapter_folder
from lightning_gfn.policies.models.architectures import Architecture
from lightning_gfn.pretrained.catalogue import resolve
from lightning_gfn.pretrained.gguf import check_gguf, is_gguf, read_config, read_model

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

"""Models that scale the outputs of their decoder if their embeddings are tied; T5 has a field of its own for it."""


def check_pretrained(name: str) -> None:
    """Refuse a path that leads nowhere, or a model that is not installed, before anything is loaded.

    Args:
        name: of an installed model, a folder, a GGUF file, or a Hugging Face name ``owner/model``.

    Raises:
        ValueError: if the folder holds no model, or the file none in GGUF.
        FileNotFoundError: if the name looks like a path that does not exist, or the model is not installed.
    """
    folder = Path(resolve(name)).expanduser()
    if folder.is_dir():
        if is_adapter_folder(folder):
            check_pretrained(base_of_adapter(folder))
        elif not (folder / "config.json").is_file():
            raise ValueError(f"pretrained={name!r}: the folder has neither config.json nor adapter_config.json")
        return
    if is_gguf(name):
        check_gguf(name)
        return
    parts = Path(name).parts
    looks_like_path = name.startswith((".", "~", os.sep)) or len(parts) != name.count("/") + 1 or len(parts) > 2
    if looks_like_path or (len(parts) == 2 and Path(parts[0]).is_dir()):
        raise FileNotFoundError(
            f"pretrained={name!r}: no such folder. Train the earlier stage first (it writes a folder 'model') "
            "or give the name of an installed model (lightning-gfn model list), or of the hub, such as owner/model"
        )


def load_pretrained(
    name: str,
    architecture: Architecture,
    *,
    dtype: torch.dtype,
    attn_implementation: str | None,
    previous_adapter: Literal["merge", "freeze"],
) -> tuple[PreTrainedModel | PeftModel, str]:
    """Load a model; an adapter folder gives its base with the adapter merged or kept beside it.

    Args:
        name: of an installed model, a folder, a GGUF file, or a Hugging Face name.
        architecture: which kind of model it has to be.
        dtype: of the weights.
        attn_implementation: of attention; None for the library's choice.
        previous_adapter: what becomes of an adapter.

    Returns:
        the model, and the name or path where its tokenizer is.

    Raises:
        ValueError: if it is a model of another kind.
    """
    import transformers

    name = resolve(name)
    folder = Path(name).expanduser()
    name = str(folder) if folder.is_dir() else name
    with_adapter = folder.is_dir() and is_adapter_folder(folder)
    base_name = resolve(base_of_adapter(folder)) if with_adapter else name
    options: dict[str, Any] = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    architecture.check_config(load_config(base_name))
    if is_gguf(base_name):
        model = read_model(Path(base_name).expanduser(), architecture.auto_class, dtype=dtype, **options)
    else:
        model = getattr(transformers, architecture.auto_class).from_pretrained(base_name, dtype=dtype, **options)
    if not with_adapter:
        return model, name
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    return apply_previous_adapter(model, folder, previous_adapter), name if has_tokenizer else base_name


def load_config(name: str) -> PreTrainedConfig:
    """The configuration of a model that is no adapter, by the names that ``load_pretrained`` takes."""
    from transformers import AutoConfig

    return read_config(Path(name).expanduser()) if is_gguf(name) else AutoConfig.from_pretrained(resolve(name))


def create_model(
    block: Mapping[str, Any],
    architecture: Architecture,
    tokenizer: PreTrainedTokenizerBase,
    *,
    vocab_size: int,
    dtype: torch.dtype,
    attn_implementation: str | None,
) -> PreTrainedModel:
    """A model with random weights, drawn from torch's global generator.

    Args:
        block: ``model_type`` and fields of its configuration; vocabulary and special tokens come from the tokenizer.
        architecture: which kind of model it has to be.
        tokenizer: gives the ids of special tokens.
        vocab_size: rows of the embedding, unless the block says more.
        dtype: of the weights.
        attn_implementation: of attention; None for the library's choice.

    Raises:
        ValueError: if it is a model of another kind, a field is unknown or the vocabulary too small.
    """
    import transformers
    from transformers import AutoConfig

    fields = dict(block)
    model_type = fields.pop("model_type")
    known = AutoConfig.for_model(model_type)
    architecture.check_config(known)
    unknown = [name for name in fields if not hasattr(known, name)]
    if unknown:
        raise ValueError(f"config.{unknown[0]} is no field of a {model_type!r} configuration ({type(known).__name__})")
    fields.setdefault("vocab_size", vocab_size)
    if fields["vocab_size"] < vocab_size:
        raise ValueError(
            f"config.vocab_size={fields['vocab_size']} is less than the {vocab_size} tokens of the tokenizer"
        )
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = AutoConfig.for_model(model_type, **{**architecture.special_fields(special), **fields})
    options: dict[str, Any] = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    return getattr(transformers, architecture.auto_class).from_config(config, dtype=dtype, **options)
