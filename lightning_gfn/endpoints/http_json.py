"""JSON over HTTP, with time limits and retries."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
MAX_DETAIL_BYTES = 2**16
T = TypeVar("T")


class EndpointError(Exception):
    """A request that gave no reply.

    Args:
        message: what went wrong.
        retry_after: seconds that are to pass before another try; None for no other try.
        status: of the answer; None if there was none.
        detail: what the body of an answer said that was none.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, status: int | None = None, detail: str = ""
    ) -> None:
        super().__init__(message)
        self.retry_after, self.status, self.detail = retry_after, status, detail


class BudgetSpent(EndpointError):
    """No try was left."""


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask.

    Args:
        url: base address, to which paths are appended.
        key: sent as a bearer token; None for none. It is in no message and no file.
        timeout_seconds: for one try, from connecting to the last byte.
        max_retries: further tries after a time-out, a broken connection, a broken reply, or a status that says
            "later" (408, 409, 425, 429, 5xx).
        backoff_seconds: before the first retry; doubled before each further one, and shortened at random by up to a
            half. A ``Retry-After`` of the endpoint counts if it is longer.
        max_backoff_seconds: the longest wait.
        max_reply_bytes: a longer reply is refused.
        retried_status: the statuses that say "later".
    """

    url: str
    key: str | None
    timeout_seconds: float
    max_retries: int
    backoff_seconds: float
    max_backoff_seconds: float
    max_reply_bytes: int = 2**20
    retried_status: frozenset[int] = RETRIED_STATUS

    def ask(
        self,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[bytes], T],
        may_try: Callable[[], bool] = lambda: True,
    ) -> T:
        """Send a request until it succeeds.

        Args:
            path: appended to the address.
            body: sent by POST; None sends a GET.
            read: what the reply says; an ``EndpointError`` of it counts like one of the connection.
            may_try: asked before every try; False ends it.

        Returns:
            what ``read`` made of the reply.

        Raises:
            EndpointError: if no try succeeded; ``BudgetSpent`` if ``may_try`` ended it.
        """
        shortened = random.Random()  # its own: the global generator is part of the run's state
        for attempt in range(self.max_retries + 1):
            if not may_try():
                raise BudgetSpent("the budget is spent")
            try:
                return read(self._try(path, body))
            except EndpointError as error:
                if error.retry_after is None or attempt == self.max_retries:
                    raise
                wait = self.backoff_seconds * 2**attempt * shortened.uniform(0.5, 1.0)
                time.sleep(min(self.max_backoff_seconds, max(wait, error.retry_after)))
        raise AssertionError("unreachable")

    def _try(self, path: str, body: dict[str, Any] | None) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        url = f"{self.url.rstrip('/')}{path}"
        deadline = time.monotonic() + self.timeout_seconds
        try:
            data = None if body is None else json.dumps(body).encode()
            request = Request(url, data, headers, method="GET" if data is None else "POST")
            with urlopen(request, timeout=self.timeout_seconds) as response:
                return self._read_body(response, deadline)
        except HTTPError as error:
            with error:
                retry_after = _retry_after(error) if error.code in self.retried_status else None
                raise EndpointError(
                    f"{url} answered {error.code} {error.reason}",
                    retry_after=retry_after,
                    status=error.code,
                    detail=_detail(error),
                ) from None
        except (URLError, OSError, http.client.HTTPException) as error:
            raise EndpointError(f"{url}: {error}", retry_after=0.0) from None

    def _read_body(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        """The whole body; a server that sends drop by drop does not outlive the deadline."""
        received: list[bytes] = []
        size = 0
        while chunk := response.read1(65536):
            received.append(chunk)
            size += len(chunk)
            if size > self.max_reply_bytes:
                raise EndpointError(f"the reply is longer than {self.max_reply_bytes} bytes")
            if time.monotonic() > deadline:
                raise EndpointError("the reply took longer than timeout_seconds", retry_after=0.0)
        return b"".join(received)


def _retry_after(error: HTTPError) -> float:
    try:
        return max(0.0, float(error.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0


def _detail(error: HTTPError) -> str:
    try:
        return error.read(MAX_DETAIL_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
