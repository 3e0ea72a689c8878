"""Prompts that are conversations: texts that remember their messages, for the tokenizer's chat template."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

ROLES = ("system", "developer", "user", "assistant", "tool")


class Message(NamedTuple):
    """One turn of a conversation.

    Args:
        role: one of ``ROLES``.
        content: its text.
    """

    role: str
    content: str


class ChatPrompt(str):
    """A prompt that is a conversation.

    As a text it is what a model without a chat template reads: the content of a single user message; of longer
    conversations a line ``role: content`` for each message. A policy whose tokenizer has a chat template encodes
    ``messages`` instead, and answers as the assistant; a last message of the assistant is continued.

    Args:
        messages: at least one.
    """

    messages: tuple[Message, ...]

    def __new__(cls, messages: Iterable[Message]) -> ChatPrompt:
        turns = tuple(messages)
        alone = len(turns) == 1 and turns[0].role == "user"
        text = turns[0].content if alone else "".join(f"{turn.role}: {turn.content}\n" for turn in turns)
        prompt = super().__new__(cls, text)
        prompt.messages = turns
        return prompt

    def __getnewargs__(self) -> tuple[tuple[Message, ...]]:  # type: ignore[override]
        return (self.messages,)

    def dicts(self) -> list[dict[str, str]]:
        """The messages as ``{"role", "content"}``."""
        return [turn._asdict() for turn in self.messages]


def edited(prompt: str, edit: Callable[[str], str]) -> str:
    """The prompt with its question rewritten: the whole text, or of a conversation the last message of the user.

    Args:
        prompt: a text or a ``ChatPrompt``.
        edit: rewrites a text.
    """
    if not isinstance(prompt, ChatPrompt):
        return edit(prompt)
    turns = list(prompt.messages)
    last = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=len(turns) - 1)
    turns[last] = turns[last]._replace(content=edit(turns[last].content))
    return ChatPrompt(turns)


def prompt_identity(prompt: str) -> str:
    """A text that is equal for equal prompts alone: two conversations may read alike as plain texts."""
    return json.dumps(prompt.dicts()) if isinstance(prompt, ChatPrompt) else str(prompt)


def written_prompt(prompt: str) -> str | list[dict[str, str]]:
    """The prompt as files hold it: a text, or the list of messages."""
    return prompt.dicts() if isinstance(prompt, ChatPrompt) else prompt


def read_prompt(value: Any) -> str | None:
    """The prompt that ``written_prompt`` wrote; None if the value is neither a text nor a list of messages."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value or not all(map(is_message, value)):
        return None
    return ChatPrompt(Message(item["role"], item["content"]) for item in value)


def is_message(value: Any) -> bool:
    """True for ``{"role", "content"}`` with a known role and a text."""
    return isinstance(value, Mapping) and value.get("role") in ROLES and isinstance(value.get("content"), str)
