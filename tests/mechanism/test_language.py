"""A language principal: what it reads, what it counts, and what holds when an answer cannot be read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.escape_room import EscapeRoom
from lightning_gfn.mechanism.learning import Outcome
from lightning_gfn.mechanism.principals.base import Proposal
from lightning_gfn.mechanism.principals.language import LanguagePrincipal
from lightning_gfn.mechanism.principals.writers import EndpointWriter, Writer, Written

ROOM = EscapeRoom()


class Scripted(Writer):
    """Gives prepared answers and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, str]]()

    def write(self, prompt: str, *, key: str, seed: int) -> Written:
        self.asked.append((key, prompt))
        return Written(self.answers.pop(0), 7)


def outcome(welfare: float, door_open: float = 1.0) -> Outcome:
    facts = dict.fromkeys(ROOM.facts, 0.0) | {"door open": door_open}
    return Outcome(np.array([welfare]), np.array([0.0]), facts, 10)


def set_up(writer: Writer, **settings: Any) -> LanguagePrincipal:
    principal = LanguagePrincipal(writer, **settings)
    principal.setup(ROOM, AgentSettings(), np.random.default_rng(0))
    return principal


def test_unusable_answers_are_counted_and_the_last_usable_one_holds() -> None:
    writer = Scripted("no idea", "[0, 5, 0]", "[0, 5, 0, 0, 0]", "[9, 0, 0, 0, 0]", "?", "[1, 1, 1, 1, 1]")
    principal = set_up(writer, tries=2)
    first = principal.propose(0)
    assert first == Proposal((0.0,) * 5, ("no idea", "[0, 5, 0]"), ("no numbers", "wrong number of numbers"))
    second = principal.propose(0)
    assert second == Proposal((0.0, 5.0, 0.0, 0.0, 0.0), ("[0, 5, 0, 0, 0]",))
    third = principal.propose(0)
    assert third.incentives == second.incentives and third.failures == ("out of range", "no numbers")
    assert principal.propose(1).incentives == (1.0,) * 5
    assert dict(principal.counts) == {
        "calls": 6,
        "generated_tokens": 42,
        "unusable: no numbers": 2,
        "unusable: wrong number of numbers": 1,
        "unusable: out of range": 1,
        "usable": 2,
        "fallbacks": 2,
    }
    assert len({key for key, _ in writer.asked}) == 6, "equal keys would give equal samples"


def test_fallbacks_do_not_cross_contexts() -> None:
    principal = set_up(Scripted("[0, 5, 0, 0, 0]", "[1, 1, 1, 1, 1]", "?", "?"), tries=1)
    assert principal.propose(0).incentives[1] == 5.0
    assert principal.propose(1).incentives == (1.0,) * 5
    assert principal.propose(2).incentives == (0.0,) * 5
    assert principal.propose(1).incentives == (1.0,) * 5


@pytest.mark.parametrize(("order", "told"), [("best_last", [30, 50, 90]), ("recent", [90, 10, 50])])
def test_prompts_tell_the_history_of_the_context(order: Any, told: list[int]) -> None:
    principal = set_up(Scripted(), history=3, order=order, facts=["door open"])
    for context, welfare in ((0, 30.0), (0, 90.0), (1, 70.0), (0, 10.0), (0, 50.0)):
        principal.observe(context, Proposal((welfare / 100,) * 5), outcome(welfare, 0.5))
    lines = [line for line in principal.prompt(0).splitlines() if "reward " in line and line.startswith("[")]
    assert [line.split("reward ")[1] for line in lines] == [f"{welfare}, door open 0.5" for welfare in told]
    assert "Active: lever 1." in principal.prompt(0) and ROOM.rules in principal.prompt(0)


def test_the_best_so_far_can_be_recommended() -> None:
    principal = set_up(Scripted("[3, 3, 3, 3, 3]"), recommend_best=True)
    principal.observe(0, Proposal((1.0,) * 5), outcome(40.0))
    principal.observe(0, Proposal((2.0,) * 5), outcome(20.0))
    assert principal.recommend(0).incentives == (1.0,) * 5
    assert principal.recommend(1).incentives == (3.0,) * 5


@pytest.mark.parametrize("settings", [{"tries": 0}, {"history": -1}, {"order": "oldest"}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        LanguagePrincipal(Scripted(), **settings)


def test_a_fact_that_the_world_does_not_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="weather"):
        set_up(Scripted(), facts=["weather"])


class Chat(BaseHTTPRequestHandler):
    """Answers every chat request with the same incentives."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        reply = {"choices": [{"message": {"content": "I choose [0, 0, 5, 0, 0]."}}], "usage": {"total_tokens": 99}}
        content = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    Chat.asked = []
    server = HTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_an_endpoint_can_be_the_principal(endpoint: str, tmp_path: Path) -> None:
    writer = EndpointWriter(endpoint, "any", cache=str(tmp_path / "replies.db"), key_variable=None)
    principal = set_up(writer)
    assert principal.propose(2).incentives == (0.0, 0.0, 5.0, 0.0, 0.0)
    assert principal.propose(2).incentives == (0.0, 0.0, 5.0, 0.0, 0.0)
    assert len(Chat.asked) == 1, "the second time the cache answers"
    assert principal.counts["generated_tokens"] == 99
    assert "Active: lever 3." in Chat.asked[0]["messages"][0]["content"]


def test_an_endpoint_that_is_not_there_is_an_error_of_one_line(tmp_path: Path) -> None:
    writer = EndpointWriter("http://127.0.0.1:9/v1", "any", key_variable=None, max_retries=0)
    with pytest.raises(ValueError, match="gave no answer"):
        set_up(writer).propose(0)
