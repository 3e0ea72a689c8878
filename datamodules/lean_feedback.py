"""Tactics whose prompts hold what Lean might have said of an attempt: how a small model learns to read feedback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from datamodules.common.base import Split
from datamodules.common.theorem_rows import Trace, whole_script
from datamodules.common.theorems import TheoremDataModule, TracedTheorem
from datamodules.common.wrapped import WrappedProblems
from lightning_gfn.lean_types import Episode
from lightning_gfn.prompts.lean_feedback import LeanWords
from lightning_gfn.prompts.math_feedback import DEFAULT_TEMPLATE, check_template, with_feedback
from lightning_gfn.types import Problem


class LeanFeedbackTactics(WrappedProblems):
    """The traced tactics of theorems, and for a share of their proofs twins whose prompts hold feedback.

    The feedback is what ``LeanFeedback`` says of an attempt at the theorem that is made up from its known proofs: the
    proof itself, its beginning, or its beginning and then a tactic of another theorem that is said to have failed. No
    Lean runs, so that Lean's message on the failure is left out. Where feedback shows a proof it is the one whose
    tactics are the targets. Use the strength, the length and the template of the later distillation; validation and
    test stay.

    Args:
        problems: theorems; those of its training split are read tactic by tactic.
        strength: of the feedback, in [0, 1], as in ``LeanFeedback``.
        max_chars: of a state in the feedback; the rest is cut.
        template: the prompt with feedback; must hold ``{prompt}`` and ``{feedback}``.
        share: share of the known proofs that get twins.
        feedback_seed: key of the draws.
        settings: further arguments of ``WrappedProblems``.

    Raises:
        ValueError: the share, the strength, the length or the template makes no sense.

    Source: Feedback Distillation, arXiv:2605.30861, whose models can read feedback from the start.
    """

    def __init__(
        self,
        problems: TheoremDataModule,
        *,
        strength: float = 0.5,
        max_chars: int = 300,
        template: str = DEFAULT_TEMPLATE,
        share: float = 0.5,
        feedback_seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(problems, **settings)
        check_template(template)
        if not 0.0 < share <= 1.0:
            raise ValueError(f"data.share is {share}, expected 0 < share <= 1")
        self.theorems = problems
        self.words, self.template, self.share = LeanWords(strength, max_chars), template, share
        self.feedback_seed = feedback_seed

    def load_split(self, split: Split) -> list[Problem]:
        """The theorems; in training all their tactics, and the twins behind them."""
        if split != "train":
            return super().load_split(split)
        found = self.theorems.theorems(split)
        strangers = [step.tactic for traced in found for trace in traced.traces for step in trace]
        plain = [problem for traced in found for problem in self.theorems.tactic_problems(traced)]
        return [*plain, *(twin for traced in found for twin in self.twins(traced, strangers))]

    def twins(self, traced: TracedTheorem, strangers: list[str]) -> Iterator[Problem]:
        """The tactics of a theorem's whole proofs, with feedback in their prompts."""
        for number, trace in enumerate(traced.traces):
            random = Random(f"{self.feedback_seed}/{traced.id}/{number}")
            script = whole_script(trace)
            if script is None or random.random() >= self.share:
                continue
            text = self.words(replace(traced.theorem, proofs=(script,)), attempt(trace, strangers, random))
            for problem in self.theorems.tactic_problems(replace(traced, traces=(trace,))):
                prompt = with_feedback(self.template, problem.prompt, text)
                yield replace(problem, id=f"{problem.id}/{number}/feedback", prompt=prompt)


def attempt(trace: Trace, strangers: list[str], random: Random) -> Episode:
    """A made-up attempt: a known proof, the beginning of one, or such a beginning and a tactic that fails.

    Args:
        trace: of a whole proof.
        strangers: tactics to fail with.
        random: draws the outcome, the length and the tactic.
    """
    states, tactics = tuple(step.state_before for step in trace), tuple(step.tactic for step in trace)
    outcome = random.choice(("proved", "unfinished", "error"))
    if outcome == "proved":
        return Episode(states, tactics, "proved")
    kept = random.randrange(len(trace))
    if outcome == "unfinished":
        return Episode(states[:kept], tactics[:kept], "unfinished", final_state=states[kept])
    wrong = (*tactics[:kept], random.choice(strangers))
    return Episode(states[: kept + 1], wrong, "error", error_kind="tactic")
