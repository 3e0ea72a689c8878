"""Tokenizers by name, by path, byte-level, or byte-pair encoding trained on the data; and text to token ids."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lightning_gfn.policies.text.chat_template import ChatTemplate
from lightning_gfn.pretrained.catalogue import resolve
from lightning_gfn.pretrained.gguf import check_gguf, is_gguf, read_tokenizer
from lightning_gfn.prompts.chat import ChatPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
NUM_BYTES = 256
GUARDS = ("", "\n", ":", "a")
SPACES = ("\u2581", "\u0120")
"""How tokenizers spell the space before a word."""
SAMPLES = ("a", "ab 12", " two  spaces", "line\nbreak\n\nend", "\n\nx = 3/4, y.", "(a)")
"""Texts that a tokenizer should give back."""


@dataclass(frozen=True)
class TokenizerSettings:
    """A tokenizer made here instead of loaded: pad, begin and end token, 256 bytes, and merges if it is trained.

    Args:
        kind: ``byte`` (one token a byte, no training) or ``bpe`` (byte-level byte-pair encoding trained on the texts of
            the data; every digit is a token of its own).
        vocab_size: tokens at most; the model's vocabulary has exactly this size for ``bpe``. ``byte`` always has 259.
    """

    kind: Literal["byte", "bpe"] = "byte"
    vocab_size: int = NUM_BYTES + 3

    def __post_init__(self) -> None:
        smallest = NUM_BYTES + 3
        if self.kind not in ("byte", "bpe"):
            raise ValueError(f"tokenizer.kind={self.kind!r} must be 'byte' or 'bpe'")
        if self.vocab_size < smallest:
            raise ValueError(
                f"tokenizer.vocab_size={self.vocab_size} must be at least {smallest} (256 bytes, 3 special tokens)"
            )
        if self.kind == "byte" and self.vocab_size != smallest:
            raise ValueError(
                f"tokenizer.vocab_size={self.vocab_size}: a byte tokenizer has {smallest} tokens; use kind: bpe"
            )


def make_tokenizer(
    settings: TokenizerSettings, texts: Iterable[str], *, prompts_end: bool = False
) -> PreTrainedTokenizerBase:
    """Make, and for ``bpe`` train, a tokenizer; equal texts give an equal tokenizer.

    Args:
        settings: what to make.
        texts: training texts; read only for ``bpe``.
        prompts_end: texts get an end token, as encoders of T5 want it, instead of a begin token.

    Returns:
        a fast tokenizer whose ``save_pretrained`` folder ``AutoTokenizer`` can load.

    Raises:
        ValueError: if ``bpe`` is given no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = [PAD, BOS, EOS]
    if settings.kind == "byte":
        vocab = {token: index for index, token in enumerate([*specials, *alphabet])}
        tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.add_special_tokens(specials)
    else:
        corpus = list(texts)
        if not corpus:
            raise ValueError(
                "tokenizer.kind: bpe is trained on the data, but the data gave no texts; use kind: byte or a path"
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=settings.vocab_size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(corpus, trainer=trainer)
    tokenizer.decoder = decoders.ByteLevel()
    template, special = (f"$A {EOS}", EOS) if prompts_end else (f"{BOS} $A", BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(special, tokenizer.token_to_id(special))]
    )
    return wrap_tokenizer(tokenizer.to_str())


def wrap_tokenizer(serialised: str) -> PreTrainedTokenizerBase:
    """A fast tokenizer from the JSON of a tokenizer that ``make_tokenizer`` made."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(serialised),
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        clean_up_tokenization_spaces=False,
    )


def is_generic_folder(folder: Path) -> bool:
    """True if the folder holds a tokenizer.json that is complete by itself, as ``make_tokenizer`` saves it."""
    config = folder / "tokenizer_config.json"
    if not (folder / "tokenizer.json").is_file() or not config.is_file():
        return False
    return json.loads(config.read_text()).get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast")


def check_tokenizer(name: str) -> None:
    """Refuse the tokenizer of a model that is not installed, or of a file that is no GGUF, before anything is loaded.

    Raises:
        ValueError: if the file cannot be read.
        FileNotFoundError: if the model is not installed, or there is no such file.
    """
    if is_gguf(name):
        check_gguf(name, "tokenizer")
    else:
        resolve(name, "tokenizer")


def made_or_loaded(
    source: str | TokenizerSettings, texts: Iterable[str], *, prompts_end: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer that settings describe, or the one of a name or path; see the two functions."""
    if isinstance(source, TokenizerSettings):
        return make_tokenizer(source, texts, prompts_end=prompts_end)
    return load_tokenizer(source)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A tokenizer by name or path, or of a GGUF file; one without a pad token pads with its end token.

    Raises:
        ValueError: if it has no end token.
        FileNotFoundError: if it is that of a model that is not installed.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if is_gguf(name):
        tokenizer = read_tokenizer(Path(name).expanduser())
    else:
        name = resolve(name, "tokenizer")
        # AutoTokenizer replaces a generic one by the class of the model type beside it, with other special tokens.
        loader = PreTrainedTokenizerFast if is_generic_folder(Path(name)) else AutoTokenizer
        tokenizer = loader.from_pretrained(name)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"tokenizer {name!r} has no end token (eos_token); set one in its tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


class TextCodec:
    """Text to token ids and back, in the two roles that a text can have: prompt and completion.

    Args:
        tokenizer: a Hugging Face tokenizer.
        prompts_end: prompts keep the end token that the tokenizer's own rule adds (encoders are trained with it);
            otherwise it is taken away, since a completion follows.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, prompts_end: bool = False) -> None:
        self.tokenizer, self.prompts_end = tokenizer, prompts_end
        self.begin_ids, self.end_ids = self._frame()
        self.guard_ids = {guard: self._plain(guard) if guard else [] for guard in GUARDS}
        self.guard = self._choose_guard()
        self.chat: ChatTemplate | None = None
        """The tokenizer's chat template; None if it has none, or if prompts go to an encoder."""
        if tokenizer.chat_template and not prompts_end:
            self.chat = ChatTemplate(tokenizer, self.special_ids(), self.encode_completion)

    def _plain(self, text: str) -> list[int]:
        """Token ids of a text without special tokens; the name of one is text like any other."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def _frame(self) -> tuple[list[int], list[int]]:
        """What the tokenizer's own rule puts before and behind a text."""
        plain, framed = self.tokenizer.encode("a", add_special_tokens=False), self.tokenizer.encode("a")
        for start in range(len(framed) - len(plain) + 1):
            if framed[start : start + len(plain)] == plain:
                return framed[:start], framed[start + len(plain) :]
        return [], []

    def _choose_guard(self) -> str:
        """The text behind which completions are encoded and decoded: the first that brings most samples back.

        Some tokenizers put a space before the first word of a text, and a completion is not the first.
        """
        pieces = self.tokenizer.convert_ids_to_tokens(self._plain("a"))
        adds_space = bool(pieces) and pieces[0].startswith(SPACES)
        lost: dict[str, list[str]] = {}
        for guard in GUARDS[1:] if adds_space else GUARDS:
            self.guard = guard
            lost[guard] = [text for text in SAMPLES if self.decode(self.encode_completion(text)) != text]
            if not lost[guard]:
                return guard
        best = min(lost, key=lambda guard: len(lost[guard]))
        self.guard = best
        example = lost[best][0]
        warnings.warn(
            f"the tokenizer does not give every text back: {example!r} becomes "
            f"{self.decode(self.encode_completion(example))!r}; completions are rewarded and stored as it spells them",
            stacklevel=2,
        )
        return best

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a prompt, with the begin token if the tokenizer's own rule adds one; never empty.

        What the text itself begins or ends with is not added again. A ``ChatPrompt`` goes through the chat template,
        where there is one, which adds what it wants.
        """
        if self.chat is not None and isinstance(text, ChatPrompt):
            return self.chat.encode(text)
        ids = self.framed(self.tokenizer.encode(text, add_special_tokens=False))
        if ids:
            return ids
        token = self.tokenizer.eos_token_id if self.prompts_end else self.tokenizer.bos_token_id
        return [token if token is not None else self.tokenizer.eos_token_id]

    def framed(self, ids: list[int]) -> list[int]:
        """The ids of a prompt with the begin and end tokens that the tokenizer's own rule gives it."""
        begin, end = self.begin_ids, self.end_ids if self.prompts_end else []
        if begin and ids[: len(begin)] != begin:
            ids = begin + ids
        if end and ids[-len(end) :] != end:
            ids = ids + end
        return ids

    def encode_completion(self, text: str) -> list[int]:
        """Token ids of a completion; the name of a special token in it is text like any other.

        A guard that joins the text in one token would take its beginning along, so another one serves then.
        """
        for guard in (self.guard, *GUARDS[1:]):
            own, ids = self.guard_ids[guard], self._plain(guard + text)
            if ids[: len(own)] == own and (own or not guard):
                return ids[len(own) :]
        return self._plain(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of action tokens."""
        guard_ids = self.guard_ids[self.guard]
        if not guard_ids:
            return self._spell(ids)
        return self._spell([*guard_ids, *ids]).removeprefix(self._spell(guard_ids))

    def _spell(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)

    def token_id(self, token: str, argument: str) -> int:
        """The id of a token given as a vocabulary entry or as a text that is one token.

        Raises:
            ValueError: naming the argument, if the text is not one token.
        """
        entry = self.tokenizer.get_vocab().get(token)
        if entry is not None:
            return entry
        ids = self.encode_completion(token)
        if len(ids) != 1:
            raise ValueError(f"{argument}: {token!r} is {len(ids)} tokens {ids} of the tokenizer; give single tokens")
        return ids[0]

    def special_ids(self) -> set[int]:
        """Ids of special tokens, those that are only marked so in the vocabulary included."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {})
        return set(self.tokenizer.all_special_ids) | {index for index, token in added.items() if token.special}


def dump_tokenizer(tokenizer: PreTrainedTokenizerBase, *, made_here: bool) -> str:
    """A JSON string from which ``restore_tokenizer`` gives back a tokenizer made here; others are only marked."""
    made = tokenizer.backend_tokenizer.to_str() if made_here else None
    return json.dumps({"tokenizer": made})


def restore_tokenizer(state: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer in a ``dump_tokenizer`` string; None if it was loaded by name or path."""
    made = json.loads(state)["tokenizer"]
    return wrap_tokenizer(made) if made is not None else None
