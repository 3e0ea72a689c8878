"""Results of tools as tokens: while a policy writes, and in texts that are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lightning_gfn.policies.text.tokenizers import TextCodec
from lightning_gfn.tools.tool import Tool

REPLACEMENT = "\ufffd"
"""What a token that holds a part of a character decodes to."""
MARKS = ("⟦", "⟧")


def check_tools(tools: Sequence[Tool]) -> None:
    """Refuse tools that could not be told apart.

    Raises:
        ValueError: a trigger is empty, or two are equal; names the tools.
    """
    for place, tool in enumerate(tools):
        if not tool.trigger:
            raise ValueError(f"policy.tools[{place}] ({tool.name}) has an empty trigger: name the text that calls it")
        for other in tools[:place]:
            if other.trigger == tool.trigger:
                raise ValueError(
                    f"policy.tools: {other.name} and {tool.name} share the trigger {tool.trigger!r}: give each its own"
                )


class ToolResults:
    """What tools insert into completions.

    Args:
        tools: of the policy; of several whose trigger ends a text the first that answers counts.
        codec: of the tokenizer.
        vocab_size: columns of the logits.
    """

    def __init__(self, tools: Sequence[Tool], codec: TextCodec, vocab_size: int) -> None:
        self.tools, self.codec = tools, codec
        ends = tuple({tool.trigger[-1] for tool in tools} | {REPLACEMENT})
        texts = codec.tokenizer.batch_decode([[token] for token in range(len(codec.tokenizer))])
        self.may_call_V = torch.tensor([text.endswith(ends) for text in texts] + [False] * (vocab_size - len(texts)))
        """bool, True on tokens that may end a trigger."""

    def result(self, text: str) -> str:
        """What is inserted behind a text; nothing if it ends in no trigger, or the tool has nothing to say.

        Raises:
            RuntimeError: a tool failed; names it and the text.
            TypeError: it returned something else than a text.
        """
        for tool in self.tools:
            if not text.endswith(tool.trigger):
                continue
            try:
                found = tool.call(text)
            except Exception as error:
                raise RuntimeError(f"tool {tool.name} failed on {text[-60:]!r}: {error!r}") from error
            if not isinstance(found, str | None):
                raise TypeError(f"tool {tool.name} returned {type(found).__name__}, expected a text or None")
            if found:
                return found
        return ""

    def tokens_behind(self, action: Sequence[int], room: int) -> list[int]:
        """Tokens that are inserted behind an action; none where they do not fit.

        Args:
            action: tokens so far.
            room: tokens that fit.
        """
        result = self.result(self.codec.decode(action))
        tokens = self.codec.encode_completion(result) if result else []
        return tokens if len(tokens) <= room else []

    def encode(self, text: str) -> tuple[list[int], list[int]]:
        """A given completion as the policy would have written it: tokens, and places of those that a tool wrote.

        Where the text goes on with the tool's result behind a trigger, that is taken for the result; otherwise the
        result is inserted. So texts may be given with results or without.
        """
        tokens: list[int] = []
        places: list[int] = []
        for part, is_inserted in self.parts(text):
            found = self.codec.encode_completion(part)
            if is_inserted:
                places += range(len(tokens), len(tokens) + len(found))
            tokens += found
        return tokens, places

    def parts(self, text: str) -> Iterator[tuple[str, bool]]:
        """A completion cut into what the policy writes and what tools write (True)."""
        before, own, rest = "", "", text
        while (end := self.first_call(rest)) is not None:
            own, rest = own + rest[:end], rest[end:]
            if result := self.result(before + own):
                yield own, False
                yield result, True
                before, own, rest = before + own + result, "", rest.removeprefix(result)
        if own + rest:
            yield own + rest, False

    def first_call(self, text: str) -> int | None:
        """The end of the first trigger in a text."""
        ends = [place + len(tool.trigger) for tool in self.tools if (place := text.find(tool.trigger)) >= 0]
        return min(ends, default=None)

    def marked(self, action: Sequence[int], places: Sequence[int]) -> str:
        """The text of an action, what tools wrote between ⟦ and ⟧."""
        inserted, shown, done = set(places), "", ""
        for end in range(1, len(action) + 1):
            was, now = end - 2 in inserted, end - 1 in inserted
            text = self.codec.decode(action[:end])
            shown += (MARKS[was] if was != now else "") + text[len(done) :]
            done = text
        return shown + (MARKS[1] if len(action) - 1 in inserted else "")


class PendingResults:
    """Results of tools that are due in the rows of one batch, while it is sampled.

    Args:
        results: of the policy's tools.
        max_new_tokens: the longest row, tokens; results that do not fit are left out.
        stop_id: the action that ends a row.
        device: where rows are sampled.
    """

    def __init__(self, results: ToolResults, max_new_tokens: int, stop_id: int, device: torch.device) -> None:
        self.results, self.max_new_tokens, self.stop_id = results, max_new_tokens, stop_id
        self.may_call_V = results.may_call_V.to(device)
        self.due: dict[int, list[int]] = {}

    def take(self, rows_R: Tensor) -> tuple[Tensor, Tensor] | None:
        """The next inserted token of every row that has one: places among the rows, and tokens; None without any."""
        if not self.due:
            return None
        found = [(place, self.due[row].pop(0)) for place, row in enumerate(rows_R.tolist()) if row in self.due]
        self.due = {row: tokens for row, tokens in self.due.items() if tokens}
        places, tokens = torch.tensor(found, dtype=torch.int64, device=rows_R.device).unbind(1)
        return places, tokens

    def ask(self, actions_TN: Tensor, rows_R: Tensor, chosen_R: Tensor) -> None:
        """Ask the tools about rows whose last token was chosen and may have ended a trigger.

        Args:
            actions_TN: actions up to now.
            rows_R: rows that are sampled.
            chosen_R: bool, the row goes on, and its last token was the policy's own.
        """
        last_R = actions_TN[-1].index_select(0, rows_R)
        calling_R = self.may_call_V[last_R] & (last_R != self.stop_id) & chosen_R
        room = self.max_new_tokens - len(actions_TN)
        rows = rows_R[calling_R].tolist()
        for row, action in zip(rows, actions_TN[:, rows].t().tolist(), strict=True):
            if tokens := self.results.tokens_behind(action, room):
                self.due[row] = tokens
