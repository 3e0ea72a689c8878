"""A judge behind a local HTTP server: which pairs it is asked about, what it costs, and what goes wrong."""

from __future__ import annotations

import json
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.solution_classes import JudgeClasses, JudgeError
from lightning_gfn.types import Problem

PROBLEM = Problem("p", "How {second} many?")
Make = Callable[..., JudgeClasses]


class Server:
    """Answers yes where both texts end in the same letter; ``answers`` come first."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answers: list[Any] = []
        self.links: set[frozenset[str]] | None = None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = body["messages"][-1]["content"]
                found = re.search(r"One solution:\n\n(.*)\n\nAnother solution:\n\n(.*)\n\nDo these", text)
                assert found is not None and "How {second} many?" in text
                pair = found.group(1), found.group(2)
                server.asked.append(pair)
                same = pair[0][-1] == pair[1][-1] if server.links is None else frozenset(pair) in server.links
                answer = server.answers.pop(0) if server.answers else "Yes." if same else "no"
                status, text = answer if isinstance(answer, tuple) else (200, answer)
                payload = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *arguments: Any) -> None:
                """Nothing on the screen."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def make(server: Server, tmp_path: Path) -> Make:
    def build(**changes: Any) -> JudgeClasses:
        settings = {"url": server.url, "model": "m", "cache": str(tmp_path / "judge.sqlite"), "key_variable": None}
        return JudgeClasses(**{**settings, "max_retries": 0, **changes})

    return build


def test_classes_of_every_order_are_the_components_of_the_answers(make: Make, server: Server) -> None:
    texts = ["1a", "2a", "3b", "4a", "5b", "6c"]
    classes = make()
    assert classes.labels(PROBLEM, texts) == [f"cluster {n}" for n in (1, 1, 2, 1, 2, 3)]
    asked = len(server.asked)
    assert asked < 15, "pairs that are linked already are not asked about"
    for order in list(permutations(range(6)))[::60]:
        found = classes.labels(PROBLEM, [texts[i] for i in order])
        for i, j in combinations(range(6), 2):
            assert (found[i] == found[j]) == (texts[order[i]][-1] == texts[order[j]][-1])
    assert all(first < second for first, second in server.asked)
    assert len(server.asked) == len(set(server.asked)), "no pair is asked about twice"


def test_answers_that_are_not_transitive_are_joined(make: Make, server: Server) -> None:
    """a ~ c and c ~ b, but not a ~ b: one class by union-find."""
    server.links = {frozenset(("1a", "3c")), frozenset(("3c", "2b"))}
    assert make().labels(PROBLEM, ["1a", "2b", "3c", "4d"]) == ["cluster 1", "cluster 1", "cluster 1", "cluster 2"]
    assert ("1a", "2b") in server.asked


def test_equal_texts_and_single_ones_are_not_asked_about(make: Make, server: Server) -> None:
    assert make().labels(PROBLEM, ["1a", "1a ", "1a"]) == ["cluster 1"] * 3
    assert make().labels(PROBLEM, []) == [] and server.asked == []


def test_the_cache_outlives_the_object(make: Make, server: Server) -> None:
    first = make().labels(PROBLEM, ["1a", "2b", "3a"])
    count = len(server.asked)
    assert make(max_calls=0).labels(PROBLEM, ["1a", "2b", "3a"]) == first and len(server.asked) == count
    make(model="other").labels(PROBLEM, ["1a", "2b"])
    assert len(server.asked) == count + 1


def test_a_spent_budget_raises_and_keeps_the_answers(make: Make, server: Server) -> None:
    with pytest.raises(JudgeError, match=r"2 calls \(max_calls\) are spent at problem 'p': raise max_calls"):
        make(max_calls=2).labels(PROBLEM, ["1a", "2b", "3c"])
    assert len(server.asked) == 2
    make().labels(PROBLEM, ["1a", "2b", "3c"])
    assert len(server.asked) == 3


def test_a_spent_budget_leaves_pairs_apart_with_one_warning(make: Make, server: Server) -> None:
    classes = make(max_calls=1, when_spent="apart")
    with pytest.warns(UserWarning, match="1 calls .* stay apart") as told:
        found = classes.labels(PROBLEM, ["1a", "2a", "3b", "4b"])
    assert found == ["cluster 1", "cluster 1", "cluster 2", "cluster 3"] and len(told) == 1
    assert len(server.asked) == 1 and classes.counts["apart"] == 5, "all other pairs"


def test_copies_share_the_budget(make: Make, server: Server) -> None:
    classes = make(max_calls=1)
    deepcopy(classes).labels(PROBLEM, ["1a", "2a"])
    with pytest.raises(JudgeError, match="spent"):
        classes.labels(PROBLEM, ["1a", "2b"])
    assert pickle.loads(pickle.dumps(classes)).labels(PROBLEM, ["1a", "2a"]) == ["cluster 1", "cluster 1"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("Perhaps they do.", "m answered 'Perhaps they do.', expected yes or no: change question"),
        ("not at all", "expected yes or no"),
        ((401, "x"), "answered 401"),
        ((500, "x"), "answered 500"),
        ("  ", "holds no text"),
    ],
)
def test_bad_replies_are_errors_and_are_not_kept(make: Make, server: Server, answer: Any, message: str) -> None:
    server.answers = [answer]
    with pytest.raises(JudgeError, match=f"no verdict on problem 'p': .*{message}"):
        make().labels(PROBLEM, ["1a", "2a"])
    assert make().labels(PROBLEM, ["1a", "2a"]) == ["cluster 1", "cluster 1"]


@pytest.mark.parametrize(("answer", "same"), [("**Yes**, both", True), ("<think>no?\nyes</think>\nNo.", False)])
def test_answers_are_read(make: Make, server: Server, answer: str, same: bool) -> None:
    server.answers = [answer]
    assert len(set(make().labels(PROBLEM, ["1a", "2b"]))) == (1 if same else 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"question": "{problem} {first}"}, "question lacks {second}"),
        ({"when_spent": "wait"}, "when_spent: unknown choice 'wait'; use one of raise, apart"),
        ({"key_variable": "NOT_THERE"}, "environment variable NOT_THERE is not set"),
        ({"url": "localhost"}, "url is 'localhost'"),
    ],
)
def test_wrong_settings_name_themselves(make: Make, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_a_broken_cache_is_found_first(make: Make, tmp_path: Path) -> None:
    (tmp_path / "judge.sqlite").write_bytes(b"no database" * 200)
    with pytest.raises(ValueError, match=r"judge.sqlite cannot be used"):
        make()
