"""Feedback without a language model: verdicts, sibling solutions, reference solutions, and the first of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lightning_gfn.interfaces import Policy
from lightning_gfn.prompts.math_feedback import check_strength, leading_share, verdict
from lightning_gfn.teacher_interfaces import FeedbackSource
from lightning_gfn.types import Feedback, Rollouts


def verdicts_of(rollouts: Rollouts, source: FeedbackSource) -> list[bool]:
    """Whether each trajectory's answer is right.

    Raises:
        ValueError: if the reward checks no answers; names the source.
    """
    if rollouts.correct_B is None:
        raise ValueError(
            f"{type(source).__name__} needs to know which answers are right, but the reward checks none: set "
            "model.reward to lightning_gfn.rewards.answer_match.AnswerMatch or a SumReward that holds it"
        )
    return [bool(correct) for correct in rollouts.correct_B.tolist()]


class VerifierFeedback(FeedbackSource):
    """What the answer checker says, and the first false equation of a wrong attempt.

    Args:
        strength: 0 says right or wrong; from 0.25 also the first wrong equation, from 0.5 its correction, from 0.75
            the answer, and at 1 the first reference solution.
        on_correct: also say of right attempts that they are right; otherwise they get no feedback.
        on_wrong: say of wrong attempts what is wrong. From strength 0.75 on the teacher knows the answer, and behind a
            student's error it goes on to that answer, which contradicts what stands there; a small student learns
            to contradict itself. Without, it learns from right attempts alone.

    Raises:
        ValueError: if no attempt would get feedback, or the strength lies outside [0, 1].
    """

    def __init__(self, *, strength: float = 0.5, on_correct: bool = True, on_wrong: bool = True) -> None:
        check_strength(strength)
        if not (on_correct or on_wrong):
            raise ValueError("on_correct and on_wrong are false: no attempt would get feedback; set one to true")
        self.strength, self.on_correct, self.on_wrong = strength, on_correct, on_wrong

    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        """One verdict a trajectory."""
        correct = verdicts_of(rollouts, self)
        texts = [
            verdict(rollouts.problem_of(b), rollouts.completions[b], correct[b], self.strength)
            if (self.on_correct if correct[b] else self.on_wrong)
            else None
            for b in chosen
        ]
        return Feedback(tuple(texts))


class SiblingFeedback(FeedbackSource):
    """A right solution that the policy itself found: another trajectory of the same problem.

    Each trajectory gets the next right one of its group, in a circle; texts equal to its own are passed over. Without
    one there is no feedback.

    Args:
        strength: share of the solution's words that is shown, from the start.
        on_correct: give right attempts another right one too.

    Source: SDPO, arXiv:2601.20802.
    """

    def __init__(self, *, strength: float = 1.0, on_correct: bool = False) -> None:
        check_strength(strength)
        self.strength, self.on_correct = strength, on_correct

    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        """One sibling's solution a trajectory."""
        correct = verdicts_of(rollouts, self)
        groups: dict[int, list[int]] = {}
        for b, problem in enumerate(rollouts.problem_index_B.tolist()):
            groups.setdefault(problem, []).append(b)
        peers = {b: [*group[i + 1 :], *group[:i]] for group in groups.values() for i, b in enumerate(group)}
        texts: list[str | None] = []
        for b in chosen:
            own = rollouts.completions[b]
            found = [rollouts.completions[p] for p in peers[b] if correct[p] and rollouts.completions[p] != own]
            wanted = bool(found) and (self.on_correct or not correct[b])
            texts.append(f"A right solution: {leading_share(found[0], self.strength)}" if wanted else None)
        return Feedback(tuple(texts), {"without_sibling": texts.count(None)})


class ReferenceFeedback(FeedbackSource):
    """A reference solution of the problem, or its beginning, or its answer alone.

    Args:
        strength: share of the solution's words that is shown, from the start; 0 shows the answer instead.
        which: the first reference solution for every trajectory, or ``spread``: the n-th trajectory of a problem
            gets the n-th solution, in a circle, so that a group is not pulled towards one text.

    Source: OPSD, arXiv:2601.18734.
    """

    def __init__(self, *, strength: float = 1.0, which: Literal["first", "spread"] = "first") -> None:
        check_strength(strength)
        if which not in ("first", "spread"):
            raise ValueError(f"which is {which!r}, expected one of first, spread")
        self.strength, self.which = strength, which

    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        """One reference solution a trajectory."""
        index = rollouts.problem_index_B.tolist()
        texts: list[str | None] = []
        for b in chosen:
            problem = rollouts.problems[index[b]]
            if self.strength == 0.0:
                texts.append(f"The answer is {problem.answer}." if problem.answer is not None else None)
            elif not problem.solutions:
                texts.append(None)
            else:
                rank = index[:b].count(index[b]) if self.which == "spread" else 0
                solution = problem.solutions[rank % len(problem.solutions)]
                texts.append(f"A right solution: {leading_share(solution, self.strength)}")
        return Feedback(tuple(texts), {"without_reference": texts.count(None)})


class FirstOf(FeedbackSource):
    """For each trajectory, the feedback of the first source that has any.

    Args:
        sources: in order of preference; an HTTP endpoint first and the verifier second keeps training going when the
            endpoint fails or its budget is spent.
    """

    def __init__(self, sources: list[FeedbackSource]) -> None:
        if not sources:
            raise ValueError("sources is empty: name at least one feedback source")
        self.sources = sources
        self.needs_reference = any(source.needs_reference for source in sources)

    def setup(self) -> None:
        """Check every source."""
        for source in self.sources:
            source.setup()

    def give(self, rollouts: Rollouts, policy: Policy, chosen: Sequence[int]) -> Feedback:
        """Ask the sources in turn about those trajectories that have none yet."""
        texts: dict[int, str | None] = dict.fromkeys(chosen)
        counts: Counter[str] = Counter()
        for source in self.sources:
            missing = [b for b in chosen if texts[b] is None]
            if missing:
                given = source.give(rollouts, policy, missing)
                texts.update(zip(missing, given.texts, strict=True))
                counts.update(given.counts)
        return Feedback(tuple(texts[b] for b in chosen), dict(counts))

    def state_dict(self) -> dict[str, Any]:
        """The states of all sources."""
        return {str(i): source.state_dict() for i, source in enumerate(self.sources)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        for i, source in enumerate(self.sources):
            source.load_state_dict(state[str(i)])
