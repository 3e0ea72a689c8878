"""Verdicts, siblings, references and the first of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from lightning_gfn.feedback.by_rule import FirstOf, ReferenceFeedback, SiblingFeedback, VerifierFeedback
from lightning_gfn.interfaces import Policy
from lightning_gfn.teacher_interfaces import FeedbackSource
from lightning_gfn.types import Feedback, Rollouts

NO_POLICY: Any = None


def ask(source: FeedbackSource, rollouts: Rollouts, chosen: Sequence[int] = range(5)) -> list[str | None]:
    return list(source.give(rollouts, NO_POLICY, chosen).texts)


def test_verifier(rollouts: Rollouts) -> None:
    right, wrong = "The attempt is right.", "The attempt is wrong."
    assert ask(VerifierFeedback(strength=0.5), rollouts) == [
        right, f"{wrong} 2 + 3 = 6 is false. 2 + 3 = 5.", right, f"{wrong} 4 * 2 = 9 is false. 4 * 2 = 8.", wrong,
    ]  # fmt: skip
    assert ask(VerifierFeedback(strength=0.0, on_correct=False), rollouts, [2, 4]) == [None, wrong]
    assert ask(VerifierFeedback(strength=0.0, on_wrong=False), rollouts) == [right, None, right, None, None]


def test_sibling_is_the_next_right_one_of_the_group(rollouts: Rollouts) -> None:
    source = SiblingFeedback()
    given = source.give(rollouts, NO_POLICY, range(5))
    assert given.texts == (None, "A right solution: 2 + 3 = 5. C", None, None, None)
    assert given.counts == {"without_sibling": 4}
    both = ask(SiblingFeedback(on_correct=True), rollouts)
    assert both[0] == "A right solution: 2 + 3 = 5. C" and both[2] == "A right solution: 2 + 3 = 5. A"
    assert ask(SiblingFeedback(strength=0.5), rollouts, [1]) == ["A right solution: 2 + 3"]


def test_sibling_never_shows_an_attempt_itself(rollouts: Rollouts) -> None:
    same = replace(rollouts, completions=("x", "y", "x", "z", "z"))
    assert ask(SiblingFeedback(on_correct=True), same)[0] is None


def test_reference(rollouts: Rollouts) -> None:
    assert ask(ReferenceFeedback(), rollouts)[:2] == ["A right solution: 2 + 3 = 5."] * 2
    spread = ask(ReferenceFeedback(which="spread"), rollouts)
    assert [text and text[18:] for text in spread] == ["2 + 3 = 5.", "3 + 2 = 5.", "It is 5.", *["4 * 2 = 8."] * 2]
    assert ask(ReferenceFeedback(strength=0.4), rollouts, [0]) == ["A right solution: 2 +"]
    assert ask(ReferenceFeedback(strength=0.0), rollouts, [0]) == ["The answer is 5."]
    bare = replace(rollouts, problems=tuple(replace(p, solutions=(), answer=None) for p in rollouts.problems))
    assert ask(ReferenceFeedback(), bare) == ask(ReferenceFeedback(strength=0.0), bare) == [None] * 5


class Stateful(FeedbackSource):
    """Speaks of some trajectories and counts what it was asked."""

    needs_reference = True

    def __init__(self, about: int) -> None:
        self.about, self.asked, self.is_set_up = about, 0, False

    def setup(self) -> None:
        self.is_set_up = True

    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        self.asked += len(chosen)
        return Feedback(tuple("s" if b == self.about else None for b in chosen), {"calls": len(chosen)})

    def state_dict(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def load_state_dict(self, state: Any) -> None:
        self.asked = state["asked"]


def test_first_of_asks_the_next_source_about_what_is_left(rollouts: Rollouts) -> None:
    stateful = [Stateful(3), Stateful(1)]
    source = FirstOf([*stateful, VerifierFeedback(strength=0.0, on_correct=False)])
    assert source.needs_reference and not FirstOf([VerifierFeedback()]).needs_reference
    source.setup()
    given = source.give(rollouts, NO_POLICY, [4, 3, 1, 0])
    assert given.texts == ("The attempt is wrong.", "s", "s", None)
    assert given.counts == {"calls": 4 + 3} and all(s.is_set_up for s in stateful)
    copy = FirstOf([Stateful(3), Stateful(1), VerifierFeedback()])
    copy.load_state_dict(source.state_dict())
    assert [s.asked for s in copy.sources[:2]] == [4, 3]  # type: ignore[attr-defined]


def test_unchecked_answers_and_wrong_settings_name_themselves(rollouts: Rollouts) -> None:
    unchecked = replace(rollouts, correct_B=None)
    for source in (VerifierFeedback(), SiblingFeedback()):
        with pytest.raises(ValueError, match=rf"{type(source).__name__} needs to know .*AnswerMatch"):
            source.give(unchecked, NO_POLICY, [0])
    for build, name in (
        (lambda: VerifierFeedback(strength=-0.1), "strength"),
        (lambda: ReferenceFeedback(which="all"), "which"),  # type: ignore[arg-type]
        (lambda: FirstOf([]), "sources"),
    ):
        with pytest.raises(ValueError, match=f"^{name} is "):
            build()
    with pytest.raises(ValueError, match="no attempt would get feedback"):
        VerifierFeedback(on_correct=False, on_wrong=False)


def test_sources_are_built_from_class_paths() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--feedback", type=FeedbackSource)
    inner = {"class_path": "lightning_gfn.feedback.by_rule.SiblingFeedback", "init_args": {"strength": 0.3}}
    config = {"class_path": "lightning_gfn.feedback.by_rule.FirstOf", "init_args": {"sources": [inner]}}
    built = parser.instantiate(parser.parse_object({"feedback": config})).feedback
    assert isinstance(built, FirstOf) and built.sources[0].strength == 0.3  # type: ignore[attr-defined]
