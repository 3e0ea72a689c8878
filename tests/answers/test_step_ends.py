"""Which token prefixes end a step: equal to a written loop that decodes every prefix, whatever the tokens are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from lightning_gfn.answers.steps import StepEnds, check_separator, separator_ends, split_steps
from lightning_gfn.policies.text.tokenizers import TextCodec, TokenizerSettings, make_tokenizer, wrap_tokenizer

SEPARATORS = ("\n", "\n\n", ". ", ".\n", "—", "。", "So", "==")
PARTS = (
    "\n", "\n\n", "\n\n\n\n", "So", " So", ".", "é", "—", "日本", "x", " ", "\u2028", "\U0001f469", "\n\nSo", ".\n",
    "3", "。", "===", ". a",
)  # fmt: skip
CORPUS = ["a b.\n\nSo c = 3.\n\n日本\n\n\n\nSo é—x. So\n", "So that is 3.\n\nSo x\n"] * 20
SMOLLM2 = sorted(Path.home().glob(".cache/**/*mol[lL][mM]2*/**/tokenizer.json"))


def written_ends(decode: Callable[[Sequence[int]], str], ids: Sequence[int], separator: str) -> list[int]:
    """The oracle: decode each prefix, look for the separator from left to right."""
    most, ends = 0, []
    for end in range(1, len(ids) + 1):
        text, found, place = decode(ids[:end]), 0, 0
        while (place := text.find(separator, place)) >= 0:
            found, place = found + 1, place + len(separator)
        if found > most:
            ends.append(end)
            most = found
    return ends


def across_words() -> str:
    """Byte-level tokens with merges across words and line breaks; the serialised tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<bos>", "<eos>"]
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer=trainer)
    return made.to_str()


def spaces_before_words() -> str:
    """Tokens like Llama 2's: a space is part of the word behind it, and other characters are bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    entries = ["<pad>", "<bos>", "<eos>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"aSox3.", "▁S", "▁So"]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "S"), ("▁S", "o")], byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made.to_str()


@cache
def codec(name: str) -> TextCodec:
    if name == "byte":
        return TextCodec(make_tokenizer(TokenizerSettings(), ()))
    if name == "bpe":
        return TextCodec(make_tokenizer(TokenizerSettings("bpe", 420), CORPUS))
    if name == "smollm2":
        from transformers import PreTrainedTokenizerFast

        return TextCodec(PreTrainedTokenizerFast(tokenizer_file=str(SMOLLM2[0])))
    return TextCodec(wrap_tokenizer(across_words() if name == "across words" else spaces_before_words()))


TOKENIZERS = ("byte", "bpe", "across words", "spaces before words", *(["smollm2"] if SMOLLM2 else []))


def rows_of(name: str, count: int, seed: str) -> list[list[int]]:
    """Rows of random texts, and of random tokens, which need not be texts."""
    chosen, found = random.Random(seed), codec(name)
    texts = ["", "a", "a\n\n", "\n\n", "a\n\n\n\nb", "a b", "é\n\né"]
    texts += ["".join(chosen.choices(PARTS, k=chosen.randrange(24))) for _ in range(count)]
    vocabulary = range(3, len(found.tokenizer))
    return [found.encode_completion(text) for text in texts] + [
        chosen.choices(vocabulary, k=chosen.randrange(24)) for _ in range(count)
    ]


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_it_is_the_written_loop(name: str, separator: str) -> None:
    decode, compared = codec(name).decode, 0
    find = StepEnds(decode, separator)
    for ids in rows_of(name, 120, f"{name}/{separator}"):
        ends = written_ends(decode, ids, separator)
        assert find(ids) == find(ids) == ends, (ids, decode(ids))
        compared += len(ends)
    assert compared >= 40


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_planted_error_of_one_token_is_caught(shift: int) -> None:
    class Shifted(StepEnds):
        def settled_lengths(self, ids: Sequence[int], text: str) -> list[int] | None:
            found = super().settled_lengths(ids, text)
            return [length + shift for length in found] if found is not None else None

    decode = codec("bpe").decode
    find = Shifted(decode, "\n\n")
    rows = [codec("bpe").encode_completion(text) for text in ("a\n\nb", "x\n\nSo\n\n3")]
    assert any(find(ids) + [len(ids)] != written_ends(decode, ids, "\n\n") + [len(ids)] for ids in rows)


def test_separators_are_of_many_tokens_and_in_one_with_others() -> None:
    """The tokenizers of these tests do what they are here for."""
    two, one = codec("bpe"), codec("across words")
    assert [two.decode([token]) for token in two.encode_completion("\n\nx")] == ["\n", "\n", "x"]
    pieces = [one.decode([token]) for token in one.encode_completion("x.\n\nSo")]
    assert any("\n\n" in piece and piece != "\n\n" for piece in pieces), pieces
    assert "\ufffd" in codec("byte").decode(codec("byte").encode_completion("é")[:1])


def test_a_row_is_decoded_once() -> None:
    decode, calls = codec("bpe").decode, []
    find = StepEnds(lambda ids: calls.append(len(ids)) or decode(ids), "\n\n")  # type: ignore[func-returns-value]
    rows = [codec("bpe").encode_completion(f"x = {number}.\n\nSo é.\n\n" * 20) for number in range(2)]
    for ids in rows:
        find(ids)
    calls.clear()
    for ids in rows:
        find(ids)
    assert calls == [len(ids) for ids in rows]


def test_caches_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_gfn.answers.steps.MAX_CACHED", 8)
    find = StepEnds(codec("byte").decode, "\n\n")
    for ids in rows_of("byte", 40, "small"):
        assert find(ids) == written_ends(find.decode, ids, "\n\n")
        assert len(find.later) <= 8 + len(set(ids))


def test_a_prefix_ends_a_step_whatever_follows() -> None:
    for name in TOKENIZERS:
        find = StepEnds(codec(name).decode, "\n\n")
        for ids in rows_of(name, 20, "causal"):
            ends = find(ids)
            for cut in range(len(ids) + 1):
                assert find(ids[:cut]) == [end for end in ends if end <= cut]


def test_text_is_cut_as_split_does() -> None:
    chosen = random.Random(0)
    for _ in range(300):
        text, separator = "".join(chosen.choices(PARTS, k=12)), chosen.choice(SEPARATORS)
        pieces = [piece + separator for piece in text.split(separator)]
        assert separator_ends(text, separator) == [sum(map(len, pieces[: k + 1])) for k in range(len(pieces) - 1)]
        steps = split_steps(text, separator)
        assert "".join(steps) == text or not text.strip()
        ended = split_steps(text, separator, blank_joins="next")
        assert text.startswith("".join(ended)) and not text[len("".join(ended)) :].strip()
        if not any(piece.isspace() for piece in pieces):
            assert [step.strip() for step in ended] == [step.strip() for step in steps]


def test_separators_that_end_nothing_are_refused() -> None:
    for separator in ("", "\ufffd"):
        with pytest.raises(ValueError, match="model.separator .*expected the text that ends a step"):
            check_separator(separator, "model.separator")
