"""A trained reward model as a reward: the scores of a solution's steps, put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from lightning_gfn.answers import extract_answer
from lightning_gfn.answers.steps import StepEnds, check_separator, split_steps
from lightning_gfn.interfaces import Policy, Reward, RewardNetwork
from lightning_gfn.rewards.terms import log_reward_of_term, pad_prefix_values, require_single_step
from lightning_gfn.types import LogReward, Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

TERM = "learned"
Aggregate = Literal["product", "min", "last", "mean"]


def log_sigmoid(score: float) -> float:
    """log σ(x) without overflow."""
    return -math.log1p(math.exp(-score)) if score >= 0 else score - math.log1p(math.exp(score))


def log_mean(log_values: Sequence[float]) -> float:
    """log of the mean of exp."""
    highest = max(log_values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in log_values) / len(log_values))


AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "product": math.fsum,
    "min": min,
    "last": lambda log_values: log_values[-1],
    "mean": log_mean,
}
"""log of the product, minimum, last or mean of probabilities, from their logs."""


class LearnedReward(Reward):
    """log R from a trained reward model, for finished trajectories and for the prefixes that end a step.

        log R(z_1:i, stop) = max(floor, log agg(p_1, …, p_k)),      p_j = σ(score of step j)        (nats)

    over the k steps of the prefix. ``agg`` is the product, the minimum, the last or the mean. A model trained on
    preferences has no probabilities: then log R is the score of the last step itself.

    Stopping is judged at the ends of steps alone: the prefixes whose last token ends a separator, and the finished
    trajectory (its last step may lack the separator). A prefix has the steps of its own text; if its last token goes on
    behind the separator, what it begins is the last one. Prefixes inside a step are worth the floor; objectives with
    ``level: step`` leave them out, and take the separator from here. Since a prefix is judged by what it says so far,
    not by whether it answers, combine this reward with ``ReferenceLikelihood``, or set ``require_answer``.

    Args:
        network: judges steps; ``lightning_gfn.policies.reward_models.trained.TrainedRewardNetwork`` takes the path of
            a run.
        aggregate: how scores of steps become one value.
        separator: what ends a step; None takes that of the data that the network was trained on, if it is known, else
            a line break.
        floor: least log reward, nats.
        empty: log reward of a text without any step, nats; None for the floor. Beside a likelihood 0 suits: no step is
            wrong, and the likelihood says how odd it is to stop there.
        require_answer: a text without a final answer is worth the floor.

    Raises:
        ValueError: the aggregate is unknown or does not suit the network, the floor is no finite number, or the network
            was trained on steps that end differently.

    Source: step-level modified SubTB on a process reward: Takase et al. 2024, arXiv:2410.20147; product and minimum:
    Lightman et al. 2023, arXiv:2305.20050, appendix F.
    """

    is_constant = True
    provides = frozenset({"log_reward_B", "log_reward_BT1"})

    def __init__(
        self,
        network: RewardNetwork,
        *,
        aggregate: Aggregate = "product",
        separator: str | None = None,
        floor: float = -10.0,
        empty: float | None = None,
        require_answer: bool = False,
    ) -> None:
        if aggregate not in AGGREGATES:
            raise ValueError(f"aggregate is {aggregate!r}, expected one of {', '.join(AGGREGATES)}")
        if not network.is_calibrated and aggregate != "last":
            raise ValueError(
                f"aggregate is {aggregate!r}, but the network was trained on preferences: its scores are no "
                "probabilities of steps; set aggregate: last"
            )
        for name, value in (("floor", floor), ("empty", empty if empty is not None else floor)):
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}, expected a finite number of nats such as -10")
        if separator is not None:
            check_separator(separator)
        if None not in (separator, network.separator) and separator != network.separator:
            raise ValueError(
                f"reward.separator is {separator!r}, but the reward network was trained on steps that end in "
                f"{network.separator!r}: remove reward.separator, or train the network with that separator"
            )
        self.network = network
        self.aggregate: Aggregate = aggregate
        self.separator: str = separator or network.separator or "\n"
        self.floor = floor
        self.empty = empty if empty is not None else floor
        self.require_answer = require_answer
        self.step_ends: StepEnds | None = None

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Judge every trajectory once.

        Args:
            rollouts: B trajectories of one step each.
            policy: decodes prefixes.
            prefixes: ask for (B, T + 1) instead of (B,).

        Returns:
            ``{"learned": …}`` in nats, and None, since no answers are checked.

        Raises:
            ValueError: if trajectories have several model calls.
        """
        require_single_step(rollouts, type(self).__name__)
        device = rollouts.action_mask_NT.device
        problems = [rollouts.problems[p] for p in rollouts.problem_index_B.tolist()]
        actions = rollouts.action_lists()
        cuts = [self.cut(action, policy) for action in actions]
        texts = [[policy.decode(action[:end]) for end in ends] for action, ends in zip(actions, cuts, strict=True)]
        scores = self.judge(texts, [problem.prompt for problem in problems], device)
        rows = [
            [self.value(own, text, problem) for own, text in zip(row, ended, strict=True)]
            for row, ended, problem in zip(scores, texts, problems, strict=True)
        ]
        if not prefixes:
            return {TERM: torch.tensor([row[-1] for row in rows], dtype=torch.float32, device=device)}, None
        spread = [
            self.spread(row, ends, len(action), problem)
            for row, ends, action, problem in zip(rows, cuts, actions, problems, strict=True)
        ]
        return {TERM: pad_prefix_values(spread, rollouts)}, None

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The term itself (weight 1, temperature 1)."""
        return log_reward_of_term(terms, TERM, rollouts)

    def cut(self, action: Sequence[int], policy: Policy) -> list[int]:
        """Lengths of the prefixes that end a step, the whole action last."""
        if self.step_ends is None or self.step_ends.decode != policy.decode:
            self.step_ends = StepEnds(policy.decode, self.separator)
        return [*(end for end in self.step_ends(action) if end < len(action)), len(action)]

    def judge(self, texts: Sequence[Sequence[str]], prompts: Sequence[str], device: Any) -> list[list[list[float]]]:
        """Scores of the steps of each prefix of each solution; the network is asked once, with every step once.

        Args:
            texts: of each solution those of its prefixes that end a step, the whole one last.
            prompts: what is attempted.
            device: where the network works.
        """
        steps = [[split_steps(text, self.separator, blank_joins="next") for text in own] for own in texts]
        wholes = [own[-1] for own in steps]
        alone = [(b, k) for b, own in enumerate(steps) for k, part in enumerate(own) if part != own[-1][: len(part)]]
        asked = [*wholes, *(steps[b][k] for b, k in alone)]
        scores = self.network.score_steps([*prompts, *(prompts[b] for b, _ in alone)], asked, device)
        own_scores = dict(zip(alone, scores[len(wholes) :], strict=True))
        return [
            [own_scores.get((b, k), scores[b][: len(part)]) for k, part in enumerate(own)]
            for b, own in enumerate(steps)
        ]

    def value(self, scores: Sequence[float], text: str, problem: Problem) -> float:
        """log R of a text whose steps have these scores."""
        if self.require_answer and extract_answer(text, problem.answer_style) is None:
            return self.floor
        if not scores:
            return self.empty
        if not self.network.is_calibrated:
            return max(self.floor, scores[-1])
        return max(self.floor, AGGREGATES[self.aggregate]([log_sigmoid(score) for score in scores]))

    def spread(self, values: Sequence[float], ends: Sequence[int], length: int, problem: Problem) -> list[float]:
        """Values at the ends of steps and of the empty prefix, the floor at the other ``length + 1`` prefixes.

        Args:
            values: of the prefixes that end a step.
            ends: their lengths, tokens.
            length: of the action, tokens.
            problem: what is attempted.
        """
        row = [self.value((), "", problem)] + [self.floor] * length
        for end, value in zip(ends, values, strict=True):
            row[end] = value
        return row
