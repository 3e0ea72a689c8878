"""Solutions in steps: where a separator ends one, in text and in tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

BROKEN = "\ufffd"
"""What bytes that are no character, or not yet a whole one, are decoded to."""
MAX_CACHED = 2**17


def check_separator(separator: str, setting: str = "separator") -> None:
    """Refuse a text that cannot end a step.

    Args:
        separator: the text.
        setting: its name in the error.

    Raises:
        ValueError: it is empty, or holds the mark of broken characters.
    """
    if not separator or BROKEN in separator:
        fault = "holds the mark of broken characters" if separator else "is empty"
        raise ValueError(f"{setting} {fault}, expected the text that ends a step such as '\\n'")


def separator_ends(text: str, separator: str) -> list[int]:
    """Positions behind each separator of a text, from left to right and without overlaps, as ``str.split`` cuts."""
    return list(accumulate(len(piece) + len(separator) for piece in text.split(separator)[:-1]))


def split_steps(
    text: str, separator: str = "\n", *, blank_joins: Literal["previous", "next"] = "previous"
) -> list[str]:
    """The steps of a solution, each with the separator that ends it.

    A piece without visible text is no step of its own. With ``previous`` it belongs to the step before it (or, at the
    start, to the first one): joined, the steps are the text again. With ``next`` it belongs to the step behind it, and
    at the end to none: the steps that a prefix has completed stay the same, whatever follows.

    Args:
        text: a completion.
        separator: what ends a step; the last one need not have it.
        blank_joins: where pieces without visible text belong.

    Returns:
        the steps; none if the text has no visible text.

    Raises:
        ValueError: the separator is empty.
    """
    check_separator(separator)
    cuts = [0, *separator_ends(text, separator), len(text)]
    steps: list[str] = []
    lead = ""
    for start, end in zip(cuts, cuts[1:], strict=False):
        piece = text[start:end]
        if piece.strip():
            steps.append(lead + piece)
            lead = ""
        elif steps and blank_joins == "previous":
            steps[-1] += piece
        else:
            lead += piece
    return steps


class StepEnds:
    """Finds the token prefixes that end a step: their text has one more separator than that of any shorter prefix.

        i ends a step  <=>  #(separators in text of z_1:i) > max_{j < i} #(separators in text of z_1:j)

    So the last character of a separator may come in one token with other characters, a separator may be several tokens,
    and whether a prefix ends a step does not depend on what follows it.

    The text is decoded once a row. Where each token ends in it is known from the tokens' texts, which are decoded once
    and kept; characters that take several tokens are decoded together. If the tokens' texts do not join to the text
    (some tokenizers change a token's text with its neighbours), every prefix of that row is decoded.

    Args:
        decode: text of token ids.
        separator: what ends a step.

    Raises:
        ValueError: the separator is empty.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], separator: str = "\n") -> None:
        check_separator(separator)
        self.decode, self.separator = decode, separator
        self.first: dict[int, str] = {}
        self.later: dict[int, str] = {}
        self.joint: dict[tuple[int, ...], str] = {}

    def __call__(self, ids: Sequence[int]) -> list[int]:
        """Lengths of the prefixes that end a step, ascending; the whole row only if a separator ends in its last token.

        Args:
            ids: action tokens of one row.
        """
        text = self.decode(ids)
        settled = self.settled_lengths(ids, text)
        if settled is None:
            return self.decoded_ends(ids)
        ends = (bisect_left(settled, end) + 1 for end in separator_ends(text, self.separator))
        return list(dict.fromkeys(ends))

    def decoded_ends(self, ids: Sequence[int]) -> list[int]:
        """The same from the decoded text of every prefix."""
        counts = [self.decode(ids[:end]).count(self.separator) for end in range(len(ids) + 1)]
        highest = accumulate(counts, max)
        return [end for end, (count, before) in enumerate(zip(counts[1:], highest, strict=False), 1) if count > before]

    def settled_lengths(self, ids: Sequence[int], text: str) -> list[int] | None:
        """How many characters of the row's text are fixed after each token; None if that cannot be told."""
        self.learn(ids)
        pieces = [self.first[ids[0]], *map(self.later.__getitem__, ids[1:])] if ids else []
        joined = "".join(pieces)
        if BROKEN not in joined:
            return list(accumulate(map(len, pieces))) if joined == text else None
        lengths, joined = self.lengths_with_characters_of_many_tokens(ids, pieces)
        return list(accumulate(lengths, max)) if joined == text else None

    def learn(self, ids: Sequence[int]) -> None:
        """Decode the tokens that were not seen before: at the start of a row, and behind another token."""
        if max(len(self.later), len(self.joint)) > MAX_CACHED:
            for cache in (self.first, self.later, self.joint):
                cache.clear()
        for token in set(ids) - self.later.keys():
            self.first[token] = self.decode([token])
            self.later[token] = self.decode([token, token])[len(self.first[token]) :]

    def lengths_with_characters_of_many_tokens(
        self, ids: Sequence[int], pieces: Sequence[str]
    ) -> tuple[list[int], str]:
        """Settled lengths and joined text where some tokens are no whole characters.

        Args:
            ids: action tokens of one row.
            pieces: the text of each token alone.
        """
        lengths, known, start = list[int](), "", 0
        while start < len(ids):
            texts, end = [pieces[start]], start + 1
            if BROKEN in pieces[start]:
                texts = [self.decoded_together(ids[start:end])]
                while texts[-1].endswith(BROKEN) and end < len(ids) and BROKEN in pieces[end]:
                    end += 1
                    texts.append(self.decoded_together(ids[start:end]))
            for text in texts:
                whole = text if texts[-1].startswith(text) else text.rstrip(BROKEN)
                lengths.append(len(known) + len(whole) * texts[-1].startswith(whole))
            known, start = known + texts[-1], end
        return lengths, known

    def decoded_together(self, ids: Sequence[int]) -> str:
        """Text of a few tokens, decoded once."""
        key = tuple(ids)
        if key not in self.joint:
            self.joint[key] = self.decode(key)
        return self.joint[key]
