"""Reference solutions as rollouts: what supervised fine-tuning trains on, and how likely a policy finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from lightning_gfn.interfaces import Policy
from lightning_gfn.padding import pad_steps
from lightning_gfn.rollouts.keyed_random import keyed_uniform
from lightning_gfn.types import EvalRecord, Problem, Rollouts, Source


def reference_rollouts(
    policy: Policy, problems: Sequence[Problem], *, seed: int, epoch: int, device: torch.device | str
) -> tuple[Rollouts, int]:
    """One reference solution of each problem, drawn by (seed, epoch, problem id).

    A solution longer than the policy's maximum is cut there: the policy would be forced to stop, so its first tokens
    are all that it can learn.

    Args:
        policy: encodes texts; its maximum length bounds the solutions.
        problems: P problems with reference solutions.
        seed: key of the draw.
        epoch: key of the draw.
        device: of the returned tensors.

    Returns:
        Rollouts of P trajectories, and how many solutions were cut.

    Raises:
        ValueError: a problem has no reference solution; names it.
    """
    texts = []
    for problem in problems:
        if not problem.solutions:
            raise ValueError(f"problem {problem.id!r} has no reference solution to train on")
        uniform = keyed_uniform("supervised", seed=seed, rollout_step=epoch, problem_id=problem.id)
        texts.append(problem.solutions[int(uniform * len(problem.solutions))])
    return text_rollouts(policy, problems, range(len(problems)), texts, device)


@torch.no_grad()
def with_reference_scores(
    policy: Policy, records: Sequence[EvalRecord], *, max_rows: int, device: torch.device | str
) -> list[EvalRecord]:
    """The records with the likelihood of every reference solution of their problem.

        log q(solution, stop | prompt) = Σ_t log q(z_t | z_<t) + log q(stop | z)        (nats)

    A solution longer than the policy's maximum is cut there, as in supervised fine-tuning, and its stop is no action.

    Args:
        policy: scores at temperature 1.
        records: of any problems; each problem is scored once, and its first record carries the result.
        max_rows: solutions scored at once.
        device: of the policy.

    Returns:
        The records in order; one whose problem has no reference solution or is a theorem stays as it is.
    """
    scored = list(records)
    for index, scores in _scored_texts(policy, records, lambda problem: problem.solutions, max_rows, device):
        log_probs, actions = zip(*scores, strict=True)
        scored[index] = replace(records[index], reference_log_probs=log_probs, reference_actions=actions)
    return scored


@torch.no_grad()
def with_target_scores(
    policy: Policy, records: Sequence[EvalRecord], *, max_rows: int, device: torch.device | str
) -> list[EvalRecord]:
    """The records with the probability of every completion that their problem's target gives mass.

    Args:
        policy: scores at temperature 1.
        records: of any problems; each problem is scored once, and its first record carries the result.
        max_rows: completions scored at once.
        device: of the policy.

    Returns:
        The records in order; one whose problem has no target stays as it is.

    Raises:
        ValueError: a completion of a target is no action of the policy; names the problem and the completion.
    """
    texts = {record.problem.id: record.problem for record in records if record.problem.target is not None}
    for problem in texts.values():
        check_target(policy, problem)
    scored = list(records)
    for index, scores in _scored_texts(policy, records, lambda problem: problem.target or (), max_rows, device):
        scored[index] = replace(records[index], target_log_probs=tuple(log_prob for log_prob, _ in scores))
    return scored


def check_target(policy: Policy, problem: Problem) -> None:
    """Refuse a target with completions that the policy cannot produce.

    Raises:
        ValueError: names the problem, the completion and what to change.
    """
    for text in problem.target or ():
        if not policy.can_produce(*policy.encode_action(text)):
            raise ValueError(
                f"problem {problem.id!r}: the policy cannot produce {text!r} of its target: look at "
                "policy.allowed_tokens, min_new_tokens and max_new_tokens"
            )


def _scored_texts(
    policy: Policy,
    records: Sequence[EvalRecord],
    texts_of: Callable[[Problem], Iterable[str]],
    max_rows: int,
    device: torch.device | str,
) -> Iterator[tuple[int, list[tuple[float, int]]]]:
    """Log-probability and number of actions of the texts of each problem, with the index of its first record."""
    first = {record.problem.id: index for index, record in reversed(list(enumerate(records)))}
    chosen = [index for index in sorted(first.values()) if records[index].problem.theorem is None]
    problems = [records[index].problem for index in chosen]
    rows = [(p, text) for p, problem in enumerate(problems) for text in texts_of(problem)]
    found: list[list[tuple[float, int]]] = [[] for _ in problems]
    for start in range(0, len(rows), max_rows):
        chunk = rows[start : start + max_rows]
        for (p, _), score in zip(chunk, _scores(policy, problems, chunk, device), strict=True):
            found[p].append(score)
    return ((index, scores) for index, scores in zip(chosen, found, strict=True) if scores)


def _scores(
    policy: Policy, problems: Sequence[Problem], rows: Sequence[tuple[int, str]], device: torch.device | str
) -> list[tuple[float, int]]:
    """Log-probability (nats) and number of actions of each text; a row is the index of a problem and a text."""
    rollouts, _ = text_rollouts(policy, problems, [p for p, _ in rows], [text for _, text in rows], device)
    log_prob_N = policy.score(rollouts.steps).log_prob_N(rollouts.action_mask_NT, dtype=torch.float64)
    actions_N = rollouts.steps.chosen_NT.sum(1) + (rollouts.steps.lengths_N < policy.max_new_tokens)
    return list(zip(log_prob_N.tolist(), actions_N.tolist(), strict=True))


def text_rollouts(
    policy: Policy,
    problems: Sequence[Problem],
    index: Sequence[int],
    texts: Sequence[str],
    device: torch.device | str,
) -> tuple[Rollouts, int]:
    """Given completions as trajectories, each cut at the policy's maximum length, with the results of its tools.

    Args:
        policy: encodes texts.
        problems: P problems; only their prompts are read.
        index: the problem of each of the B texts.
        texts: B completions.
        device: of the returned tensors.

    Returns:
        Rollouts of B trajectories, and how many texts were cut.
    """
    prompts = {p: policy.encode_prompt(problems[p].prompt) for p in set(index)}
    limit = policy.max_new_tokens
    encoded = [policy.encode_action(text) for text in texts]
    num_cut = sum(len(action) > limit for action, _ in encoded)
    actions = [action[:limit] for action, _ in encoded]
    inserted = [[place for place in places if place < limit] for _, places in encoded] if policy.uses_tools else None
    source: Source = "reference"
    return (
        Rollouts(
            problems=tuple(problems),
            problem_index_B=torch.tensor(list(index), device=device),
            trajectory_index_N=torch.arange(len(texts), device=device),
            steps=pad_steps([prompts[p] for p in index], actions, device, inserted),
            completions=tuple(map(policy.decode, actions)) if policy.uses_tools else tuple(texts),
            sources=(source,) * len(texts),
        ),
        num_cut,
    )
