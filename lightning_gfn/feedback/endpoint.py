"""One chat completion from an OpenAI-compatible HTTP endpoint, with time limits and retries."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from lightning_gfn.feedback.cache import Reply

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
MAX_REPLY_BYTES = 2**20


class EndpointError(Exception):
    """A request that gave no reply.

    Args:
        message: what went wrong.
        retry_after: seconds that are to pass before another try; None for no other try.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BudgetSpent(EndpointError):
    """No try was left."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask.

    Args:
        url: base address; ``/chat/completions`` is appended.
        key: sent as a bearer token; None for none. It is in no message and no file.
        timeout_seconds: for one try, from connecting to the last byte.
        max_retries: further tries after a time-out, a broken connection, a broken reply, or a status that says
            "later" (408, 409, 425, 429, 5xx).
        backoff_seconds: before the first retry; doubled before each further one, and shortened at random by up to a
            half. A ``Retry-After`` of the endpoint counts if it is longer.
        max_backoff_seconds: the longest wait.
    """

    url: str
    key: str | None
    timeout_seconds: float
    max_retries: int
    backoff_seconds: float
    max_backoff_seconds: float

    def ask(self, body: dict[str, Any], may_try: Callable[[], bool]) -> Reply:
        """Send a request until it succeeds.

        Args:
            body: of the request.
            may_try: asked before every try; False ends it.

        Returns:
            the reply.

        Raises:
            EndpointError: if no try succeeded; ``BudgetSpent`` if ``may_try`` ended it.
        """
        shortened = random.Random()  # its own: the global generator is part of the run's state
        for attempt in range(self.max_retries + 1):
            if not may_try():
                raise BudgetSpent("the budget is spent")
            try:
                return self._try(body)
            except EndpointError as error:
                if error.retry_after is None or attempt == self.max_retries:
                    raise
                wait = self.backoff_seconds * 2**attempt * shortened.uniform(0.5, 1.0)
                time.sleep(min(self.max_backoff_seconds, max(wait, error.retry_after)))
        raise AssertionError("unreachable")

    def _try(self, body: dict[str, Any]) -> Reply:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        url = f"{self.url.rstrip('/')}/chat/completions"
        deadline = time.monotonic() + self.timeout_seconds
        try:
            request = Request(url, json.dumps(body).encode(), headers, method="POST")
            with urlopen(request, timeout=self.timeout_seconds) as response:
                return _read_reply(_read_body(response, deadline))
        except HTTPError as error:
            with error:
                retry_after = _retry_after(error) if error.code in RETRIED_STATUS else None
                raise EndpointError(f"{url} answered {error.code} {error.reason}", retry_after=retry_after) from None
        except (URLError, OSError, http.client.HTTPException) as error:
            raise EndpointError(f"{url}: {error}", retry_after=0.0) from None


def _read_body(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The whole body; a server that sends drop by drop does not outlive the deadline."""
    received = b""
    while chunk := response.read1(65536):
        received += chunk
        if len(received) > MAX_REPLY_BYTES:
            raise EndpointError(f"the reply is longer than {MAX_REPLY_BYTES} bytes")
        if time.monotonic() > deadline:
            raise EndpointError("the reply took longer than timeout_seconds", retry_after=0.0)
    return received


def _read_reply(body: bytes) -> Reply:
    try:
        reply = json.loads(body)
        text = reply["choices"][0]["message"]["content"]
        usage = reply.get("usage") or {}
        tokens = int(usage.get("total_tokens") or 0)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise EndpointError(f"the reply is no chat completion ({error!r})", retry_after=0.0) from None
    if not isinstance(text, str) or not text.strip():
        raise EndpointError("the reply holds no text")
    return Reply(text.strip(), tokens)


def _retry_after(error: HTTPError) -> float:
    try:
        return max(0.0, float(error.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
