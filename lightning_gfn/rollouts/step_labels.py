"""Labels of the steps of sampled solutions: exact ones, and by completing from each step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import torch

from lightning_gfn.answers import are_equivalent, extract_answer, is_equivalent
from lightning_gfn.answers.equations import first_wrong_equation, side_value
from lightning_gfn.answers.steps import split_steps
from lightning_gfn.interfaces import Policy
from lightning_gfn.rollouts.keyed_random import keyed_uniforms
from lightning_gfn.types import Problem


@dataclass(frozen=True)
class SteppedSolution:
    """A solution in steps, to be labelled.

    Args:
        problem: what it attempts.
        key: tells the attempt from others at the same problem; random numbers depend on it.
        steps: its steps; joined they are the completion.
    """

    problem: Problem
    key: str
    steps: tuple[str, ...]

    def prefixes(self) -> list[str]:
        """The text up to the end of each step."""
        return list(accumulate(self.steps))


@dataclass(frozen=True)
class StepLabels:
    """Labels of attempts and what they cost.

    Args:
        shares: for each attempt a value from 0 to 1 at each step; what is certain is 0 or 1.
        generated_tokens: tokens sampled for them.
        reward_calls: completions whose answer was checked for them.
    """

    shares: list[list[float]]
    generated_tokens: int = 0
    reward_calls: int = 0


class StepLabeller(ABC):
    """Says of each step of a solution how likely the solution is good up to its end."""

    @abstractmethod
    def __call__(self, attempts: Sequence[SteppedSolution], policy: Policy) -> StepLabels:
        """Labels of all steps of all attempts."""


@dataclass(frozen=True)
class ExactSolutions(StepLabeller):
    """A step is good if the text up to its end begins a correct solution; the last one if the text is one.

        label_k = 1[some text of Problem.solution_set begins with steps 1..k],   label_K = 1[steps 1..K in solution_set]

    A right answer by a way that the set does not hold counts as bad.
    """

    def __call__(self, attempts: Sequence[SteppedSolution], policy: Policy) -> StepLabels:
        """Labels of 0 and 1.

        Raises:
            ValueError: a problem has no known solution set.
        """
        return StepLabels([self.labels(attempt) for attempt in attempts])

    def labels(self, attempt: SteppedSolution) -> list[float]:
        """Labels of one attempt.

        Raises:
            ValueError: the problem has no known solution set.
        """
        known = attempt.problem.solution_set
        if known is None:
            raise ValueError(
                f"problem {attempt.problem.id!r} has no known solution set: exact labels need data that enumerate it "
                "(datamodules.synthetic); label by completion instead"
            )
        *inner, whole = attempt.prefixes()
        begins = [float(any(text.startswith(prefix) for text in known)) for prefix in inner]
        return [*begins, float(whole in known)]


@dataclass(frozen=True)
class ExactArithmetic(StepLabeller):
    """A step is good if no equation up to its end is false, and no final answer is wrong; the last one must answer.

    The letter x stands for the reference answer; ``answers.equations.states`` says when an equation is true. Softer
    than ``ExactSolutions``: text without equations is believed, and any way of solving counts.
    """

    def __call__(self, attempts: Sequence[SteppedSolution], policy: Policy) -> StepLabels:
        """Labels of 0 and 1."""
        return StepLabels([self.labels(attempt) for attempt in attempts])

    def labels(self, attempt: SteppedSolution) -> list[float]:
        """Labels of one attempt."""
        problem = attempt.problem
        unknown: Fraction | None = side_value(problem.answer, None) if problem.answer is not None else None
        *inner, whole = attempt.prefixes()
        labels = [float(self.holds(prefix, problem, unknown)) for prefix in inner]
        answer = extract_answer(whole, problem.answer_style)
        return [*labels, float(self.holds(whole, problem, unknown) and is_equivalent(answer, problem.answer))]

    def holds(self, text: str, problem: Problem, unknown: Fraction | None) -> bool:
        """Nothing in the text can be seen to be wrong."""
        if first_wrong_equation(text, unknown) is not None:
            return False
        answer = extract_answer(text, problem.answer_style)
        return answer is None or is_equivalent(answer, problem.answer)


@dataclass(frozen=True)
class Completions(StepLabeller):
    """The share of completions from the end of a step that reach the right answer; at the last step the verdict.

        soft_k = (1 / n) Σ_j 1[answer of completion j from steps 1..k is right],     hard_k = 1[soft_k > 0]

    The policy completes within its own maximum length, what the steps have used taken off.

    Args:
        num_completions: n.
        temperature: of sampling.
        seed: key of the uniforms.
        max_rows: completions decoded at once.

    Source: Wang et al. 2023, arXiv:2312.08935, section 3.3 (hard and soft estimation).
    """

    num_completions: int = 8
    temperature: float = 1.0
    seed: int = 0
    max_rows: int = 512

    def __post_init__(self) -> None:
        for name, value in (
            ("num_completions", self.num_completions), ("temperature", self.temperature), ("max_rows", self.max_rows)
        ):  # fmt: skip
            if value <= 0:
                raise ValueError(f"Completions: {name}={value} must be above 0")

    def __call__(self, attempts: Sequence[SteppedSolution], policy: Policy) -> StepLabels:
        """Soft labels.

        Raises:
            ValueError: the policy has tools.
        """
        if policy.uses_tools:
            raise ValueError("Completions: a tool would not see the steps before it: leave policy.tools out")
        wins = [[0] * len(attempt.steps) for attempt in attempts]
        prefixes = [attempt.prefixes() for attempt in attempts]
        by_length: dict[int, list[tuple[int, int, list[int]]]] = {}
        for a, attempt in enumerate(attempts):
            prompt = policy.encode_prompt(attempt.problem.prompt)
            for k, prefix in enumerate(prefixes[a][:-1]):
                ids = policy.encode_completion(prefix)
                by_length.setdefault(len(ids), []).append((a, k, prompt + ids))
        tokens = calls = 0
        for length, group in sorted(by_length.items()):
            rows = [(a, k, context, j) for a, k, context in group for j in range(self.num_completions)]
            for start in range(0, len(rows), self.max_rows):
                chunk = rows[start : start + self.max_rows]
                actions = self.complete(chunk, attempts, policy, policy.max_new_tokens - length)
                texts = [
                    prefixes[a][k] + policy.decode(action) for (a, k, _, _), action in zip(chunk, actions, strict=True)
                ]
                right = are_right([(attempts[a].problem, text) for (a, *_), text in zip(chunk, texts, strict=True)])
                for (a, k, _, _), won in zip(chunk, right, strict=True):
                    wins[a][k] += won
                tokens += sum(map(len, actions))
                calls += len(chunk)
        shares = [[won / self.num_completions for won in row] for row in wins]
        verdicts = are_right([(attempt.problem, "".join(attempt.steps)) for attempt in attempts])
        ended = [[*share[:-1], float(right)] for share, right in zip(shares, verdicts, strict=True)]
        return StepLabels(ended, tokens, calls + len(attempts))

    def complete(
        self,
        rows: Sequence[tuple[int, int, list[int], int]],
        attempts: Sequence[SteppedSolution],
        policy: Policy,
        most: int,
    ) -> list[list[int]]:
        """Actions of at most ``most`` tokens that follow the contexts.

        Args:
            rows: attempt, step, context and number of the completion.
            attempts: what the first entry of a row counts in.
            policy: continues the contexts.
            most: longest action, tokens.
        """
        if most < 1:
            return [[] for _ in rows]
        uniforms = keyed_uniforms(
            "step_labels",
            seed=self.seed,
            rollout_step=0,
            problem_ids=[f"{attempts[a].problem.id}/{attempts[a].key}/{k}" for a, k, _, _ in rows],
            samples=[j for _, _, _, j in rows],
            length=most + 1,
        )
        temperatures = torch.full((len(rows),), self.temperature) if self.temperature != 1.0 else None
        with policy.shortened(most):
            contexts = [context for _, _, context, _ in rows]
            sampled = policy.sample(contexts, torch.from_numpy(uniforms), temperature_N=temperatures)
        lengths = sampled.action_mask_NT.sum(1).tolist()
        return [row[:length] for row, length in zip(sampled.action_ids_NT.tolist(), lengths, strict=True)]


def are_right(attempts: Sequence[tuple[Problem, str]]) -> list[bool]:
    """Whether the final answer of each completion is its problem's."""
    return are_equivalent([(extract_answer(text, problem.answer_style), problem.answer) for problem, text in attempts])


def attempt_of(problem: Problem, key: str, completion: str, separator: str) -> SteppedSolution | None:
    """A completion in steps; None if it has no visible text.

    Args:
        problem: what it attempts.
        key: names it among the problem's attempts; random numbers are keyed by it.
        completion: its text.
        separator: what ends a step.
    """
    steps = split_steps(completion, separator)
    return SteppedSolution(problem, key, tuple(steps)) if steps else None
