"""One chat completion from an OpenAI-compatible HTTP endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lightning_gfn.endpoints.cache import Reply
from lightning_gfn.endpoints.http_json import Endpoint, EndpointError


def ask_chat(endpoint: Endpoint, body: dict[str, Any], may_try: Callable[[], bool]) -> Reply:
    """Ask for a chat completion until there is one.

    Args:
        endpoint: ``/chat/completions`` is appended to its address.
        body: of the request.
        may_try: asked before every try; False ends it.

    Returns:
        the reply.

    Raises:
        EndpointError: if no try succeeded; ``BudgetSpent`` if ``may_try`` ended it.
    """
    return endpoint.ask("/chat/completions", body, _read_reply, may_try)


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
