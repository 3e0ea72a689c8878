"""Classes that a language model decides: do two solutions use the same strategy?"""

from __future__ import annotations

import re
import sqlite3
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Literal, get_args

from lightning_gfn.endpoints.client import ChatClient
from lightning_gfn.endpoints.http_json import BudgetSpent, EndpointError
from lightning_gfn.prompts.placeholders import fill
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.solution_classes.clusters import numbered
from lightning_gfn.types import Problem

Spent = Literal["raise", "apart"]
PLACES = ("{problem}", "{first}", "{second}")
QUESTION = (
    "Here is a problem:\n\n{problem}\n\nOne solution:\n\n{first}\n\nAnother solution:\n\n{second}\n\n"
    "Do these two solutions use the same strategy? Wording, names and the order of independent steps do not matter. "
    "Answer with one word: yes or no."
)
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_VERDICT = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


class JudgeError(RuntimeError):
    """A judge that gives no verdict; the message says why, and what to change."""


class JudgeClasses(SolutionClasses):
    """Solutions that a judge behind an OpenAI-compatible endpoint calls the same strategy, and those that this links.

    Every two different texts are asked about unless earlier answers have linked them; equal texts are one class. The
    two texts stand in the question in sorted order, so that an answer does not depend on generation order and is found
    again in the cache. Sampling temperature is 0.

    Args:
        url: base address of the endpoint, such as ``http://localhost:8000/v1``.
        model: name that the endpoint knows its model by.
        cache: SQLite file of answers, which several runs may share.
        question: holds ``{problem}``, ``{first}`` and ``{second}``; the answer must begin with yes or no.
        key_variable: environment variable with the key; None if the endpoint asks for none.
        max_calls: most HTTP tries of this process, retries included; None for no limit.
        when_spent: what happens to pairs beyond that: ``raise``, or ``apart``: they stay two classes, with one warning.
        max_reply_tokens: longest answer.
        timeout_seconds: for one try.
        max_retries: further tries of a request.

    Raises:
        ValueError: a setting makes no sense, the key is not there, or the cache cannot be opened.
    """

    is_pointwise = False

    def __init__(
        self,
        url: str,
        model: str,
        cache: str,
        question: str = QUESTION,
        key_variable: str | None = "OPENAI_API_KEY",
        max_calls: int | None = None,
        when_spent: Spent = "raise",
        max_reply_tokens: int = 16,
        timeout_seconds: float = 60.0,
        max_retries: int = 4,
    ) -> None:
        missing = [place for place in PLACES if place not in question]
        if missing:
            raise ValueError(f"question lacks {' and '.join(missing)}: it must hold {', '.join(PLACES)}")
        if when_spent not in get_args(Spent):
            raise ValueError(f"when_spent: unknown choice {when_spent!r}; use one of {', '.join(get_args(Spent))}")
        self.chat = ChatClient(
            url=url,
            model=model,
            key_variable=key_variable,
            max_reply_tokens=max_reply_tokens,
            cache=cache,
            max_calls=max_calls,
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
        )
        self.chat.check()
        self.question, self.when_spent = question, when_spent
        self.counts: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return "judged_strategies"

    @property
    def meaning(self) -> str:
        asked = "" if self.question == QUESTION else f", asked {self.question!r}"
        return f"{self.name} by {self.chat.model}{asked}"

    def labels(self, problem: Problem, completions: Sequence[str]) -> list[str | None]:
        """``cluster 1``, ``cluster 2``, …, one label a completion.

        Raises:
            JudgeError: the endpoint or its cache fails, an answer is neither yes nor no, or the calls are spent.
        """
        texts = list(dict.fromkeys(text.strip() for text in completions))
        parent = list(range(len(texts)))

        def root(text: int) -> int:
            while parent[text] != text:
                parent[text] = parent[parent[text]]
                text = parent[text]
            return text

        for first, second in combinations(range(len(texts)), 2):
            homes = root(first), root(second)
            if homes[0] != homes[1] and self._is_same(problem, texts[first], texts[second]):
                parent[max(homes)] = min(homes)
        return numbered([root(texts.index(text.strip())) for text in completions])

    def _is_same(self, problem: Problem, *pair: str) -> bool:
        """The judge's verdict on two texts; False once the calls are spent, if that is asked for."""
        values = {"{problem}": str(problem.prompt)} | dict(zip(PLACES[1:], sorted(pair), strict=True))
        try:
            return self.chat.reply(fill(self.question, values), self.counts, self._verdict)
        except BudgetSpent:
            told = f"the judge's {self.chat.limits['calls']} calls (max_calls) are spent at problem {problem.id!r}"
            if self.when_spent == "raise":
                raise JudgeError(f"{told}: raise max_calls, or set when_spent to apart; answers are kept") from None
            if not self.counts["apart"]:
                warnings.warn(f"{told}: further pairs that the cache does not know stay apart", stacklevel=2)
            self.counts["apart"] += 1
            return False
        except (EndpointError, sqlite3.Error) as error:
            raise JudgeError(f"the judge gave no verdict on problem {problem.id!r}: {error}") from error

    def _verdict(self, text: str) -> bool:
        """What an answer says; thoughts in front of it are passed over."""
        found = _VERDICT.match(_THOUGHT.sub("", text))
        if found is None:
            raise EndpointError(
                f"{self.chat.model} answered {text[:80]!r}, expected yes or no: change question, or raise "
                "max_reply_tokens for a model that thinks first"
            )
        return found.group(1).lower() == "yes"
