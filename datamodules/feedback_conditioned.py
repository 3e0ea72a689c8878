"""Supervised examples that show how feedback is used: problem and feedback on some attempt → a right solution."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random
from typing import Any, Literal

from datamodules.common.base import ProblemDataModule, Split
from lightning_gfn.prompts.math_feedback import (
    ANSWER,
    CORRECTION,
    DEFAULT_TEMPLATE,
    LOCATION,
    SOLUTION,
    check_strength,
    check_template,
    leading_share,
    verdict,
    with_feedback,
)
from lightning_gfn.types import Problem

Kind = Literal["verdict", "solution"]
_RESULT = re.compile(r"(?<== )[0-9]+|(?<=[Ii]s: )[0-9]+")


def spoil(solution: str, random: Random) -> str:
    """The solution with one of its results changed, and every later mention of that number with it.

    Args:
        solution: a right solution.
        random: draws the result and the new number.

    Returns:
        An attempt with a wrong result; the solution itself if no result is found.
    """
    results = list(_RESULT.finditer(solution))
    if not results:
        return solution
    chosen = random.choice(results)
    wrong = str(max(0, int(chosen.group()) + random.choice([-10, -2, -1, 1, 2, 10])))
    later = re.sub(rf"(?<![0-9]){chosen.group()}(?![0-9])", wrong, solution[chosen.start() :])
    return solution[: chosen.start()] + later


class FeedbackConditioned(ProblemDataModule):
    """The problems of another data set, and for a share of the training problems a twin whose prompt holds feedback.

    A small model has never read feedback, so that as its own teacher (``DistillationModule``) it would gain nothing
    from it. Supervised training on the twins teaches it what the words mean: the feedback is what the rules would say
    about a solution, right or spoiled (``verdict``), or the beginning of another right solution (``solution``), and the
    target is a right solution: the one that was judged, before it was spoiled. Use the template and the strength of the
    later distillation; prompts become longer, so raise ``policy.max_prompt_tokens`` and the model's positions.
    Validation and test stay as they are.

    Args:
        data: the data set.
        template: the prompt with feedback; must hold ``{prompt}`` and ``{feedback}``.
        share: share of the training problems that get a twin.
        strengths: the strengths of the feedback, one drawn for each twin.
        kinds: the kinds of feedback, one drawn for each twin.
        right_share: share of the verdicts that judge a right solution. Without any, "The attempt is right." is new to
            the teacher, which gets it about every right attempt of the student.
        feedback_seed: key of the draws.
        settings: arguments of ``ProblemDataModule``; limits count twins.

    Raises:
        ValueError: if the share, a strength, a kind or the template makes no sense.
    """

    def __init__(
        self,
        data: ProblemDataModule,
        *,
        template: str = DEFAULT_TEMPLATE,
        share: float = 0.5,
        strengths: tuple[float, ...] = (0.0, LOCATION, CORRECTION, ANSWER, SOLUTION),
        kinds: tuple[Kind, ...] = ("verdict",),
        right_share: float = 0.5,
        feedback_seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        check_template(template)
        if not 0.0 < share <= 1.0:
            raise ValueError(f"data.share is {share}, expected 0 < share <= 1")
        if not 0.0 <= right_share <= 1.0:
            raise ValueError(f"data.right_share is {right_share}, expected 0 <= right_share <= 1")
        if not strengths or not kinds or set(kinds) - {"verdict", "solution"}:
            raise ValueError(
                f"data.strengths is {strengths} and data.kinds {kinds}: give one strength or more, and 'verdict', "
                "'solution' or both"
            )
        for strength in strengths:
            check_strength(strength)
        self.data = data
        self.chat, self.places = data.chat, data.places
        self.prompt_template, self.proof_prompt = data.prompt_template, data.proof_prompt
        self.template = template
        self.share, self.strengths, self.kinds, self.right_share = share, strengths, kinds, right_share
        self.feedback_seed = feedback_seed

    @property
    def has_test_rows(self) -> bool:
        """Whether the data set reads test problems from a file."""
        return self.data.has_test_rows

    def load_split(self, split: Split) -> list[Problem]:
        """The problems of the data set, and in training the twins behind them."""
        problems = self.data.problems(split)
        if split != "train":
            return list(problems)
        twins = [twin for problem in problems if (twin := self.twin(problem)) is not None]
        return [*problems, *twins]

    def twin(self, problem: Problem) -> Problem | None:
        """The problem with feedback in its prompt; None if it is not drawn or has no solution."""
        random = Random(f"{self.feedback_seed}/{problem.id}")
        if random.random() >= self.share or not problem.solutions:
            return None
        strength, kind = random.choice(self.strengths), random.choice(self.kinds)
        target = random.choice(problem.solutions)
        if kind == "solution":
            text = f"A right solution: {leading_share(random.choice(problem.solutions), strength)}"
        else:
            attempt = target if random.random() < self.right_share else spoil(target, random)
            text = verdict(replace(problem, solutions=(target,)), attempt, attempt == target, strength)
        prompt = with_feedback(self.template, problem.prompt, text)
        return replace(problem, id=f"{problem.id}/feedback", prompt=prompt, solutions=(target,), solution_set=None)
