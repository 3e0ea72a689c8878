"""The nouns of the suite as plain data: problems, trajectories, rollouts, losses and evaluation records.

Shape suffixes, used in every file: ``_P`` problems, ``_B`` trajectories, ``_N`` steps (one model call each;
single-turn mathematics has one step a trajectory, so N = B), ``_C`` context tokens, ``_T`` action tokens,
``_T1`` the T + 1 prefixes of T action tokens, ``_V`` vocabulary, ``_H`` hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from lightning_gfn.contracts.steps import (
    CandidateScores as CandidateScores,
    SampledActions as SampledActions,
    Scores as Scores,
    StepBatch as StepBatch,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lightning_gfn.lean_types import Episode, Theorem

AnswerStyle = str
"""``gsm8k``, ``math``, ``metamath`` or ``last_number`` (``answers.extract_answer``), or a regular expression with a
group of which the last match is the answer, such as ``A: (.+)``."""
Source = Literal["on_policy", "tempered", "replay", "reference", "search"]


@dataclass(frozen=True)
class Problem:
    """One question whose answers can be checked.

    Args:
        id: stable and unique over all splits of a data set; random numbers are keyed by it.
        prompt: the text that the policy continues, prompt template applied.
        answer: the final reference answer (already extracted), or None if unknown.
        solutions: reference completions, each a text that follows ``prompt``; the first one is the SFT target.
        solution_set: every correct completion, mapped to the label of its solution path, where the data can enumerate
            them (coverage is reported then); None otherwise.
        target: log weight (nats, up to a common constant) of every completion that a target distribution gives mass,
            where the data can enumerate them; the distance from it is reported then. None otherwise.
        evidence: text that follows the completion, where the completion is latent: the posterior p(z | x, y) is asked
            for, x being the prompt and y this text, with the separator that stands before it. None otherwise.
        labels: where the problem is a classification, the text that states each label, by the label's name: with
            ``evidence``, the text of the right label, they follow the completion, a latent rationale; without it they
            are the possible completions. None for other problems.
        prior_prompt: text that the prior of a latent completion continues, where that is not ``prompt``: a policy that
            is to sample p(z | x, y) may be shown x and y in any form, while the prior p(z | x) p(y | x, z) reads x
            alone, as text that z continues. None where both read ``prompt``.
        answer_style: how a final answer is written in a completion: a named style or a pattern of one's own.
        metadata: further columns of the row (level, type, …); user reward functions receive them.
        theorem: what is to be proved, if the problem is a theorem; an attempt then has one step for each tactic, its
            completion is the script of tactics, and it is correct if it is a proof.
    """

    id: str
    prompt: str
    answer: str | None = None
    solutions: tuple[str, ...] = ()
    solution_set: Mapping[str, str] | None = None
    target: Mapping[str, float] | None = None
    evidence: str | None = None
    labels: Mapping[str, str] | None = None
    prior_prompt: str | None = None
    answer_style: AnswerStyle = "metamath"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    theorem: Theorem | None = None


CLASSIFIED = "classified"
"""Name in the metadata of a classification of the text that is classified."""


@dataclass(frozen=True)
class Step:
    """One model call: the tokens that it saw and the tokens that it produced.

    Args:
        context: token ids of the state, no padding.
        action: token ids of the action, without the end token and without padding.
        inserted: places in the action of tokens that a tool wrote; they are text, but nobody's choice.
    """

    context: tuple[int, ...]
    action: tuple[int, ...]
    inserted: tuple[int, ...] = ()


CORRECT = "correct_B"
"""Name under which a stored trajectory keeps the verdict on its answer, beside its reward terms."""


@dataclass(frozen=True)
class Trajectory:
    """One finished attempt at a problem, as a replay buffer keeps it.

    Args:
        problem_id: which problem it attempts.
        steps: its model calls in order.
        completion: the produced text.
        terms: untempered reward terms by name: one value, or one per prefix (number of action tokens + 1).
        log_reward: tempered log reward when it was added (nats).
        born: optimiser step at which it was sampled.
    """

    problem_id: str
    steps: tuple[Step, ...]
    completion: str
    terms: Mapping[str, tuple[float, ...]]
    log_reward: float
    born: int = 0


@dataclass
class Rollouts:
    """A padded batch of steps that belong to B trajectories of P problems.

    A step with n tokens stopped after the n-th one, by its own choice or (at the maximum length) by force.

    Args:
        problems: the P distinct problems.
        problem_index_B: int64, the problem of each trajectory; it is also the group of group-relative objectives.
        trajectory_index_N: int64, the trajectory of each step; steps of one trajectory stand in order.
        steps: contexts and actions of the N steps.
        completions: B texts.
        sources: B names, where each trajectory came from.
        behaviour_log_pf_NT: log-probability of each token under the policy that produced it, temperature and
            truncation included (nats); 0 where unknown (replay, reference); None if nothing was sampled.
        behaviour_log_pstop_N: the same of the stop of each step, 0 where it was forced or is unknown.
        terms: untempered reward terms by name, (B,) or (B, T + 1).
        correct_B: bool, the final answer is right; None if the reward does not check answers.
        episodes: what the proof environment said of each trajectory, None for replayed ones; None for other problems.
    """

    problems: tuple[Problem, ...]
    problem_index_B: Tensor
    trajectory_index_N: Tensor
    steps: StepBatch
    completions: tuple[str, ...]
    sources: tuple[Source, ...]
    behaviour_log_pf_NT: Tensor | None = None
    behaviour_log_pstop_N: Tensor | None = None
    terms: dict[str, Tensor] = field(default_factory=dict)
    correct_B: Tensor | None = None
    episodes: tuple[Episode | None, ...] | None = None

    @property
    def num_trajectories(self) -> int:
        """B."""
        return len(self.completions)

    @property
    def context_ids_NC(self) -> Tensor:
        """Of ``steps``."""
        return self.steps.context_ids_NC

    @property
    def context_mask_NC(self) -> Tensor:
        """Of ``steps``."""
        return self.steps.context_mask_NC

    @property
    def action_ids_NT(self) -> Tensor:
        """Of ``steps``."""
        return self.steps.action_ids_NT

    @property
    def action_mask_NT(self) -> Tensor:
        """Of ``steps``."""
        return self.steps.action_mask_NT

    def problem_of(self, trajectory: int) -> Problem:
        """The problem that the trajectory attempts."""
        return self.problems[int(self.problem_index_B[trajectory])]

    def action_lists(self) -> list[list[int]]:
        """The action tokens of each step without padding, in one transfer from the device."""
        lengths = self.steps.lengths_N.tolist()
        return [row[:length] for row, length in zip(self.action_ids_NT.tolist(), lengths, strict=True)]

    def inserted_lists(self) -> list[list[int]]:
        """Places in the action of each step of the tokens that a tool wrote."""
        mask_NT = self.steps.inserted_NT
        if mask_NT is None:
            return [[] for _ in range(self.steps.num_steps)]
        return [[t for t, is_inserted in enumerate(row) if is_inserted] for row in mask_NT.tolist()]

    def at_last_prefix(self, values_NT1: Tensor) -> Tensor:
        """Of values per prefix, (N, T + 1), those of the whole actions, (N,)."""
        return values_NT1.gather(1, self.action_mask_NT.sum(1, keepdim=True)).squeeze(1)

    def with_terms(self, terms: dict[str, Tensor], correct_B: Tensor | None) -> Rollouts:
        """A copy that carries these reward terms."""
        return replace(self, terms=terms, correct_B=correct_B)


@dataclass(frozen=True)
class Feedback:
    """What a teacher gets to read about some trajectories.

    Args:
        texts: one text a trajectory; None where there is no feedback.
        counts: what it cost and what failed, by name; ``generated_tokens`` are tokens that an own model wrote.
    """

    texts: tuple[str | None, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LogReward:
    """Tempered log rewards of B trajectories (nats).

    Args:
        terminal_B: log R of the finished trajectory.
        prefix_BT1: log R of stopping at each prefix; None if the reward gives no prefix values. Values beyond a
            trajectory's last prefix are arbitrary but finite.
    """

    terminal_B: Tensor
    prefix_BT1: Tensor | None = None


@dataclass(frozen=True)
class LossOutput:
    """A loss as a sum and the weight that normalises it, so that means over tokens or pairs stay exact across ranks.

        loss = sum / weight

    Args:
        sum: scalar tensor with gradient.
        weight: scalar tensor without gradient: the number of trajectories, tokens or (weighted) pairs in ``sum``.
        diagnostics: detached scalar tensors for the log.
    """

    sum: Tensor
    weight: Tensor
    diagnostics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Tensor:
        """``sum / weight``; a zero with a graph if nothing was weighted."""
        return self.sum / self.weight.clamp_min(1e-12)


@dataclass(frozen=True)
class Branch:
    """A greedy completion behind one of the most probable first tokens.

    Args:
        completion: its text.
        answer: the answer that it gives; None without one.
        correct: that answer is right.
        confidence: mean over the answer's tokens of p(most probable action) - p(second one); 0 without an answer.
    """

    completion: str
    answer: str | None
    correct: bool
    confidence: float


@dataclass(frozen=True)
class EvalRecord:
    """The samples drawn for one problem at one temperature in validation, test or prediction.

    Args:
        problem: the problem attempted.
        temperature: sampling temperature.
        completions: the sampled texts, in generation order.
        correct: one bool a completion.
        log_probs: log q(completion, stop | prompt) at temperature 1, nats.
        lengths: action tokens of each completion, without those that a tool wrote.
        entropies: mean entropy per action of each completion, nats.
        truncated: True where the maximum length forced the stop.
        reference_log_probs: log q(solution, stop | prompt) of each reference solution of the problem at temperature 1,
            nats; empty where references were not scored. They do not depend on the sampling temperature, so only the
            records of the first temperature carry them.
        reference_actions: actions of each of them: its tokens, and its stop unless the maximum length forces it.
        target_log_probs: log q(completion, stop | prompt) of each completion of the problem's target at temperature 1,
            nats; like references, only the records of the first temperature carry them.
        label_log_probs: log-probability of each label of the problem behind each rationale, from where the texts of
            the labels differ, nats; one row where there is no rationale. Empty where there are no labels.
        swapped_label_log_probs: the same with the rationales of another problem; empty if it was not asked for.
        episodes: the attempts tactic by tactic, where the problem is a theorem.
        branches: greedy completions by first token, most probable first, where they were asked for; only the records of
            the first temperature carry them.
        actions: tokens of each completion; empty for theorems.
        inserted: places in each of these of tokens that a tool wrote.
        marked: the completions with what a tool wrote between ⟦ and ⟧; empty where the policy has no tools.
        is_drawn: the completions are independent draws of the policy at this temperature; False where top-k or top-p
            cut its distribution or beams searched it.
        log_rewards: log R of each completion, tempered as at the end of the reward's schedules, nats; empty where the
            module has no reward that is a log weight.
        log_likelihoods: log p of each completion with its stop under the frozen reference, nats; empty where the reward
            has no such term.
    """

    problem: Problem
    temperature: float
    completions: tuple[str, ...]
    correct: tuple[bool, ...]
    log_probs: tuple[float, ...]
    lengths: tuple[int, ...]
    entropies: tuple[float, ...]
    truncated: tuple[bool, ...]
    reference_log_probs: tuple[float, ...] = ()
    reference_actions: tuple[int, ...] = ()
    target_log_probs: tuple[float, ...] = ()
    label_log_probs: tuple[tuple[float, ...], ...] = ()
    swapped_label_log_probs: tuple[tuple[float, ...], ...] = ()
    episodes: tuple[Episode, ...] = ()
    branches: tuple[Branch, ...] = ()
    actions: tuple[tuple[int, ...], ...] = ()
    inserted: tuple[tuple[int, ...], ...] = ()
    marked: tuple[str, ...] = ()
    is_drawn: bool = True
    log_rewards: tuple[float, ...] = ()
    log_likelihoods: tuple[float, ...] = ()

    @property
    def is_judged(self) -> bool:
        """False where completions have log rewards alone: no answer, target or theorem says which are right."""
        problem = self.problem
        known = problem.answer is not None or problem.target is not None or problem.theorem is not None
        return known or not self.log_rewards

    @property
    def shown(self) -> tuple[str, ...]:
        """The completions as people shall read them."""
        return self.marked if self.marked else self.completions
