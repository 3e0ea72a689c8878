"""Samples for validation, test and prediction, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_gfn.answers import are_equivalent, extract_answer
from lightning_gfn.interfaces import Policy
from lightning_gfn.padding import pad_contexts
from lightning_gfn.rollouts.keyed_random import keyed_uniforms
from lightning_gfn.types import EvalRecord, Problem, SampledActions, StepBatch


@torch.no_grad()
def sample_completions(
    policy: Policy,
    problems: Sequence[Problem],
    *,
    num_samples: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    max_rows: int = 512,
    entropy: bool = True,
) -> list[EvalRecord]:
    """Draw completions for each problem and check their answers.

    Samples are keyed by (seed, problem id, sample, position): they depend neither on ``max_rows`` nor on the other
    problems, and every method and temperature sees the same uniforms.

    Args:
        policy: samples and scores.
        problems: P problems.
        num_samples: completions of each.
        temperature: of sampling, above 0.
        top_k: keep the k most likely actions; None keeps all.
        top_p: keep the smallest set of actions with this probability; None keeps all.
        seed: key of the uniforms.
        max_rows: completions decoded at once.
        entropy: report entropies; if the policy does not give them while sampling, one scoring pass is added. Without,
            they are NaN.

    Returns:
        One record a problem, in order. Where a problem has a target distribution and no answer, completions with mass
        are right. ``log_probs`` are at temperature 1; an entropy is the mean over the completion's
        actions, its stop included unless the maximum length forced it.

    Raises:
        ValueError: if ``num_samples``, ``temperature`` or ``max_rows`` is out of range.
    """
    for name, value in (("num_samples", num_samples), ("temperature", temperature), ("max_rows", max_rows)):
        if value <= 0:
            raise ValueError(f"sample_completions: {name}={value} must be above 0")
    prompts = [policy.encode_prompt(problem.prompt) for problem in problems]
    rows = [(p, sample) for p in range(len(problems)) for sample in range(num_samples)]
    drawn: list[list[Completion]] = [[] for _ in problems]
    for start in range(0, len(rows), max_rows):
        chunk = rows[start : start + max_rows]
        uniforms = keyed_uniforms(
            "evaluation",
            seed=seed,
            rollout_step=0,
            problem_ids=[problems[p].id for p, _ in chunk],
            samples=[sample for _, sample in chunk],
            length=policy.max_new_tokens + 1,
        )
        contexts = [prompts[p] for p, _ in chunk]
        sampled = policy.sample(
            contexts,
            torch.from_numpy(uniforms),
            temperature_N=torch.full((len(chunk),), temperature) if temperature != 1.0 else None,
            top_k=top_k,
            top_p=top_p,
            entropy=entropy,
        )
        for (p, _), completion in zip(chunk, described(policy, contexts, sampled, entropy=entropy), strict=True):
            drawn[p].append(completion)
    return judged_records(problems, temperature, drawn, is_drawn=top_k is None and top_p is None)


def judged_records(
    problems: Sequence[Problem], temperature: float, drawn: Sequence[Sequence[Completion]], *, is_drawn: bool
) -> list[EvalRecord]:
    """The records of completions, their answers checked.

    Args:
        problems: P problems.
        temperature: at which they were sampled.
        drawn: the completions of each.
        is_drawn: they are independent draws of the policy at this temperature.
    """
    pairs = [
        (extract_answer(completion.text, problem.answer_style), problem.answer)
        for problem, found in zip(problems, drawn, strict=True)
        for completion in found
    ]
    verdicts = iter(are_equivalent(pairs))
    return [
        _record(
            problem,
            temperature,
            found,
            [_is_right(problem, completion, next(verdicts)) for completion in found],
            is_drawn=is_drawn,
        )
        for problem, found in zip(problems, drawn, strict=True)
    ]


@dataclass(frozen=True)
class Completion:
    """One sampled action.

    Args:
        text: its text.
        action: its tokens.
        log_prob: log q(action, stop | context) at temperature 1, nats.
        entropy: mean over its actions, the stop included unless it was forced, nats; NaN if it was not asked for.
        forced: the maximum length ended it.
        inserted: places in the action of tokens that a tool wrote.
        marked: the text with what a tool wrote between ⟦ and ⟧; empty where the policy has no tools.
    """

    text: str
    action: tuple[int, ...]
    log_prob: float
    entropy: float
    forced: bool
    inserted: tuple[int, ...] = ()
    marked: str = ""


def described(
    policy: Policy, contexts: Sequence[Sequence[int]], sampled: SampledActions, *, entropy: bool
) -> list[Completion]:
    """What is known of sampled actions.

    Args:
        policy: decodes, and scores where sampling gave no entropies.
        contexts: what the policy saw.
        sampled: one action a context.
        entropy: report entropies.
    """
    mask = sampled.action_mask_NT
    length_N = mask.sum(1)
    forced_N = length_N >= policy.max_new_tokens
    log_prob_N = sampled.scores.log_prob_N(mask)
    entropy_N = (
        _mean_entropy(policy, contexts, sampled, forced_N) if entropy else torch.full_like(log_prob_N, torch.nan)
    )
    ids = sampled.action_ids_NT.tolist()
    actions = [tuple(row[:length]) for row, length in zip(ids, length_N.tolist(), strict=True)]
    masks = sampled.inserted_NT.tolist() if sampled.inserted_NT is not None else [[]] * len(ids)
    inserted = [tuple(t for t, is_inserted in enumerate(row) if is_inserted) for row in masks]
    marks = [policy.marked(*pair) if policy.uses_tools else "" for pair in zip(actions, inserted, strict=True)]
    columns = zip(actions, log_prob_N.tolist(), entropy_N.tolist(), forced_N.tolist(), inserted, marks, strict=True)
    return [Completion(policy.decode(action), action, *column) for action, *column in columns]


def _mean_entropy(
    policy: Policy, contexts: Sequence[Sequence[int]], sampled: SampledActions, forced_N: Tensor
) -> Tensor:
    entropy_NT1 = sampled.scores.entropy_NT1
    mask = sampled.action_mask_NT
    if entropy_NT1 is None:
        ids = torch.where(mask, sampled.action_ids_NT, 0)
        steps = StepBatch(*pad_contexts(contexts, mask.device), ids, mask, sampled.inserted_NT)
        entropy_NT1 = policy.score(steps, stop=True, entropy=True).entropy_NT1
    assert entropy_NT1 is not None, "Policy.score(entropy=True) returned no entropies"
    own = mask if sampled.inserted_NT is None else mask & ~sampled.inserted_NT
    chosen_NT1 = torch.nn.functional.pad(own, (0, 1)).scatter(1, mask.sum(1, keepdim=True), ~forced_N[:, None])
    return torch.where(chosen_NT1, entropy_NT1, 0.0).sum(1) / chosen_NT1.sum(1).clamp_min(1)


def _is_right(problem: Problem, completion: Completion, verdict: bool) -> bool:
    """The verdict on the answer; where there is none to check but a target, whether that gives the completion mass."""
    return completion.text in problem.target if problem.answer is None and problem.target is not None else verdict


def _record(
    problem: Problem, temperature: float, found: Sequence[Completion], correct: Sequence[bool], *, is_drawn: bool
) -> EvalRecord:
    return EvalRecord(
        problem=problem,
        temperature=temperature,
        completions=tuple(completion.text for completion in found),
        correct=tuple(correct),
        log_probs=tuple(completion.log_prob for completion in found),
        lengths=tuple(len(completion.action) - len(completion.inserted) for completion in found),
        entropies=tuple(completion.entropy for completion in found),
        truncated=tuple(completion.forced for completion in found),
        actions=tuple(completion.action for completion in found),
        inserted=tuple(completion.inserted for completion in found),
        marked=tuple(completion.marked for completion in found) if any(one.marked for one in found) else (),
        is_drawn=is_drawn,
    )
