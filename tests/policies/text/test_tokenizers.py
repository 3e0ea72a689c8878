"""Byte-level and trained tokenizers: round trips, digits, state, and the folder that AutoTokenizer loads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.policies.text.tokenizers import (
    TextCodec,
    TokenizerSettings,
    dump_tokenizer,
    load_tokenizer,
    make_tokenizer,
    restore_tokenizer,
)

CORPUS = ["Ann buys 12 apples and 345 pears.\nThe answer is: 357"] * 5 + ["The answer is: 9"] * 5
HARD = ["", " two  spaces ", "line\nbreak\n\n", "3 1/2 × π = ?", "emoji 🙂", "tab\tend", "12345", "<eos> as text?"]
BYTE, BPE = TokenizerSettings(), TokenizerSettings(kind="bpe", vocab_size=290)


@pytest.fixture(params=[BYTE, BPE], ids=["byte", "bpe"])
def settings(request: Any) -> TokenizerSettings:
    return request.param


def test_completions_round_trip(settings: TokenizerSettings) -> None:
    codec = TextCodec(make_tokenizer(settings, CORPUS))
    for text in [*HARD, *CORPUS]:
        ids = codec.encode_completion(text)
        assert codec.decode(ids) == text
        assert not set(ids) & codec.special_ids()


def test_prompt_begins_with_the_begin_token_once(settings: TokenizerSettings) -> None:
    codec = TextCodec(make_tokenizer(settings, CORPUS))
    bos = codec.tokenizer.bos_token_id
    assert codec.encode_prompt("7 apples") == [bos, *codec.encode_completion("7 apples")]
    assert codec.encode_prompt("<bos>7 apples") == codec.encode_prompt("7 apples")
    assert codec.encode_prompt("") == [bos]


def test_trained_tokenizer_merges_words_but_never_digits() -> None:
    tokenizer = make_tokenizer(BPE, CORPUS)
    codec = TextCodec(tokenizer)
    assert len(codec.encode_completion("The answer is")) < len("The answer is")
    assert len(codec.encode_completion("12345")) == 5
    assert len(make_tokenizer(BYTE, [])) == 259


def test_equal_texts_give_equal_tokenizers() -> None:
    first, second = (make_tokenizer(BPE, iter(CORPUS)).backend_tokenizer.to_str() for _ in range(2))
    assert first == second
    assert first != make_tokenizer(BPE, ["something else entirely, entirely"] * 5).backend_tokenizer.to_str()


def test_state_and_folder_give_the_same_tokenizer_back(settings: TokenizerSettings, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(settings, CORPUS)
    restored = restore_tokenizer(dump_tokenizer(tokenizer, made_here=True))
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    for other in (restored, loaded):
        assert other is not None
        for text in [*HARD, *CORPUS]:
            assert TextCodec(other).encode_prompt(text) == TextCodec(tokenizer).encode_prompt(text)
            assert TextCodec(other).encode_completion(text) == TextCodec(tokenizer).encode_completion(text)
        assert (other.pad_token_id, other.bos_token_id, other.eos_token_id) == (0, 1, 2)
    assert restore_tokenizer(dump_tokenizer(tokenizer, made_here=False)) is None


def test_folder_of_a_model_and_tokenizer_gives_the_same_tokenizer_back(make_policy: Any, tmp_path: Path) -> None:
    for name in ("llama", "gpt2", "qwen2"):
        policy = make_policy(name, tokenizer=BYTE)
        policy.save_pretrained(tmp_path / name)
        loaded = TextCodec(load_tokenizer(str(tmp_path / name)))
        for text in HARD:
            assert loaded.encode_prompt(text) == policy.encode_prompt(text)
            assert loaded.decode(policy.encode_completion(text)) == policy.decode(policy.encode_completion(text))


def test_sentencepiece_style_tokenizer_adds_no_space_before_a_completion() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["\u2581", "a", "b", "\n", "\u2581a", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[("\u2581", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    codec = TextCodec(fast)
    assert fast.encode("ab", add_special_tokens=False) == [4, 2], "the tokenizer itself does add a space"
    assert codec.encode_completion("ab") == [1, 2]
    assert codec.decode([1, 2]) == "ab" and codec.decode([4, 2]) == " ab"


LETTERS = "abcdeiklnoprstuwxy0123456789=/.,():"
STYLES = ("byte_level", "byte_level_prefix", "metaspace_first", "metaspace_never", "joins_newlines", "drops_newlines")


def small_tokenizer(style: str, *, template: str | None = None) -> Any:
    """A tokenizer of a few tokens: letters, spaces, line breaks and what is special of its style."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<unk>"]
    if style == "wordpiece":
        pieces = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
        tokenizer = Tokenizer(models.WordPiece(vocab={p: i for i, p in enumerate(pieces)}, unk_token="<unk>"))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    elif style.startswith("byte_level"):
        pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), "\u0120a"]
        tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[("\u0120", "a")]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=style.endswith("prefix"))
        tokenizer.decoder = decoders.ByteLevel()
    else:
        pieces = [*special, *LETTERS, "\n", "\u2581", "\u2581a", "\n\n"]
        merges = [("\u2581", "a"), *([("\n", "\n")] if style == "joins_newlines" else [])]
        tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
        scheme = "never" if style == "metaspace_never" else "first"
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)
        if style == "drops_newlines":
            tokenizer.normalizer = normalizers.Replace("\n", "")
    if template is not None:
        ids = [(token, tokenizer.token_to_id(token)) for token in special]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


@pytest.mark.filterwarnings("ignore:the tokenizer does not give")
@pytest.mark.parametrize("template", [None, "<s> $A", "$A </s>", "<s> $A </s>"])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_gives_completions_back(style: str, template: str | None) -> None:
    codec = TextCodec(small_tokenizer(style, template=template))
    for text in ["ab", " ab", "  a", "a\n\nb", "\nab", "\n\nab", "\n", " ", "1 + 2".replace("+", "="), ":a", ""]:
        expected = text.replace("\n", "") if style == "drops_newlines" else text
        assert codec.decode(codec.encode_completion(text)) == expected
        assert not set(codec.encode_completion(text)) & codec.special_ids()
    space_a = codec.tokenizer.convert_tokens_to_ids("\u0120a" if style.startswith("byte") else "\u2581a")
    assert space_a not in codec.encode_completion("ab") and codec.encode_completion(" ab")[0] == space_a


@pytest.mark.filterwarnings("ignore:the tokenizer does not give")
@pytest.mark.parametrize("prompts_end", [False, True])
@pytest.mark.parametrize("template", [None, "<s> $A", "$A </s>", "<s> $A </s>"])
@pytest.mark.parametrize("style", [*STYLES, "wordpiece"])
def test_prompts_have_each_special_token_once(style: str, template: str | None, prompts_end: bool) -> None:
    tokenizer = small_tokenizer(style, template=template)
    codec = TextCodec(tokenizer, prompts_end=prompts_end)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    plain = tokenizer.encode("ab ab", add_special_tokens=False)
    begin = [bos] if template is not None and template.startswith("<s>") else []
    end = [eos] if prompts_end and template is not None and template.endswith("</s>") else []
    assert codec.encode_prompt("ab ab") == [*begin, *plain, *end]
    assert codec.encode_prompt("ab ab</s>").count(eos) == 1
    assert codec.encode_prompt("<s>ab ab").count(bos) == 1
    assert codec.encode_prompt("<s>ab ab</s>")[-1] == eos
    assert len(codec.encode_prompt("")) >= 1


def test_a_tokenizer_that_changes_texts_is_named() -> None:
    with pytest.warns(UserWarning, match="does not give every text back"):
        TextCodec(small_tokenizer("wordpiece"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TextCodec(small_tokenizer("metaspace_first"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "wordpiece"}, "kind='wordpiece'"),
        ({"kind": "bpe", "vocab_size": 100}, "at least 259"),
        ({"kind": "byte", "vocab_size": 300}, "use kind: bpe"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenizerSettings(**arguments)


def test_training_without_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="gave no texts"):
        make_tokenizer(BPE, [])
