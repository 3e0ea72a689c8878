"""ROUGE-L F1 of many pairs at once, by the tokens of the ``rouge-score`` package or by those of any script."""

from __future__ import annotations

import string
import unicodedata
import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEPT = frozenset((string.ascii_lowercase + string.digits).encode())
_TO_SPACES = bytes(byte if byte in _KEPT else ord(" ") for byte in range(256))


Tokenizer = Literal["rouge", "unicode"]
MIN_READ_SHARE = 0.5
"""Least share of the letters and digits of texts that rouge-score's tokens should hold."""


def rouge_tokens(text: str) -> list[bytes]:
    """Lower-case runs of ASCII letters and digits, as ``rouge-score`` 0.1.2 tokenises without a stemmer."""
    return text.lower().encode("ascii", "replace").translate(_TO_SPACES).split()


def unicode_tokens(text: str) -> list[str]:
    """Words of letters, marks and digits of any script, casefolded; scripts that write no blanks give characters.

    The latter are Han, Hiragana, Katakana, Thai, Lao, Khmer and Myanmar. ASCII text gives the tokens of
    ``rouge_tokens``.

    Args:
        text: any text; compatibility forms (full-width letters, ligatures) count as the plain ones.
    """
    return _unicode_pattern().findall(unicodedata.normalize("NFKC", text).casefold())


@cache
def _unicode_pattern() -> Any:
    import regex

    unspaced = "".join(rf"\p{{Script={name}}}" for name in ("Han", "Hira", "Kana", "Thai", "Laoo", "Khmr", "Mymr"))
    return regex.compile(rf"(?V1)[[{unspaced}]&&\p{{L}}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{unspaced}]]+")


def require_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, or ValueError if there is none of this name."""
    if tokenizer not in get_args(Tokenizer):
        raise ValueError(f"tokenizer: unknown tokenizer {tokenizer!r}; use one of {', '.join(get_args(Tokenizer))}")
    return tokenizer


def read_share(texts: Sequence[str]) -> float:
    """Share of the letters and digits of texts that are ASCII, which is what ``rouge_tokens`` reads; 1 without any."""
    if all(map(str.isascii, texts)):
        return 1.0
    characters = [character for text in texts for character in text if character.isalnum()]
    return sum(map(str.isascii, characters)) / len(characters) if characters else 1.0


@cache
def _warn_of_unread_letters() -> None:
    warnings.warn(
        "ROUGE-L compares texts by the tokens of rouge-score, ASCII letters and digits, but most letters of these "
        "texts are others, so their differences are not seen: set tokenizer to unicode",
        UserWarning,
        stacklevel=3,
    )


class _Codes(dict[Hashable, str]):
    """One character for one word: rapidfuzz compares strings much faster than lists."""

    def __missing__(self, word: Hashable) -> str:
        self[word] = code = chr(len(self))
        return code


def rouge_l_f1_matrix(texts: Sequence[str], tokenizer: Tokenizer = "rouge") -> NDArray[np.float64]:
    """ROUGE-L F1 of every pair of texts.

        F1 = 2 P R / (P + R),  P = LCS(x, y) / |y|,  R = LCS(x, y) / |x|        (0 where a text has no word)

    Args:
        texts: M texts.
        tokenizer: ``rouge`` for the words of ``rouge-score``, ASCII letters and digits alone; ``unicode`` for those of
            any script.

    Returns:
        A symmetric (M, M) array in [0, 1], float64; with ``rouge``, bit for bit what ``rouge-score`` returns for each
        pair.

    Raises:
        ValueError: there is no such tokenizer.

    Warns:
        UserWarning: once, where ``rouge`` passes over most letters of the texts.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3; ``rouge-score`` 0.1.2.
    """
    from rapidfuzz.distance import LCSseq
    from rapidfuzz.process import cdist

    code_of = _Codes().__getitem__
    tokens: Callable[[str], Sequence[Hashable]]
    tokens = rouge_tokens if require_tokenizer(tokenizer) == "rouge" else unicode_tokens
    if tokenizer == "rouge" and read_share(texts) < MIN_READ_SHARE:
        _warn_of_unread_letters()
    encoded = ["".join(map(code_of, tokens(text))) for text in texts]
    if not encoded:
        return np.zeros((0, 0))
    common = np.asarray(cdist(encoded, encoded, scorer=LCSseq.similarity, dtype=np.int32), dtype=np.float64)
    lengths = np.maximum([len(text) for text in encoded], 1)
    precision = common / lengths[None, :]
    recall = common / lengths[:, None]
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
