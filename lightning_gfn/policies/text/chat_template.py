"""Conversations as token ids, by the chat template of a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lightning_gfn.prompts.chat import ChatPrompt, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER = "ANSWER"


class ChatTemplate:
    """Encodes conversations as ``tokenizer.apply_chat_template`` does, but for control tokens named in a message.

    The template writes every control token, the begin token too if it wants one; nothing is added to it. The name of
    a special token within the content of a message stays text: nobody ends the user's turn by writing ``<|im_end|>``.
    For that, such names are replaced by marks while the template is rendered, and each stretch of text between two
    control tokens that holds a mark is encoded without special tokens.

    Args:
        tokenizer: with a chat template.
        special_ids: ids of its special tokens.
        encode_text: token ids of a text that follows others, names of special tokens being text.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, special_ids: set[int], encode_text: Callable[[str], list[int]]
    ) -> None:
        self.tokenizer, self.encode_text = tokenizer, encode_text
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self.strips = {added[i].content: (added[i].lstrip, added[i].rstrip) for i in special_ids if i in added}
        names = sorted(tokenizer.convert_ids_to_tokens(sorted(special_ids)), key=len, reverse=True)
        self.controls = re.compile("|".join(map(re.escape, names)))

    def encode(self, prompt: ChatPrompt) -> list[int]:
        """Token ids of a conversation, up to where the assistant's answer begins (or, if it began, goes on).

        Raises:
            ValueError: the template refuses the messages.
        """
        if not self.names_control(prompt):
            return self.tokenizer.encode(self.render(prompt.messages), add_special_tokens=False)
        texts = "".join(turn.content for turn in prompt.messages)
        mark = next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in texts)
        names: list[str] = []

        def hide(found: re.Match[str]) -> str:
            names.append(found[0])
            return f"{mark}{len(names) - 1}{mark}"

        hidden = [Message(turn.role, self.controls.sub(hide, turn.content)) for turn in prompt.messages]
        marks = re.compile(f"{mark}([0-9]+){mark}")
        return self._pieces(self.render(hidden), lambda text: marks.sub(lambda found: names[int(found[1])], text))

    def names_control(self, prompt: ChatPrompt) -> bool:
        """Whether a message holds the name of a special token."""
        return any(self.controls.search(turn.content) is not None for turn in prompt.messages)

    def _pieces(self, rendered: str, restore: Callable[[str], str]) -> list[int]:
        """Ids of a rendered text whose control tokens are all the template's own."""
        ids: list[int] = []
        controls = [*self.controls.finditer(rendered), None]
        start, strip_left = 0, False
        for control in controls:
            text = rendered[start : control.start() if control is not None else None]
            text = text.lstrip() if strip_left else text
            left, right = self.strips.get(control[0], (False, False)) if control is not None else (False, False)
            text = restore(text.rstrip() if left else text)
            if text and start:
                ids += self.encode_text(text)
            elif text:
                ids += self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
            if control is not None:
                ids.append(self.tokenizer.convert_tokens_to_ids(control[0]))
                start, strip_left = control.end(), right
        return ids

    def render(self, messages: Sequence[Message], **options: Any) -> str:
        """The conversation as the template writes it.

        Raises:
            ValueError: the template refuses the messages.
        """
        goes_on = messages[-1].role == "assistant"
        settings = {"add_generation_prompt": not goes_on, "continue_final_message": goes_on, **options}
        try:
            text: Any = self.tokenizer.apply_chat_template(
                [turn._asdict() for turn in messages], tokenize=False, **settings
            )
        except Exception as error:  # templates raise what they like
            roles = ", ".join(turn.role for turn in messages)
            raise ValueError(
                f"the tokenizer's chat template refuses a conversation of {roles}: {error}. "
                "Change the messages, or set data.chat to off"
            ) from error
        return str(text)

    def end_of_turn_id(self) -> int | None:
        """The token that the template writes behind an answer; None if it writes none."""
        turns = [Message("user", "Q"), Message("assistant", ANSWER)]
        try:
            text = self.render(turns, add_generation_prompt=False, continue_final_message=False)
        except ValueError:
            return None
        found = self.controls.search(text, text.rindex(ANSWER)) if ANSWER in text else None
        return self.tokenizer.convert_tokens_to_ids(found[0]) if found is not None else None
