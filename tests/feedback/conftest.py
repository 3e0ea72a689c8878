"""Rollouts with verdicts, and an endpoint that misbehaves as told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch

from lightning_gfn.types import Problem, Rollouts, StepBatch

PROBLEMS = (
    Problem(id="a", prompt="2 + 3?\n", answer="5", solutions=("2 + 3 = 5.", "3 + 2 = 5.", "It is 5.")),
    Problem(id="b", prompt="4 * 2?\n", answer="8", solutions=("4 * 2 = 8.",)),
)


@pytest.fixture
def rollouts() -> Rollouts:
    """Three attempts at the first problem (right, wrong, right) and two at the second (both wrong)."""
    completions = ("2 + 3 = 5. A", "2 + 3 = 6. B", "2 + 3 = 5. C", "4 * 2 = 9. D", "what?")
    index = torch.tensor([0, 0, 0, 1, 1])
    empty = torch.zeros(5, 1, dtype=torch.int64)
    return Rollouts(
        problems=PROBLEMS,
        problem_index_B=index,
        trajectory_index_N=torch.arange(5),
        steps=StepBatch(
            empty,
            empty.bool(),
            empty,
            empty.bool(),
        ),
        completions=completions,
        sources=("on_policy",) * 5,
        correct_B=torch.tensor([True, False, True, False, False]),
    )


class FakeEndpoint:
    """A local server; ``plan`` says what the next requests get, ``requests`` keeps what was asked.

    A plan entry is a status (with optional headers), a body, or seconds to wait; without one the reply is an echo.
    """

    def __init__(self) -> None:
        self.plan: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake.lock:
                    fake.requests.append(body)
                    fake.headers.append(dict(self.headers))
                    step = fake.plan.pop(0) if fake.plan else None
                    fake.at_once += 1
                    fake.most_at_once = max(fake.most_at_once, fake.at_once)
                try:
                    self.answer(step, body)
                except BrokenPipeError:
                    pass
                finally:
                    with fake.lock:
                        fake.at_once -= 1

            def answer(self, step: Any, body: dict[str, Any]) -> None:
                if step == "hang up":
                    self.close_connection = True
                    return
                if isinstance(step, float):
                    time.sleep(step)
                status, headers = step if isinstance(step, tuple) else (200, {})
                text = f"echo {len(body['messages'][-1]['content'])}"
                reply = {"choices": [{"message": {"content": text}}], "usage": {"total_tokens": 10}}
                payload = step if isinstance(step, bytes) else json.dumps(reply).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                if step == "drip":
                    for byte in payload:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                        time.sleep(0.02)
                else:
                    self.wfile.write(payload)

            def log_message(self, *arguments: Any) -> None:
                """Nothing on the screen."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    """A running endpoint."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fake = FakeEndpoint()
    yield fake
    fake.close()


@pytest.fixture
def make_chat(endpoint: FakeEndpoint, tmp_path: Any) -> Callable[..., Any]:
    """Builder of a source that asks the endpoint, quick to give up."""
    from lightning_gfn.feedback.http_chat import ChatFeedback

    def make(**changes: Any) -> ChatFeedback:
        settings: dict[str, Any] = {
            "url": endpoint.url, "model": "m", "key_variable": None, "cache": str(tmp_path / "deep" / "cache.sqlite"),
            "timeout_seconds": 5.0, "max_retries": 2, "backoff_seconds": 0.01, "max_backoff_seconds": 0.05,
        }  # fmt: skip
        return ChatFeedback(**{**settings, **changes})

    return make
