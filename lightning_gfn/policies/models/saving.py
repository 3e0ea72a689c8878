"""The folder of a trained model, which ``pretrained`` of a later stage can name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_gfn.policies.models import adapters, export

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_folder(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    end_ids: Sequence[int],
    *,
    adapted: PeftModel | None,
    base: str | None,
    of_shards: bool,
) -> None:
    """Write weights, tokenizer and end tokens.

    Args:
        folder: made if missing.
        model: the Hugging Face model, with adapter layers inside if there are any.
        tokenizer: of the model.
        end_ids: tokens that end a completion.
        adapted: the model with its adapter; None if all weights are trained.
        base: name or path of the model under the adapter; None if it was made here.
        of_shards: weights are cut over processes, and are whole now.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    export.with_end_tokens(tokenizer, end_ids).save_pretrained(folder)
    if adapted is None:
        model.save_pretrained(folder, state_dict=export.whole_weights(model) if of_shards else None)
    else:
        adapters.save_adapted(adapted, folder, base, of_shards=of_shards)
    export.write_generation_config(folder, model, end_ids)
    export.obey_umask(folder)
