"""Feedback from any OpenAI-compatible chat endpoint."""

from __future__ import annotations

import sqlite3
import threading
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lightning_gfn.endpoints.client import ChatClient
from lightning_gfn.endpoints.http_json import BudgetSpent, EndpointError
from lightning_gfn.feedback.messages import DEFAULT_REQUEST, check_request, fill_request
from lightning_gfn.interfaces import Policy
from lightning_gfn.prompts.math_feedback import check_strength
from lightning_gfn.teacher_interfaces import FeedbackSource
from lightning_gfn.types import Feedback, Rollouts


class ChatFeedback(FeedbackSource):
    """A language model behind HTTP reads problem and attempt and writes the feedback.

    Replies are cached on disk by request, so that a resumed run pays for none of them again. When the budget of this
    process is spent, or a request fails for good, the trajectory gets no feedback from here; put another source
    behind this one by ``FirstOf`` to give it something else.

    Args:
        url: base address of the endpoint, such as ``http://localhost:8000/v1``.
        model: name that the endpoint knows its model by.
        key_variable: environment variable with the key; None if the endpoint asks for none.
        request: what the model reads; see ``messages.PLACEHOLDERS``.
        system: text of a system message; None for none.
        strength: in [0, 1], how much is asked for (``{orders}`` and ``{words}``).
        max_reply_tokens: longest reply.
        temperature: of the endpoint's sampling.
        cache: SQLite file of replies; None for no cache. Several runs may share one.
        max_calls: most HTTP tries of this process over the whole run, retries included; None for no limit.
        max_tokens: no further request once the endpoint has counted so many tokens; None for no limit.
        concurrency: requests at a time.
        timeout_seconds: for one try.
        max_retries: further tries of a request.
        backoff_seconds: before the first retry; doubled before each further one.
        max_backoff_seconds: the longest wait between two tries.

    Raises:
        ValueError: if a setting makes no sense.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        key_variable: str | None = "OPENAI_API_KEY",
        request: str = DEFAULT_REQUEST,
        system: str | None = None,
        strength: float = 0.5,
        max_reply_tokens: int = 400,
        temperature: float = 0.0,
        cache: str | None = "runs/feedback.sqlite",
        max_calls: int | None = None,
        max_tokens: int | None = None,
        concurrency: int = 8,
        timeout_seconds: float = 60.0,
        max_retries: int = 4,
        backoff_seconds: float = 1.0,
        max_backoff_seconds: float = 60.0,
    ) -> None:
        check_request(request)
        check_strength(strength)
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}, expected at least 1")
        self.chat = ChatClient(
            url=url,
            model=model,
            key_variable=key_variable,
            system=system,
            max_reply_tokens=max_reply_tokens,
            temperature=temperature,
            cache=cache,
            max_calls=max_calls,
            max_tokens=max_tokens,
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
            backoff_seconds=backoff_seconds,
            max_backoff_seconds=max_backoff_seconds,
        )
        self.request, self.strength, self.concurrency = request, strength, concurrency
        self.has_warned = False
        self._lock = threading.Lock()

    def setup(self) -> None:
        """Look for the key and open the cache.

        Raises:
            ValueError: if the environment variable is not set, or the cache is no SQLite file that can be opened.
        """
        self.chat.check()

    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        """One reply a trajectory; equal requests are sent once."""
        correct = rollouts.correct_B.tolist() if rollouts.correct_B is not None else [None] * len(rollouts.completions)
        prompts = [
            fill_request(self.request, rollouts.problem_of(b), rollouts.completions[b], correct[b], self.strength)
            for b in chosen
        ]
        counts: Counter[str] = Counter(dict.fromkeys(("calls", "tokens", "cached", "failures", "over_budget"), 0))
        distinct = list(dict.fromkeys(prompts))
        with ThreadPoolExecutor(self.concurrency) as pool:
            replies = list(pool.map(lambda prompt: self._reply(prompt, counts), distinct))
        texts = dict(zip(distinct, replies, strict=True))
        return Feedback(tuple(texts[prompt] for prompt in prompts), dict(counts))

    def _reply(self, prompt: str, counts: Counter[str]) -> str | None:
        """The cached or fetched reply; None, counted, if there is none."""
        try:
            return self.chat.reply(prompt, counts, str)
        except BudgetSpent:
            self.chat.count(counts, "over_budget", 1)
        except (EndpointError, sqlite3.Error) as error:
            self.chat.count(counts, "failures", 1)
            self._warn_once(error)
        return None

    def _warn_once(self, error: Exception) -> None:
        with self._lock:
            is_first, self.has_warned = not self.has_warned, True
        if is_first:
            warnings.warn(f"no feedback: {error}; further failures are counted, not shown", stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """What has been spent."""
        return self.chat.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        self.chat.load_state_dict(state)
