"""What a saved folder says beside the weights: where texts end, and who may read the files."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

END_TOKENS = "end_tokens"
"""Field of ``tokenizer_config.json`` that names all end tokens, where they were not the tokenizer's own one alone."""
GENERATION_CONFIG = "generation_config.json"


def with_end_tokens(tokenizer: PreTrainedTokenizerBase, end_ids: Sequence[int]) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer that says which tokens end a text.

    Its ``eos_token`` becomes one of them if it is none, unless they are ordinary tokens: a tokenizer reads its
    ``eos_token`` as a special token, and would encode texts in another way.

    Args:
        tokenizer: stays as it is.
        end_ids: the tokens that mean stop.
    """
    tokenizer = copy.deepcopy(tokenizer)
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    known = [index for index in end_ids if index in special]
    if set(end_ids) != {tokenizer.eos_token_id} or END_TOKENS in tokenizer.init_kwargs:
        tokenizer.init_kwargs[END_TOKENS] = tokenizer.convert_ids_to_tokens(list(end_ids))
    if tokenizer.eos_token_id not in end_ids and known:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(known[0])
    return tokenizer


def saved_end_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """The end tokens that an earlier stage saved with its tokenizer; None if it did not."""
    names = tokenizer.init_kwargs.get(END_TOKENS)
    return None if names is None else [tokenizer.convert_tokens_to_ids(name) for name in names]


def write_generation_config(folder: Path, model: PreTrainedModel, end_ids: Sequence[int]) -> None:
    """Write the end tokens where ``generate`` looks for them, in the file that is there or in one of the model's.

    Args:
        folder: of the saved model or adapter.
        model: its generation settings are the rest of the file.
        end_ids: the tokens that mean stop.
    """
    file = folder / GENERATION_CONFIG
    text = file.read_text(encoding="utf-8") if file.is_file() else model.generation_config.to_json_string()
    content = {**json.loads(text), "eos_token_id": end_ids[0] if len(end_ids) == 1 else list(end_ids)}
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """What ``state_dict`` gives, of a model whose shards have been gathered: ``state_dict`` would cut it again."""
    left_out = {f"{at}.{name}" for at, module in model.named_modules() for name in module._non_persistent_buffers_set}
    buffers = {name: buffer for name, buffer in model.named_buffers() if name not in left_out}
    return {**dict(model.named_parameters(remove_duplicate=False)), **buffers}


def obey_umask(folder: Path) -> None:
    """Give the files of a folder the rights that new files have; safetensors makes them for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~mask)
