"""The models of the table, as folders that both sides load, and prompts of an exact number of tokens."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.pretrained.catalogue import is_installed, model_folder

if TYPE_CHECKING:
    from lightning_gfn.policies.causal_lm import CausalLM

VOCABULARY, SMOLLM2 = 4096, "smollm2-135m"
SMALL_LLAMA: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 1088,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}


@dataclass(frozen=True)
class Model:
    """A model in a folder.

    Args:
        name: for the table.
        folder: that ``from_pretrained`` reads.
        words: each is one token where a space stands before it.
    """

    name: str
    folder: Path
    words: tuple[str, ...]

    def texts(self, count: int, num_tokens: int, seed: int = 1) -> list[str]:
        """Texts of exactly so many tokens; equal seeds give equal texts."""
        generator = random.Random(seed)
        return ["".join(f" {word}" for word in generator.choices(self.words, k=num_tokens)) for _ in range(count)]

    def policy(self, prompt_tokens: int, new_tokens: int, **settings: Any) -> CausalLM:
        """A policy whose actions all have ``new_tokens`` tokens, not built yet; settings may allow shorter ones."""
        from lightning_gfn.policies.causal_lm import CausalLM

        # One position more for the begin token that some tokenizers add.
        settings = {"min_new_tokens": new_tokens, **settings}
        return CausalLM(
            pretrained=str(self.folder), max_prompt_tokens=prompt_tokens + 1, max_new_tokens=new_tokens, **settings
        )


@cache
def workspace() -> tempfile.TemporaryDirectory[str]:
    """A folder that lasts as long as the process."""
    return tempfile.TemporaryDirectory(prefix="benchmarks-")


def new_folder() -> Path:
    """An empty folder in the workspace."""
    return Path(tempfile.mkdtemp(dir=workspace().name))


def write_llama(folder: Path, **changes: Any) -> None:
    """Save a Llama with random weights and a tokenizer whose words are single tokens."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(**{**SMALL_LLAMA, **changes})
    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2} | {f"w{i}": i for i in range(3, config.vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


@cache
def small_llama() -> Model:
    """Four layers, width 256, vocabulary 4096, random weights."""
    folder = new_folder()
    write_llama(folder)
    return Model("small Llama", folder, tuple(f"w{i}" for i in range(3, VOCABULARY)))


@cache
def smollm2() -> Model:
    """SmolLM2-135M-Instruct as installed."""
    from transformers import AutoTokenizer

    folder = model_folder(SMOLLM2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = (token[1:] for token in sorted(tokenizer.get_vocab()) if token.startswith("Ġ"))
    return Model("SmolLM2-135M", folder, tuple(w for w in words if w.isascii() and w.isalpha() and len(w) >= 4))


def needs_smollm2() -> str | None:
    """A need of a row: the real model is installed."""
    return None if is_installed(SMOLLM2) else f"{SMOLLM2} is not installed: lightning-gfn model install {SMOLLM2}"
