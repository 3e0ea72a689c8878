"""What writes a language principal's answers: an endpoint here, a policy of this suite in the command."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass

from lightning_gfn.endpoints.client import ChatClient
from lightning_gfn.endpoints.http_json import EndpointError


@dataclass(frozen=True)
class Written:
    """A text and what it cost.

    Args:
        text: the answer.
        tokens: that were sampled, or that an endpoint counted.
    """

    text: str
    tokens: int


class Writer(ABC):
    """Answers a prompt."""

    @property
    def parameters(self) -> int | None:
        """Weights of the model; None if nobody knows."""
        return None

    @abstractmethod
    def write(self, prompt: str, *, key: str, seed: int) -> Written:
        """The answer to a prompt; equal prompts, keys and seeds get equal answers.

        Args:
            prompt: the question.
            key: which call this is, for the random numbers.
            seed: of the run.
        """


class EndpointWriter(Writer):
    """An OpenAI-compatible endpoint; a prompt asked again is answered from the cache, so use temperature 0.

    Args:
        url: base address of the endpoint, such as ``http://localhost:8000/v1``.
        model: name that the endpoint knows its model by.
        cache: SQLite file of answers.
        key_variable: environment variable with the key; None if the endpoint asks for none.
        temperature: of the endpoint's sampling.
        max_reply_tokens: longest answer.
        max_calls: most HTTP tries, retries included; None for no limit.
        timeout_seconds: for one try.
        max_retries: further tries of a request.

    Raises:
        ValueError: a setting makes no sense, the key is not there, or the cache cannot be opened.
    """

    def __init__(
        self,
        url: str,
        model: str,
        cache: str | None = None,
        key_variable: str | None = "OPENAI_API_KEY",
        temperature: float = 0.0,
        max_reply_tokens: int = 256,
        max_calls: int | None = None,
        timeout_seconds: float = 60.0,
        max_retries: int = 4,
    ) -> None:
        self.chat = ChatClient(
            url=url,
            model=model,
            key_variable=key_variable,
            max_reply_tokens=max_reply_tokens,
            temperature=temperature,
            cache=cache,
            max_calls=max_calls,
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
        )
        self.chat.check()

    def write(self, prompt: str, *, key: str, seed: int) -> Written:
        """Ask, or look the answer up.

        Raises:
            ValueError: the endpoint or the cache gives no answer; says why.
        """
        counts: Counter[str] = Counter()
        try:
            text = self.chat.reply(prompt, counts, str)
        except (EndpointError, sqlite3.Error) as error:
            raise ValueError(f"the endpoint gave no answer ({key}): {error}") from error
        return Written(text, counts["tokens"])
