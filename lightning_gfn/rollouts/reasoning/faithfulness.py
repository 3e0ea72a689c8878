"""Faithfulness of rationales: does the answer change when the rationale before it is changed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lightning_gfn.answers import are_equivalent, extract_answer
from lightning_gfn.interfaces import Policy
from lightning_gfn.rollouts.keyed_random import keyed_uniform
from lightning_gfn.rollouts.reasoning.rationales import PERTURBATIONS, Reasoned, reasoned
from lightning_gfn.types import Problem

INTACT = "intact"


@dataclass(frozen=True)
class Subject:
    """A problem with a completion that reasons and then answers.

    Args:
        problem: it has an answer.
        parts: the completion.
    """

    problem: Problem
    parts: Reasoned


@dataclass(frozen=True)
class Answered:
    """The answer behind a rationale.

    Args:
        rationale: what stood there.
        answer: what the policy then answered; None for nothing that can be read.
        correct: that is the right answer.
        follows: it is another answer than the one behind the intact rationale.
    """

    rationale: str
    answer: str | None
    correct: bool
    follows: bool


def first_reasoned(problem: Problem, completions: Sequence[str]) -> Subject | None:
    """The first completion with a rationale and an answer; None if there is none, or the problem has no answer."""
    if problem.answer is None or problem.theorem is not None:
        return None
    parts = (reasoned(text, problem.answer_style) for text in completions)
    return next((Subject(problem, found) for found in parts if found is not None), None)


def perturbed(subjects: Sequence[Subject], *, seed: int) -> list[dict[str, str]]:
    """Name → rationale of each subject: the intact one and those changed; a change that changes nothing is left out.

    A rationale is swapped with that of the next subject whose rationale differs, in the order given.

    Args:
        subjects: of all problems, in an order that does not depend on how they were batched.
        seed: key of the numbers that are put in.
    """
    found = []
    for n, subject in enumerate(subjects):
        rationale = subject.parts.rationale
        others = (one.parts.rationale for one in [*subjects[n + 1 :], *subjects[:n]])
        other = next((text for text in others if text != rationale), None)
        uniform = keyed_uniform("faithfulness", seed=seed, rollout_step=0, problem_id=subject.problem.id)
        own = {INTACT: rationale}
        for name, change in PERTURBATIONS.items():
            text = change(rationale, other if other is not None else rationale, uniform)
            if text is not None and text != rationale:
                own[name] = text
        found.append(own)
    return found


@dataclass(frozen=True)
class _Row:
    """A context that an answer is asked behind."""

    subject: int
    name: str
    rationale: str
    head: str
    context: tuple[int, ...]
    begun: int


@torch.no_grad()
def answers_behind(
    policy: Policy, subjects: Sequence[Subject], rationales: Sequence[dict[str, str]], *, max_rows: int
) -> list[dict[str, Answered]]:
    """The policy's greedy answers behind rationales and the subjects' own cues.

    Args:
        policy: answers; decoder-only.
        subjects: N problems and their completions.
        rationales: N times name → rationale, the intact one among them.
        max_rows: answers decoded at once.

    Returns:
        N times name → answer; without those whose rationale leaves the model no positions for an answer.
    """
    rows: list[_Row] = []
    for n, (subject, own) in enumerate(zip(subjects, rationales, strict=True)):
        prompt = policy.encode_prompt(subject.problem.prompt)
        for name, text in own.items():
            head = text + subject.parts.cue
            begun = policy.encode_completion(head)
            rows.append(_Row(n, name, text, head, (*prompt, *begun), len(begun)))
    least, limit = longest_answer(policy, subjects), policy.num_positions
    rows = [row for row in rows if limit is None or len(row.context) + least <= limit]
    texts = continued(policy, rows, least, max_rows)
    styles = [subjects[row.subject].problem.answer_style for row in rows]
    pairs = zip(rows, texts, styles, strict=True)
    answers = [extract_answer(row.head + text, style) for row, text, style in pairs]
    wanted = [subjects[row.subject].problem.answer for row in rows]
    right = are_equivalent(list(zip(answers, wanted, strict=True)))
    intact = {row.subject: answer for row, answer in zip(rows, answers, strict=True) if row.name == INTACT}
    before = [intact.get(row.subject) for row in rows]
    same = are_equivalent(list(zip(answers, before, strict=True)))
    found: list[dict[str, Answered]] = [{} for _ in subjects]
    for row, answer, correct, first, equal in zip(rows, answers, right, before, same, strict=True):
        if row.subject in intact:
            found[row.subject][row.name] = Answered(row.rationale, answer, correct, not (equal or answer == first))
    return found


def continued(policy: Policy, rows: Sequence[_Row], least: int, max_rows: int) -> list[str]:
    """Greedy continuations, each as long as a whole completion or the longest answer leaves room for."""
    if not rows:
        return []
    room = max(least, policy.max_new_tokens - max(row.begun for row in rows))
    if policy.num_positions is not None:
        room = min(room, policy.num_positions - max(len(row.context) for row in rows))
    texts: list[str] = []
    with policy.shortened(min(room, policy.max_new_tokens)):
        for start in range(0, len(rows), max_rows):
            contexts = [row.context for row in rows[start : start + max_rows]]
            drawn = policy.sample(contexts, torch.zeros(len(contexts), policy.max_new_tokens + 1), top_k=1)
            lengths = drawn.action_mask_NT.sum(1).tolist()
            texts += [policy.decode(ids[:n]) for ids, n in zip(drawn.action_ids_NT.tolist(), lengths, strict=True)]
    return texts


def longest_answer(policy: Policy, subjects: Sequence[Subject]) -> int:
    """Tokens of the subjects' longest answer, twice, and two for what stands around it."""
    return 2 * max((len(policy.encode_completion(subject.parts.answer)) for subject in subjects), default=1) + 2


def faithfulness_metrics(answered: dict[str, Answered]) -> dict[str, float]:
    """The values of one problem: ``answer_follows_<change>``, ``accuracy_<change>`` and ``accuracy_intact``."""
    values = {f"accuracy_{name}": float(one.correct) for name, one in answered.items()}
    return values | {f"answer_follows_{name}": float(one.follows) for name, one in answered.items() if name != INTACT}
