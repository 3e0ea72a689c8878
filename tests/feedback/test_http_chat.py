"""Feedback over HTTP from a local server: retries, time-outs, cache, budget, concurrency, and no error for bad luck."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightning_gfn.endpoints.cache import Reply, ReplyCache
from lightning_gfn.feedback.http_chat import ChatFeedback
from lightning_gfn.feedback.messages import DEFAULT_REQUEST, fill_request
from lightning_gfn.types import Problem, Rollouts

Make = Callable[..., ChatFeedback]
NO_POLICY: Any = None


def test_request_and_reply(make_chat: Make, endpoint: Any, rollouts: Rollouts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret")
    source = make_chat(key_variable="MY_KEY", system="Be brief.", concurrency=1, max_reply_tokens=77)
    source.setup()
    given = source.give(rollouts, NO_POLICY, [1, 3])
    assert all(text is not None and text.startswith("echo ") for text in given.texts)
    assert given.counts == {"calls": 2, "tokens": 20, "cached": 0, "failures": 0, "over_budget": 0}
    first = endpoint.requests[0]
    assert first["model"] == "m" and first["max_tokens"] == 77 and first["temperature"] == 0.0
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    asked = first["messages"][1]["content"]
    assert "2 + 3?" in asked and "2 + 3 = 6. B" in asked and "is wrong" in asked and "2 orders" in asked
    assert endpoint.headers[0]["Authorization"] == "Bearer s3cret"
    assert b"s3cret" not in Path(source.chat.cache.path).read_bytes()  # type: ignore[arg-type]


def test_strength_sets_orders_and_words() -> None:
    problem = Problem(id="p", prompt="Q {attempt}", answer=None)
    request = "{problem}|{attempt}|{verdict}|{answer}|{orders}|{words}|{other}"
    filled = [fill_request(request, problem, "A {problem}", correct, s) for correct, s in ((None, 0.0), (True, 1.0))]
    assert filled == [
        "Q {attempt}|A {problem}|not checked|unknown|one order|10|{other}",
        "Q {attempt}|A {problem}|right|unknown|3 orders|50|{other}",
    ]
    assert "{" not in fill_request(DEFAULT_REQUEST, Problem(id="p", prompt="Q"), "A", False, 0.5)


@pytest.mark.parametrize(
    "trouble",
    [(429, {"Retry-After": "0.02"}), (500, {}), (503, {"Retry-After": "soon"}), "hang up", b"<html>", b"{}", b"[1]"],
    ids=str,
)
def test_passing_trouble_is_tried_again(make_chat: Make, endpoint: Any, rollouts: Rollouts, trouble: Any) -> None:
    endpoint.plan = [trouble, trouble]
    given = make_chat().give(rollouts, NO_POLICY, [1])
    assert given.texts[0] is not None and given.texts[0].startswith("echo")
    assert given.counts["calls"] == 3 and given.counts["failures"] == 0


@pytest.mark.filterwarnings("ignore:no feedback")
@pytest.mark.parametrize(
    ("trouble", "calls"),
    [((401, {}), 1), ((400, {}), 1), ((429, {}), 3), (b'{"choices": [{"message": {"content": " "}}]}', 1)],
    ids=str,
)
def test_lasting_trouble_is_counted_and_never_raised(
    make_chat: Make, endpoint: Any, rollouts: Rollouts, trouble: Any, calls: int
) -> None:
    endpoint.plan = [trouble] * 3
    source = make_chat(concurrency=1)
    given = source.give(rollouts, NO_POLICY, [1])
    assert given.texts == (None,) and given.counts["failures"] == 1 and given.counts["calls"] == calls
    endpoint.plan = []
    assert source.give(rollouts, NO_POLICY, [1]).texts[0] is not None, "failures are not cached"


def test_the_first_failure_is_shown_once(make_chat: Make, endpoint: Any, rollouts: Rollouts) -> None:
    endpoint.plan = [(401, {})] * 4
    source = make_chat()
    with pytest.warns(UserWarning, match="answered 401") as shown:
        source.give(rollouts, NO_POLICY, [1, 3])
        source.give(rollouts, NO_POLICY, [1, 3])
    assert len(shown) == 1


@pytest.mark.filterwarnings("ignore:no feedback")
def test_time_limits(make_chat: Make, endpoint: Any, rollouts: Rollouts) -> None:
    """A silent server, one that sends drop by drop, and one that is not there."""
    began = time.monotonic()
    for plan in ([2.0], ["drip"]):
        endpoint.plan = plan
        given = make_chat(timeout_seconds=0.2, max_retries=0, cache=None).give(rollouts, NO_POLICY, [1])
        assert given.texts == (None,) and given.counts["failures"] == 1
    nobody = make_chat(url="http://127.0.0.1:9/v1", max_retries=1).give(rollouts, NO_POLICY, [1])
    assert nobody.texts == (None,) and nobody.counts == {
        "calls": 2, "tokens": 0, "cached": 0, "failures": 1, "over_budget": 0
    }  # fmt: skip
    assert time.monotonic() - began < 3.0


def test_cache_outlives_the_process_and_depends_on_the_request(
    make_chat: Make, endpoint: Any, rollouts: Rollouts
) -> None:
    first = make_chat().give(rollouts, NO_POLICY, range(5))
    again = make_chat().give(rollouts, NO_POLICY, range(5))
    assert again.texts == first.texts and again.counts["cached"] == 5 and again.counts["calls"] == 0
    other = make_chat(temperature=0.7).give(rollouts, NO_POLICY, [1])
    assert other.counts["calls"] == 1 and len(endpoint.requests) == 6
    assert make_chat(cache=None).give(rollouts, NO_POLICY, [1]).counts["calls"] == 1


def test_equal_requests_are_sent_once(make_chat: Make, endpoint: Any, rollouts: Rollouts) -> None:
    given = make_chat().give(rollouts, NO_POLICY, [1, 1, 3, 1])
    assert len(endpoint.requests) == 2 and given.texts[0] == given.texts[1] == given.texts[3]


@pytest.mark.parametrize("limit", [{"max_calls": 3}, {"max_tokens": 30}], ids=str)
def test_budget_ends_the_asking_and_is_remembered(
    make_chat: Make, endpoint: Any, rollouts: Rollouts, limit: dict[str, int]
) -> None:
    source = make_chat(concurrency=1, **limit)
    given = source.give(rollouts, NO_POLICY, range(5))
    assert [text is not None for text in given.texts] == [True] * 3 + [False] * 2
    assert given.counts["over_budget"] == 2 and given.counts["failures"] == 0
    resumed = make_chat(concurrency=1, **limit)
    resumed.load_state_dict(source.state_dict())
    later = resumed.give(rollouts, NO_POLICY, range(5))
    assert later.texts == given.texts and later.counts["cached"] == 3, "what is cached costs nothing"
    assert len(endpoint.requests) == 3


def test_requests_run_side_by_side_within_the_limit(make_chat: Make, endpoint: Any, rollouts: Rollouts) -> None:
    endpoint.plan = [0.15] * 5
    began = time.monotonic()
    make_chat(concurrency=3).give(rollouts, NO_POLICY, range(5))
    assert 1 < endpoint.most_at_once <= 3 and time.monotonic() - began < 0.7


def test_waiting_leaves_the_global_generator_alone(make_chat: Make, endpoint: Any, rollouts: Rollouts) -> None:
    endpoint.plan = [(500, {})]
    state = random.getstate()
    make_chat().give(rollouts, NO_POLICY, [1])
    assert random.getstate() == state


def fill_cache(path: str, start: int) -> None:
    cache = ReplyCache(path)
    for i in range(40):
        cache.put(f"{start + i}", Reply(f"text {start + i}", i))


def test_cache_is_shared_by_processes(tmp_path: Path) -> None:
    path = str(tmp_path / "cache.sqlite")
    workers = [multiprocessing.get_context("fork").Process(target=fill_cache, args=(path, s)) for s in (0, 20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cache = ReplyCache(path)
    found = [cache.get(f"{i}") for i in range(60)]
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert all(reply is not None and reply.text == f"text {i}" for i, reply in enumerate(found))
    assert cache.get("60") is None


@pytest.mark.filterwarnings("ignore:no feedback")
def test_a_broken_cache_is_an_error_before_training_and_a_count_in_it(
    make_chat: Make, endpoint: Any, rollouts: Rollouts, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"this is no database" * 100)
    source = make_chat(cache=str(broken))
    with pytest.raises(ValueError, match=r"broken.sqlite cannot be used"):
        source.setup()
    assert source.give(rollouts, NO_POLICY, [1]).counts["failures"] == 1
    with pytest.raises(sqlite3.DatabaseError):
        ReplyCache(str(broken)).get("x")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "localhost:8000"}, "^url is"),
        ({"concurrency": 0}, "^concurrency is 0"),
        ({"max_retries": -1}, "^max_retries is -1"),
        ({"timeout_seconds": 0.0}, "^timeout_seconds is 0"),
        ({"strength": 2.0}, "^strength is 2"),
        ({"request": "{problem}"}, "must hold {attempt}"),
    ],
)
def test_a_wrong_setting_names_itself(make_chat: Make, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_chat(**settings)


def test_a_missing_key_is_found_before_training(make_chat: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    with pytest.raises(ValueError, match="environment variable NOT_THERE is not set"):
        make_chat(key_variable="NOT_THERE").setup()
