"""How long prompts and completions are in tokens, before any of them is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from lightning_gfn.policies.models.tokenizers import TextCodec
from lightning_gfn.prompts.chat import ChatPrompt

Overlong = Literal["refuse", "skip", "truncate"]
MARGIN = 32
"""Tokens that a tokenizer or a turn of a chat template adds to a text at most."""


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
    """Finds texts of too many tokens; no text is encoded that has fewer bytes than tokens are allowed.

    Args:
        codec: encodes.
    """

    def __init__(self, codec: TextCodec) -> None:
        self.codec = codec
        self.roles: set[tuple[str, ...]] = set()

    def overlong_prompts(self, prompts: Sequence[str], limit: int) -> dict[int, int]:
        """Index and tokens of each prompt that is too long.

        Of each sequence of roles one conversation is encoded in any case, so that a template that refuses it is heard.

        Args:
            prompts: texts or conversations.
            limit: the most tokens that a prompt may have.

        Raises:
            ValueError: the chat template refuses a conversation.
        """
        return {
            index: length
            for index, prompt in enumerate(prompts)
            if self.may_exceed(prompt, limit) and (length := len(self.codec.encode_prompt(prompt))) > limit
        }

    def may_exceed(self, prompt: str, limit: int) -> bool:
        """False only if the prompt is surely short enough."""
        turns = 1
        if self.codec.chat is not None and isinstance(prompt, ChatPrompt):
            roles = tuple(turn.role for turn in prompt.messages)
            turns = 1 + len(roles)
            if roles not in self.roles:
                self.roles.add(roles)
                return True
        return len(prompt.encode()) + MARGIN * turns > limit

    def overlong_completions(self, texts: Sequence[str], limit: int) -> dict[int, int]:
        """Index and tokens of each completion that is too long.

        Args:
            texts: completions.
            limit: the most tokens that a completion may have.
        """
        return {
            index: length
            for index, text in enumerate(texts)
            if len(text.encode()) > limit and (length := len(self.codec.encode_completion(text))) > limit
        }


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
