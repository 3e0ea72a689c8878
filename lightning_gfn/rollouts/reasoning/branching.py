"""Chain-of-thought decoding: greedy branches behind the most probable first tokens, and how sure each answer is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from lightning_gfn.answers import answer_place, are_equivalent
from lightning_gfn.interfaces import Policy
from lightning_gfn.padding import pad_steps
from lightning_gfn.types import AnswerStyle, Branch, EvalRecord, Problem

Decode = Callable[[Sequence[int]], str]


@torch.no_grad()
def with_branches(
    policy: Policy, records: Sequence[EvalRecord], *, num_branches: int, max_rows: int, device: torch.device | str
) -> list[EvalRecord]:
    """The records with greedy completions behind the most probable first tokens of their problem.

    Args:
        policy: samples and scores.
        records: of any problems; each problem is decoded once, and its first record carries the result.
        num_branches: first tokens of a problem; fewer where the policy has fewer.
        max_rows: branches decoded at once.
        device: of the policy.

    Returns:
        The records in order; one whose problem is a theorem or has no answer stays as it is.
    """
    first = {record.problem.id: index for index, record in reversed(list(enumerate(records)))}
    chosen = [
        index for index in sorted(first.values())
        if records[index].problem.theorem is None and records[index].problem.answer is not None
    ]  # fmt: skip
    found = list(records)
    at_once = max(1, max_rows // num_branches)
    for start in range(0, len(chosen), at_once):
        part = chosen[start : start + at_once]
        problems = [records[index].problem for index in part]
        for index, branches in zip(part, decode_branches(policy, problems, num_branches, device), strict=True):
            found[index] = replace(records[index], branches=branches)
    return found


def decode_branches(
    policy: Policy, problems: Sequence[Problem], num_branches: int, device: torch.device | str
) -> list[tuple[Branch, ...]]:
    """Greedy completions behind the k most probable first tokens, each with the confidence of its answer.

        z_k = greedy continuation of (x, t_k),    Δ_k = mean over the tokens of the answer in z_k of p_1 - p_2

    where p_1 and p_2 are the probabilities of the two most probable actions there, at temperature 1. Stopping at once
    is no branch. A problem's branches share one reading of its prompt.

    Args:
        policy: samples and scores.
        problems: P problems with an answer.
        num_branches: k.
        device: of the policy.

    Returns:
        the branches of each problem, most probable first token first.

    Source: Wang & Zhou 2024, arXiv:2402.10200, section 2.
    """
    prompts = [policy.encode_prompt(problem.prompt) for problem in problems]
    begun = first_tokens(policy, prompts, num_branches, device)
    rows = [(p, token) for p, tokens in enumerate(begun) for token in tokens]
    contexts = [prompts[p] for p, _ in rows]
    sampled = policy.sample(
        contexts,
        torch.zeros(len(rows), policy.max_new_tokens + 1),
        top_k=1,
        first_N=torch.tensor([token for _, token in rows]),
    )
    lengths = sampled.action_mask_NT.sum(1).tolist()
    actions = [ids[:length] for ids, length in zip(sampled.action_ids_NT.tolist(), lengths, strict=True)]
    steps = pad_steps(contexts, actions, device)
    best_NT12 = policy.top_actions(steps, top_k=2).log_p_NT1K.double().exp()
    gaps_NT1 = best_NT12[..., 0] - best_NT12[..., 1] if best_NT12.shape[2] > 1 else best_NT12[..., 0]
    read = [
        answer_and_confidence(policy.decode, action, problems[p].answer_style, gaps)
        for (p, _), action, gaps in zip(rows, actions, gaps_NT1.tolist(), strict=True)
    ]
    verdicts = are_equivalent([(answer, problems[p].answer) for (p, _), (answer, _) in zip(rows, read, strict=True)])
    branches: list[list[Branch]] = [[] for _ in problems]
    for (p, _), action, (answer, confidence), verdict in zip(rows, actions, read, verdicts, strict=True):
        branches[p].append(Branch(policy.decode(action), answer, verdict, confidence))
    return [tuple(found) for found in branches]


def first_tokens(
    policy: Policy, prompts: Sequence[Sequence[int]], num_branches: int, device: torch.device | str
) -> list[list[int]]:
    """The most probable first tokens behind each prompt, without the stop."""
    found = policy.top_actions(pad_steps(prompts, [[] for _ in prompts], device), top_k=num_branches + 1)
    tokens_PK = found.candidates_NT1K[:, 0]
    possible_PK = found.log_p_NT1K[:, 0].isfinite() & (tokens_PK != policy.stop_id)
    pairs = zip(tokens_PK, possible_PK, strict=True)
    return [tokens_K[possible_K][:num_branches].tolist() for tokens_K, possible_K in pairs]


def answer_and_confidence(
    decode: Decode, action: Sequence[int], style: AnswerStyle, gaps: Sequence[float]
) -> tuple[str | None, float]:
    """The answer of a completion and the mean gap over its tokens; None and 0 without an answer.

    A token belongs to the answer if one of the answer's characters came with it.

    Args:
        decode: text of tokens.
        action: T tokens.
        style: how the completion writes its answer.
        gaps: of each token, p_1 - p_2 where it was chosen.
    """
    place = answer_place(decode(action), style)
    if place is None:
        return None, 0.0

    def characters(end: int) -> int:
        return len(decode(action[:end]))

    ends = range(len(action) + 1)
    first = max(0, bisect_right(ends, place.start, key=characters) - 1)
    last = max(first + 1, bisect_left(ends, place.end, key=characters))
    own = gaps[first:last]
    return place.answer, sum(own) / len(own)
