"""Twins of traced tactics whose prompts hold feedback on a made-up attempt."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from datamodules.lean_feedback import LeanFeedbackTactics, attempt
from datamodules.lean_synthetic import LeanSynthetic

TEMPLATE = "{feedback}\n{prompt}"


def make(strength: float = 1.0, **settings: Any) -> LeanFeedbackTactics:
    inner = LeanSynthetic(families=["propositional"], max_train_theorems=40)
    return LeanFeedbackTactics(inner, strength=strength, **{"template": TEMPLATE, **settings})


def split(data: LeanFeedbackTactics) -> tuple[list[Any], list[Any]]:
    problems = data.problems("train")
    twins = [p for p in problems if p.id.endswith("/feedback")]
    return [p for p in problems if not p.id.endswith("/feedback")], twins


def test_every_tactic_is_there_and_twins_end_in_a_known_prompt_with_its_tactic() -> None:
    data = make(share=1.0)
    plain, twins = split(data)
    known = {(p.prompt, p.solutions) for p in plain}
    by_name = {t.id: t for t in data.theorems.theorems("train")}
    assert len(plain) == sum(len(list(data.theorems.tactic_problems(t))) for t in by_name.values())
    steps = sum(len(trace) for t in by_name.values() for trace in t.traces)
    assert len(twins) == steps and len({p.id for p in [*plain, *twins]}) == len(plain) + len(twins)
    for twin in twins:
        assert any(twin.prompt.endswith("\n" + prompt) and twin.solutions == tactic for prompt, tactic in known)


def test_a_shown_proof_is_the_one_that_is_followed() -> None:
    data = make(share=1.0)
    traces = {f"{t.id}/{n}": trace for t in data.theorems.theorems("train") for n, trace in enumerate(t.traces)}
    followed: dict[str, list[str]] = {}
    for twin in split(data)[1]:
        theorem, _, step, number = twin.id.removesuffix("/feedback").rsplit("/", 3)
        trace = traces[f"{theorem}/{number}"]
        script = "\n".join(one.tactic for one in trace)
        shown = twin.prompt.partition("A proof: ")[2]
        assert shown.startswith(f"{script}\n{trace[int(step)].state_before}"), twin.id
        followed.setdefault(f"{theorem}/{number}", []).append(twin.solutions[0])
    assert followed == {name: [one.tactic for one in trace] for name, trace in traces.items()}
    assert any(name.endswith("/1") for name in traces), "no theorem has a second proof"


def test_a_made_up_attempt_follows_its_proof_until_it_stops_or_fails() -> None:
    traces = [t.traces[0] for t in make().theorems.theorems("train") if len(t.traces[0]) > 1]
    kept: dict[str, set[int]] = {}
    for number, trace in enumerate(traces * 10):
        made = attempt(trace, ["a stranger"], Random(number))
        states, tactics = [step.state_before for step in trace], [step.tactic for step in trace]
        right = len(made.tactics) - (made.outcome == "error")
        kept.setdefault(made.outcome, set()).add(right if made.outcome != "proved" else -1)
        assert list(made.tactics[:right]) == tactics[:right]
        assert list(made.states) == states[: len(made.tactics)]
        if made.outcome == "proved":
            assert right == len(trace) and made.final_state == ""
        elif made.outcome == "unfinished":
            assert right < len(trace) and made.final_state == states[right]
        else:
            assert made.tactics[right] == "a stranger" and made.error_kind == "tactic"
    assert {0, 1} <= kept["unfinished"] and {0, 1} <= kept["error"] and "proved" in kept


def test_all_outcomes_occur_and_weak_feedback_shows_no_proof() -> None:
    _, twins = split(make(share=1.0))
    for sentence in ("The proof is complete.", "The proof is unfinished.", "The proof fails. The tactic `"):
        share = sum(twin.prompt.startswith(sentence) for twin in twins) / len(twins)
        assert 0.15 < share < 0.6, sentence
    assert not any("A proof:" in twin.prompt for twin in split(make(0.5, share=1.0))[1])


def test_share_and_seed_decide_which_proofs_get_twins_and_evaluation_stays() -> None:
    half, all_of_them = len(split(make(share=0.5))[1]), len(split(make(share=1.0))[1])
    assert 0.3 < half / all_of_them < 0.7
    ids = {p.id for p in split(make(share=0.5))[1]}
    assert (
        ids == {p.id for p in split(make(share=0.5))[1]} != {p.id for p in split(make(share=0.5, feedback_seed=1))[1]}
    )
    data = make()
    assert data.problems("test") == data.theorems.problems("test") and data.problems("test")[0].theorem is not None


def test_refusals() -> None:
    with pytest.raises(ValueError, match="share"):
        make(share=0.0)
    with pytest.raises(ValueError, match="template"):
        make(template="{prompt}")
