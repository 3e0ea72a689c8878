"""Messages in rows: checked, and divided into a prompt and the answer that follows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.common.rows import BadRow, Row
from lightning_gfn.prompts.chat import ROLES, ChatPrompt, Message

OTHER_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant"}
"""Roles as ShareGPT and others write them."""


def holds_messages(value: Any) -> bool:
    """Whether a value is meant as a conversation: a list whose first entry is an object."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def conversation(row: Row, field: str, value: Any) -> tuple[Message, ...]:
    """The messages of a conversation, ``{"role", "content"}`` or ``{"from", "value"}``.

    Args:
        row: where it stands.
        field: its column.
        value: what the column holds; in a CSV file the list is written as JSON.

    Raises:
        BadRow: it is no list, or a message lacks a known role or visible text.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise BadRow(row.where, field, f"expected a list of messages, found a text ({error})") from error
    if not isinstance(value, list):
        raise BadRow(row.where, field, f"expected a list of messages, found {value!r:.80}")
    if not value:
        raise BadRow(row.where, field, "the conversation has no message")
    return tuple(message(row, field, number, item) for number, item in enumerate(value, start=1))


def message(row: Row, field: str, number: int, value: Any) -> Message:
    """One message.

    Raises:
        BadRow: it lacks a known role or visible text.
    """
    if not isinstance(value, Mapping):
        raise BadRow(row.where, field, f"expected messages with role and content, found {value!r:.80}")
    role, content = value.get("role", value.get("from")), value.get("content", value.get("value"))
    role = OTHER_ROLES.get(role, role) if isinstance(role, str) else role
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = joined_parts(row, field, number, content)
    if not isinstance(role, str) or not isinstance(content, str):
        raise BadRow(row.where, field, f"expected messages with role and content, found {value!r:.80}")
    if role not in ROLES:
        raise BadRow(row.where, field, f"message {number} has the role {role!r}; known are {', '.join(ROLES)}")
    if not content.strip():
        raise BadRow(row.where, field, f"message {number} has no visible text")
    return Message(role, content)


def joined_parts(row: Row, field: str, number: int, parts: Sequence[Any]) -> str:
    """The text of a message in parts, ``{"type": "text", "text"}``.

    Raises:
        BadRow: a part is no text.
    """
    texts = []
    for part in parts:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise BadRow(row.where, field, f"message {number} has a part that is no text: {part!r:.80}")
        texts.append(part["text"])
    return "".join(texts)


def prompt_and_answer(row: Row, field: str, value: Any) -> tuple[ChatPrompt, str | None]:
    """A whole conversation as prompt and answer: its last message is the answer, if the assistant wrote it.

    Earlier messages of the assistant are part of the prompt: they are read, not trained on.

    Raises:
        BadRow: there is no message before the answer, or the conversation ends with the system.
    """
    turns = conversation(row, field, value)
    answer = turns[-1].content if turns[-1].role == "assistant" else None
    prompt = turns[:-1] if answer is not None else turns
    if not prompt:
        raise BadRow(row.where, field, "the conversation is one message of the assistant: there is no prompt")
    return chat_prompt(row, field, prompt), answer


def chat_prompt(row: Row, field: str, turns: Sequence[Message]) -> ChatPrompt:
    """Messages as a prompt.

    Raises:
        BadRow: there is none of the user.
    """
    if all(turn.role != "user" for turn in turns):
        raise BadRow(row.where, field, "the prompt has no message of the user")
    return ChatPrompt(turns)


def answer_text(row: Row, field: str, value: Any) -> str:
    """The text of a completion: itself, or the content of its one message of the assistant.

    Raises:
        BadRow: it is something else, or empty.
    """
    if isinstance(value, list):
        turns = conversation(row, field, value)
        if len(turns) != 1 or turns[0].role != "assistant":
            raise BadRow(row.where, field, f"expected one assistant message after the prompt, found {value!r:.80}")
        return turns[0].content
    if not isinstance(value, str) or not value.strip():
        raise BadRow(row.where, field, f"expected a completion, found {value!r:.80}")
    return value
