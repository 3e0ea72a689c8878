"""One chat endpoint with its key, its cache of replies and its budget."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lightning_gfn.endpoints.asking import ask_chat
from lightning_gfn.endpoints.cache import ReplyCache
from lightning_gfn.endpoints.http_json import Endpoint

T = TypeVar("T")


class ChatClient:
    """Asks a chat endpoint; a request that it or another run has asked before is answered from the cache.

    Copies of a client are the client itself, so that they share one budget.

    Args:
        url: base address of the endpoint, such as ``http://localhost:8000/v1``.
        model: name that the endpoint knows its model by.
        key_variable: environment variable with the key; None if the endpoint asks for none.
        system: text of a system message; None for none.
        max_reply_tokens: longest reply.
        temperature: of the endpoint's sampling.
        cache: SQLite file of replies; None for no cache.
        max_calls: most HTTP tries of this process over the whole run, retries included; None for no limit.
        max_tokens: no further request once the endpoint has counted so many tokens; None for no limit.
        timeout_seconds: for one try.
        max_retries: further tries of a request.
        backoff_seconds: before the first retry; doubled before each further one.
        max_backoff_seconds: the longest wait between two tries.

    Raises:
        ValueError: a setting makes no sense.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        key_variable: str | None,
        max_reply_tokens: int,
        cache: str | None,
        max_calls: int | None,
        timeout_seconds: float,
        max_retries: int,
        system: str | None = None,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        backoff_seconds: float = 1.0,
        max_backoff_seconds: float = 60.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url is {url!r}, expected an address that begins with http:// or https://")
        if max_retries < 0:
            raise ValueError(f"max_retries is {max_retries}, expected at least 0")
        for name, seconds in (("timeout_seconds", timeout_seconds), ("backoff_seconds", backoff_seconds)):
            if seconds <= 0:
                raise ValueError(f"{name} is {seconds}, expected a positive number of seconds")
        self.url, self.model, self.key_variable, self.system = url, model, key_variable, system
        self.options = {"max_tokens": max_reply_tokens, "temperature": temperature}
        self.cache = ReplyCache(cache)
        self.limits = {"calls": max_calls, "tokens": max_tokens}
        self.patience = (timeout_seconds, max_retries, backoff_seconds, max_backoff_seconds)
        self.spent: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> ChatClient:
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the lock, which no other process can hold."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore ``__getstate__``."""
        self.__dict__.update(state, _lock=threading.Lock())

    def check(self) -> None:
        """Look for the key and open the cache.

        Raises:
            ValueError: the environment variable is not set, or the cache is no SQLite file that can be opened.
        """
        if self.key_variable is not None and not os.environ.get(self.key_variable):
            raise ValueError(
                f"the environment variable {self.key_variable} is not set: put the endpoint's key there, or set "
                "key_variable to null if it asks for none"
            )
        try:
            self.cache.get("")
        except (sqlite3.Error, OSError) as error:
            raise ValueError(f"the cache {self.cache.path} cannot be used ({error}): name another file") from error

    def reply(self, prompt: str, counts: Counter[str], read: Callable[[str], T]) -> T:
        """What a cached or fetched reply says.

        Args:
            prompt: the user's message.
            counts: are added to: ``calls``, ``tokens``, ``cached``.
            read: reads the text; a reply that it refuses is not kept.

        Raises:
            EndpointError: there is no reply; ``BudgetSpent`` if the budget allows none.
            sqlite3.Error: the cache cannot be used.
        """
        messages = [{"role": "user", "content": prompt}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        body = {"model": self.model, "messages": messages, **self.options}
        key = self.cache.key({"url": self.url, **body})
        known = self.cache.get(key)
        if known is not None:
            self.count(counts, "cached", 1)
            return read(known.text)
        endpoint = Endpoint(self.url, os.environ.get(self.key_variable or ""), *self.patience)
        reply = ask_chat(endpoint, body, lambda: self._claim_call(counts))
        self.count(counts, "tokens", reply.tokens)
        value = read(reply.text)
        self.cache.put(key, reply)
        return value

    def count(self, counts: Counter[str], name: str, amount: int) -> None:
        """Add to a count, from any thread."""
        with self._lock:
            counts[name] += amount
            if name == "tokens":
                self.spent[name] += amount

    def _claim_call(self, counts: Counter[str]) -> bool:
        """Count one HTTP try, if the budget still has one."""
        with self._lock:
            if any(limit is not None and self.spent[name] >= limit for name, limit in self.limits.items()):
                return False
            self.spent["calls"] += 1
            counts["calls"] += 1
            return True

    def state_dict(self) -> dict[str, Any]:
        """What has been spent."""
        return {name: int(self.spent[name]) for name in self.limits}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        self.spent = Counter({name: int(state[name]) for name in self.limits})
