"""Twins of traced tactics whose prompts hold feedback on a made-up attempt."""

from __future__ import annotations

from typing import Any

import pytest

from datamodules.lean_feedback import LeanFeedbackTactics
from datamodules.lean_synthetic import LeanSynthetic
from lightning_gfn.feedback.lean_messages import LeanFeedback

TEMPLATE = "{feedback}\n{prompt}"


def make(strength: float = 1.0, **settings: Any) -> LeanFeedbackTactics:
    inner = LeanSynthetic(families=["propositional"], max_train_theorems=40)
    return LeanFeedbackTactics(inner, feedback=LeanFeedback(strength=strength), **{"template": TEMPLATE, **settings})


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
    _, twins = split(make(share=1.0))
    assert twins
    for twin in twins:
        shown = twin.prompt.partition("A proof: ")[2]
        assert twin.solutions[0] in shown


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
