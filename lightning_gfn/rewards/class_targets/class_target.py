"""A target over classes of solutions: how often each way of solving is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning_gfn.interfaces import Policy, Reward
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.class_targets.probabilities import (
    NO_CLASS,
    ClassProbabilities,
    Observation,
    RunningProbabilities,
)
from lightning_gfn.rewards.class_targets.right_texts import judged
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rewards.schedules import Schedule, as_schedule
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.solution_classes.known_paths import KnownPaths
from lightning_gfn.types import LogReward, Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

RIGHT, LOG_P_REF = "correct", "log_p_ref"


class ClassTarget(Reward):
    """Asks for right completions, and among them for classes in a tempered share of the reference's own.

        log R(z) = β · right(z) + log p_ref(z) / T - α · right(z) · log max(P̂_ref(κ(z) | x), ε)        (nats)

    κ maps a right completion to its class, the way of solving. Balanced at T = 1, a class κ has probability in
    proportion to P_ref(κ | x)^(1 - α), and inside each class completions keep the reference's proportions: α = 0 is the
    target p_ref(z) · exp(β · right(z)), α = 1 asks for every class alike, and between them lies a tempered distribution
    over classes. ε keeps classes of vanishing probability, mostly accidents, from counting as much as ways of solving.
    A right completion that belongs to no class is worth what it is at α = 0. Prefixes are judged as completions.

    Args:
        classes: what the classes are; they must depend on one completion alone.
        probabilities: where P̂_ref comes from: known solutions (``KnownProbabilities``), samples drawn beforehand
            (``CountedProbabilities``) or the trajectories of this run (``RunningProbabilities``).
        beta: β, nats for a right completion: a number or a schedule.
        alpha: α, 0 to 1 and beyond: a number or a schedule.
        temperature: T, above 0: a number or a schedule.
        epsilon: ε, the least probability that a class counts as having, in (0, 1].
        success: says which completions are right by a term of zeros and ones: ``AnswerMatch`` or ``ProofSuccess``.

    Raises:
        ValueError: a number is out of range, or classes are clusters.
    """

    needs_reference = True

    def __init__(
        self,
        classes: SolutionClasses | None = None,
        probabilities: ClassProbabilities | None = None,
        *,
        beta: Schedule | float = 5.0,
        alpha: Schedule | float = 1.0,
        temperature: Schedule | float = 1.0,
        epsilon: float = 1e-3,
        success: Reward | None = None,
    ) -> None:
        if not 0.0 < epsilon <= 1.0:
            raise ValueError(f"reward.epsilon is {epsilon}, expected a probability above 0 and at most 1")
        self.classes = classes if classes is not None else KnownPaths()
        self.classes.require_pointwise("ClassTarget")
        self.probabilities = probabilities if probabilities is not None else RunningProbabilities()
        self.beta, self.alpha, self.temperature = as_schedule(beta), as_schedule(alpha), as_schedule(temperature)
        self.log_floor = math.log(epsilon)
        self.success = success if success is not None else AnswerMatch()
        self.likelihood = ReferenceLikelihood()
        self.provides = frozenset(self.success.provides)
        self.learns = self.probabilities.learns
        self.factors(0)

    def factors(self, optimizer_step: int) -> tuple[float, float, float]:
        """α, β and 1 / T at an optimiser step.

        Raises:
            ValueError: the temperature is not positive at this step.
        """
        temperature = self.temperature(optimizer_step)
        if temperature <= 0.0:
            raise ValueError(
                f"reward.temperature is {temperature} at optimiser step {optimizer_step}: it must be above 0"
            )
        return self.alpha(optimizer_step), self.beta(optimizer_step), 1.0 / temperature

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Judge, score under the reference and tell the classes of what is right.

        Args:
            rollouts: B trajectories.
            policy: holds the frozen reference.
            prefixes: ask for (B, T + 1) instead of (B,).

        Returns:
            ``correct``, ``log_p_ref`` and the term of ``probabilities``; the verdicts.
        """
        likelihood, _ = self.likelihood.terms(rollouts, policy, prefixes=prefixes)
        found = judged(rollouts, policy, self.success, self.classes, prefixes=prefixes)
        problems = [problem for problem, texts in zip(rollouts.problems, found.labels, strict=True) if texts]
        self.probabilities.prepare(problems, policy, self.classes, rollouts.action_mask_NT.device)
        classes = found.spread(self.probabilities.values, rollouts)
        return {RIGHT: found.right, LOG_P_REF: likelihood[LOG_P_REF], self.probabilities.term: classes}, found.correct_B

    def try_on(self, problem: Problem) -> None:
        """Ask classes and probabilities about one problem before a model is loaded."""
        self.success.try_on(problem)
        self.classes.labels(problem, problem.solutions[:1])
        self.probabilities.try_on(problem)

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """The tempered sum at an optimiser step, with the present estimate of the classes' probabilities.

        Raises:
            ValueError: a term is missing, as in a buffer that was filled under another reward.
        """
        missing = sorted({RIGHT, LOG_P_REF, self.probabilities.term} - set(terms))
        if missing:
            raise ValueError(
                f"the reward term '{missing[0]}' is missing, there is {sorted(terms)}: a replay buffer filled under "
                "another reward cannot be used; start with an empty one"
            )
        alpha, beta, inverse = self.factors(optimizer_step)
        right, log_p = terms[RIGHT], self.probabilities.log_probs(terms[self.probabilities.term], rollouts)
        values = beta * right + inverse * terms[LOG_P_REF] - alpha * right * log_p.clamp_min(self.log_floor)
        if values.dim() == 1:
            return LogReward(terminal_B=values)
        return LogReward(terminal_B=rollouts.at_last_prefix(values), prefix_BT1=values)

    def schedule_values(self, optimizer_step: int) -> tuple[float, ...]:
        """The factors, and how many trajectories the estimate has seen."""
        return (*self.factors(optimizer_step), self.probabilities.version())

    # ---------------------------------------------------------------- what it learns

    def observations(self, terms: Mapping[str, Tensor], rollouts: Rollouts) -> list[Any]:
        """The trajectories that the policy sampled: their class and weight, if an estimate wants them."""
        if not self.learns or rollouts.behaviour_log_pf_NT is None:
            return []
        log_q_B = sampled_log_prob(rollouts)
        keys, log_p_ref = (at_end(terms[name], rollouts) for name in (self.probabilities.term, LOG_P_REF))
        right = at_end(terms[RIGHT], rollouts) > 0.0
        rows = zip(rollouts.sources, keys.tolist(), (log_p_ref - log_q_B).tolist(), right.tolist(), strict=True)
        return [
            Observation(rollouts.problem_of(b).id, int(key) if is_right else NO_CLASS, log_weight)
            for b, (source, key, log_weight, is_right) in enumerate(rows)
            if source in ("on_policy", "tempered")
        ]

    def learn(self, observations: list[Any]) -> None:
        """Hand trajectories to the estimate."""
        self.probabilities.learn(observations)

    def state_dict(self) -> dict[str, Any]:
        """Of the estimate."""
        return self.probabilities.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        if state:
            self.probabilities.load_state_dict(state)


def at_end(values: Tensor, rollouts: Rollouts) -> Tensor:
    """A term of finished trajectories, (B,), whatever its shape."""
    return values if values.dim() == 1 else rollouts.at_last_prefix(values)


def sampled_log_prob(rollouts: Rollouts) -> Tensor:
    """log-probability of each trajectory, (B,), under the policy that sampled it, nats."""
    log_pf_NT, log_pstop_N = rollouts.behaviour_log_pf_NT, rollouts.behaviour_log_pstop_N
    assert log_pf_NT is not None and log_pstop_N is not None
    log_q_N = log_pf_NT.masked_fill(~rollouts.action_mask_NT, 0.0).sum(1) + log_pstop_N
    return log_q_N.new_zeros(rollouts.num_trajectories).index_add(0, rollouts.trajectory_index_N, log_q_N)
