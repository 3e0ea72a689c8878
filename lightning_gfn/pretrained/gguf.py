"""Models and tokenizers of GGUF files, dequantised, so that they train and save like any other."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

MAGIC = b"GGUF"
SINGLE_DIGIT_SPLITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
"""``tokenizer.ggml.pre`` of vocabularies that split every digit off and the rest as GPT-2 does."""
GPT2_SPLITS = frozenset({"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion"})
"""``tokenizer.ggml.pre`` of vocabularies that split as GPT-2 does."""


def is_gguf(name: str) -> bool:
    """True if the name is that of a GGUF file."""
    return name.lower().endswith(".gguf")


def check_gguf(name: str, argument: str = "pretrained") -> None:
    """Refuse a file that cannot be read, before anything is loaded.

    Args:
        name: path of a file.
        argument: what the error message calls it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no GGUF file, or the package ``gguf`` is missing.
    """
    file = Path(name).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{argument}={name!r}: no such file")
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{argument}={name!r} is no GGUF file: it does not begin with {MAGIC.decode()}")
    if find_spec("gguf") is None:
        raise ValueError(f"{argument}={name!r}: reading GGUF needs the package gguf; run: pip install gguf")


def read_config(file: Path) -> PreTrainedConfig:
    """The configuration that a GGUF file describes."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name)


def read_model(file: Path, auto_class: str, *, dtype: torch.dtype, **options: Any) -> PreTrainedModel:
    """The model of a GGUF file with plain weights: nothing of the quantisation is left in it.

    Args:
        file: which.
        auto_class: the class of transformers that loads such models.
        dtype: of the weights.
        options: further arguments of ``from_pretrained``.
    """
    import transformers

    # Without it, weights stay packed where a kernel for them is installed, and cannot be trained.
    plain = transformers.GgufConfig(dequantize=True)
    loader = getattr(transformers, auto_class)
    return loader.from_pretrained(
        str(file.parent), gguf_file=file.name, dtype=dtype, quantization_config=plain, **options
    )


def read_tokenizer(file: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a GGUF file, which splits text into words as the file says.

    Source: names and rules of ``tokenizer.ggml.pre``: llama.cpp.
    """
    from transformers import AutoTokenizer
    from transformers.integrations.gguf import read_gguf_metadata

    metadata, _ = read_gguf_metadata(str(file))
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    length = metadata.get(f"{metadata['general.architecture']}.context_length")
    if length is not None:
        tokenizer.model_max_length = int(length)
    if metadata.get("tokenizer.ggml.model") == "gpt2":
        set_word_split(tokenizer, metadata.get("tokenizer.ggml.pre"), file)
    return tokenizer


def set_word_split(tokenizer: PreTrainedTokenizerBase, rule: str | None, file: Path) -> None:
    """Split as the file says where transformers does not do so by itself; a rule that neither knows is a warning.

    Args:
        tokenizer: a byte-level one; changed.
        rule: ``tokenizer.ggml.pre``.
        file: named in the warning.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    backend = tokenizer.backend_tokenizer
    if rule in SINGLE_DIGIT_SPLITS:
        words = ByteLevel(add_prefix_space=False, use_regex=True)
        backend.pre_tokenizer = Sequence([Digits(individual_digits=True), words])
    elif isinstance(backend.pre_tokenizer, ByteLevel) and rule not in GPT2_SPLITS:
        warnings.warn(
            f"{file}: its tokenizer splits words by the rule {rule!r}, which is not known here; GPT-2's is used, so "
            "some texts may become other tokens than the model was trained on",
            stacklevel=2,
        )
