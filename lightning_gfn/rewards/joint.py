"""The joint likelihood of a latent completion and the text that follows it: its posterior is what balance samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from lightning_gfn.interfaces import Policy, Reward, TextLikelihood
from lightning_gfn.rewards.terms import log_reward_of_term, pad_prefix_values, require_single_step
from lightning_gfn.types import LogReward, Problem, Rollouts

if TYPE_CHECKING:
    from torch import Tensor

TERM = "log_joint"


class JointText(NamedTuple):
    """What is scored.

    Args:
        problem: index of its problem.
        action: tokens of a completion or prefix.
        evidence: tokens of what follows it.
        given: places in the action of tokens that are read but not counted.
    """

    problem: int
    action: tuple[int, ...]
    evidence: tuple[int, ...]
    given: tuple[int, ...] = ()


class JointLikelihood(Reward):
    """Log-likelihood, under the language model as this stage began, of a completion and of what follows it.

        log R(z_1:i) = Σ_{t ≤ i} log p(z_t | x, z_<t) + Σ_s log p(y_s | x, z_1:i, y_<s)        (nats)

    x is the problem's ``prior_prompt``, or where it has none the prompt, and y its ``evidence``. Balanced, a policy
    samples the posterior p(z | x, y) over the completions that it can produce; with temperature T in a ``SumReward``,
    a distribution proportional to p(z, y | x)^(1/T). All tokens count, also those that are no actions of the policy,
    and no stop: what ends z is the beginning of y. Each different text is scored once, and the prompt once for all
    prefixes.

    What tools wrote into z is read, but by default not counted: it follows from the state, so that p(z | x) is the
    probability of what a model with the same tools chooses. Counted, z with results that the model would have guessed
    are preferred to others. From a call to the end of its result all prefixes are one state and have one value.

    Args:
        count_inserted: let p(z | x) count the tokens that tools wrote as well.

    Source: Hu et al. 2024, arXiv:2310.04363, section 3 (infilling, reasoning).
    """

    is_constant = True
    is_log_weight = True
    provides = frozenset({"log_reward_B", "log_reward_BT1"})
    needs_reference = True

    def __init__(self, count_inserted: bool = False) -> None:
        self.count_inserted = count_inserted

    def terms(self, rollouts: Rollouts, policy: Policy, *, prefixes: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """Score completions, or all of their prefixes, with the evidence behind them.

        Args:
            rollouts: B trajectories of one step.
            policy: holds the frozen reference.
            prefixes: ask for (B, T + 1) instead of (B,).

        Returns:
            ``{"log_joint": …}`` in nats, and None, since no answers are checked.

        Raises:
            TypeError: the policy is no language model.
            ValueError: a problem has no evidence, or a trajectory several steps.
        """
        if not isinstance(policy, TextLikelihood):
            raise TypeError(f"{type(self).__name__} needs a language model, {type(policy).__name__} scores no texts")
        require_single_step(rollouts, type(self).__name__)
        evidence = {problem.id: policy.encode_completion(self.evidence(problem)) for problem in rollouts.problems}
        rows: list[list[JointText]] = []
        columns = (rollouts.problem_index_B.tolist(), rollouts.action_lists(), rollouts.inserted_lists())
        for p, ids, places in zip(*columns, strict=True):
            behind, given = tuple(evidence[rollouts.problems[p].id]), () if self.count_inserted else places
            ends = state_ends(len(ids), places) if prefixes else [len(ids)]
            rows.append([JointText(p, tuple(ids[:end]), behind, tuple(t for t in given if t < end)) for end in ends])
        distinct = list(dict.fromkeys(text for row in rows for text in row))
        values = dict(zip(distinct, self.log_joint(policy, rollouts, distinct), strict=True))
        device = rollouts.action_mask_NT.device
        if prefixes:
            return {TERM: pad_prefix_values([[values[text] for text in row] for row in rows], rollouts)}, None
        return {TERM: torch.tensor([values[text] for (text,) in rows], dtype=torch.float32, device=device)}, None

    def evidence(self, problem: Problem) -> str:
        """What is taken to follow the completion; the problem's own evidence."""
        return evidence_of(problem)

    def log_joint(self, policy: TextLikelihood, rollouts: Rollouts, texts: Sequence[JointText]) -> list[float]:
        """log p(z, y | x) of each text."""
        contexts: dict[int, list[int]] = {}
        index, masks = rollouts.problem_index_B.tolist(), rollouts.context_mask_NC
        for b, p in enumerate(index):
            if p not in contexts:
                own = rollouts.problems[p].prior_prompt
                given = rollouts.context_ids_NC[b][masks[b]].tolist()
                contexts[p] = given if own is None else policy.encode_context(own)
        found: list[float] = policy.text_log_probs(
            [contexts[text.problem] for text in texts],
            [text.action + text.evidence for text in texts],
            reference=True,
            given=[text.given for text in texts] if any(text.given for text in texts) else None,
        ).tolist()
        return found

    def try_on(self, problem: Problem) -> None:
        """Refuse data without evidence before a model is loaded."""
        self.evidence(problem)

    def combine(self, terms: Mapping[str, Tensor], rollouts: Rollouts, optimizer_step: int) -> LogReward:
        """``log_joint`` itself (weight 1, temperature 1)."""
        return log_reward_of_term(terms, TERM, rollouts)


def state_ends(length: int, inserted: Sequence[int]) -> list[int]:
    """Where the state of each prefix ends: behind the result of a tool, if the prefix ends before or within one.

    Args:
        length: T tokens.
        inserted: places of those that tools wrote.

    Returns:
        T + 1 lengths.
    """
    ends = list(range(length + 1))
    for place in sorted(inserted, reverse=True):
        ends[place] = ends[place + 1]
    return ends


def evidence_of(problem: Problem) -> str:
    """What follows the completion of a problem.

    Raises:
        ValueError: nothing is known to.
    """
    if not problem.evidence:
        raise ValueError(
            f"problem {problem.id!r} has no evidence, the text behind the completion that JointLikelihood scores: use "
            "data that give one, or ReferenceLikelihood"
        )
    return problem.evidence
