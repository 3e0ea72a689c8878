"""How long prompts and completions are in tokens, before any of them is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from lightning_gfn.policies.text.tokenizers import TextCodec
from lightning_gfn.prompts.chat import ChatPrompt

Overlong = Literal["refuse", "skip", "truncate"]
MARGIN = 32
"""Tokens that a tokenizer or a turn of a chat template adds to a text at most."""
BATCH = 1024


def cut_prompt(ids: list[int], limit: int, begin: int | None) -> list[int]:
    """The last tokens of a prompt, behind its begin token if it has one.

    What a chat template writes behind the question is kept so; what is lost is the beginning.

    Args:
        ids: token ids.
        limit: tokens that are left.
        begin: id of the begin token.
    """
    if len(ids) <= limit:
        return ids
    if begin is None or ids[0] != begin or limit == 1:
        return ids[-limit:]
    return [begin, *ids[1 - limit :]]


class PromptLengths:
    """Finds texts of too many tokens.

    No text is encoded that has fewer bytes than tokens are allowed. The others are encoded in batches.

    Args:
        codec: encodes.
    """

    def __init__(self, codec: TextCodec) -> None:
        self.codec = codec
        self.backend: Any = getattr(codec.tokenizer, "backend_tokenizer", None)

    def overlong_prompts(self, prompts: Sequence[str], limit: int) -> dict[int, int]:
        """Index and tokens of each prompt that is too long.

        Args:
            prompts: texts or conversations.
            limit: the most tokens that a prompt may have.

        Raises:
            ValueError: the chat template refuses a conversation.
        """
        codec, chat, found = self.codec, self.codec.chat, dict[int, int]()
        plain: list[tuple[int, str]] = []
        chats: list[tuple[int, str]] = []
        for index, prompt in enumerate(prompts):
            turns = len(prompt.messages) if isinstance(prompt, ChatPrompt) else 0
            if len(prompt.encode()) + MARGIN * (1 + turns) <= limit:
                continue
            if self.backend is None:
                found[index] = len(codec.encode_prompt(prompt))
            elif isinstance(prompt, ChatPrompt) and chat is not None:
                if chat.names_control(prompt):
                    found[index] = len(chat.encode(prompt))
                else:
                    chats.append((index, chat.render(prompt.messages)))
            else:
                plain.append((index, str(prompt)))
        added = len(codec.begin_ids) + len(codec.end_ids)
        found |= {index: len(codec.framed(ids)) for index, ids in self._encoded(plain, limit - added)}
        found |= {index: len(ids) for index, ids in self._encoded(chats, limit)}
        return {index: length for index, length in sorted(found.items()) if length > limit}

    def overlong_completions(self, texts: Sequence[str], limit: int) -> dict[int, int]:
        """Index and tokens of each completion that is too long.

        Args:
            texts: completions.
            limit: the most tokens that a completion may have.
        """
        rows = [(index, text) for index, text in enumerate(texts) if len(text.encode()) > limit]
        if self.backend is None:
            lengths = {index: len(self.codec.encode_completion(text)) for index, text in rows}
            return {index: length for index, length in lengths.items() if length > limit}
        before, self.backend.encode_special_tokens = self.backend.encode_special_tokens, True
        guard, own = self.codec.guard, self.codec.guard_ids[self.codec.guard]
        try:
            encoded = list(self._encoded([(index, guard + text) for index, text in rows], limit))
        finally:
            self.backend.encode_special_tokens = before
        apart = {i: ids[: len(own)] == own for i, ids in encoded}  # else the guard has joined the text's first token
        lengths = {
            i: len(ids) - len(own) if apart[i] else len(self.codec.encode_completion(texts[i])) for i, ids in encoded
        }
        return {index: length for index, length in lengths.items() if length > limit}

    def _encoded(self, rows: Sequence[tuple[int, str]], limit: int) -> Iterator[tuple[int, list[int]]]:
        """Of the indexed texts those with more tokens than the limit, as index and tokens."""
        for start in range(0, len(rows), BATCH):
            chunk = rows[start : start + BATCH]
            encoded = self.backend.encode_batch_fast([text for _, text in chunk], add_special_tokens=False)
            for (index, _), tokens in zip(chunk, encoded, strict=True):
                if len(tokens) > limit:
                    yield index, tokens.ids


def chat_mismatch(codec: TextCodec, prompts: Iterable[str]) -> Literal["plain", "conversations"] | None:
    """What does not fit the tokenizer: plain prompts where it has a chat template, or conversations where it has none.

    A plain prompt that names a control token follows a chat format of its own, and counts as fitting.

    Args:
        codec: of the tokenizer.
        prompts: those of the training data.
    """
    chats, chat = 0, codec.chat
    for prompt in prompts:
        is_chat = isinstance(prompt, ChatPrompt) or (chat is not None and chat.controls.search(prompt) is not None)
        if is_chat and chat is None:
            return "conversations"
        chats += is_chat
    return "plain" if chat is not None and not chats else None
