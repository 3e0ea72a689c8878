"""The first example of a run as the model will read it: tokens, which of them count in the loss, and its reward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from lightning_gfn.preference_types import JudgedSolution, LabelledCompletion, Preference
from lightning_gfn.rollouts.reference import text_rollouts
from lightning_gfn.types import Problem

WIDTH = 108
MOST_TOKENS = 160
"""Of a longer row the first and the last half of so many are shown."""


def completions_of(example: Any) -> list[tuple[str, str]]:
    """What the example holds to be scored, each with the name of its role."""
    if isinstance(example, Preference):
        return [("preferred completion", example.chosen), ("other completion", example.rejected)]
    if isinstance(example, LabelledCompletion):
        return [(f"completion labelled {example.label}", example.completion)]
    if isinstance(example, JudgedSolution):
        labels = ", ".join("none" if label is None else f"{label:g}" for label in example.labels)
        return [(f"solution of {len(example.steps)} steps, labels {labels}", "".join(example.steps))]
    if isinstance(example, Problem) and example.solutions:
        return [("reference solution", example.solutions[0])]
    return []


def example_lines(example: Any, model: Any, *, scored: bool) -> Iterator[str]:
    """The first example, as lines.

    Args:
        example: of the first training batch.
        model: policy or reward network, built.
        scored: completions are judged at the ends of their steps, and no token is predicted.
    """
    if isinstance(example, Problem) and example.theorem is not None:
        yield f"theorem {example.id!r}: {example.theorem.statement}"
        yield "its prompts are proof states of the environment; tactics and their stops count in the loss"
        return
    context = model.codec.encode_prompt(example.prompt)
    yield f"{type(example).__name__} {example.id!r}: {len(context)} tokens of the prompt, which count in no loss"
    rows = completions_of(example)
    if not rows:
        yield "no reference solution; of sampled ones every token and the stop count in the loss"
    for number, (role, text) in enumerate(rows or [("", "")]):
        action = model.codec.encode_completion(text)[: model.max_new_tokens]
        stops = not scored and bool(rows) and len(action) < model.max_new_tokens
        if rows:
            end = "the ends of its steps are judged" if scored else "all of them count in the loss, "
            end += "" if scored else "and the stop" if stops else "cut at max_new_tokens, so that the stop is no action"
            yield f"{role}: {len(action)} tokens; {end}"
        ids = [*(context if number == 0 else []), *action, *([int(model.space.stop_id)] if stops else [])]
        mask = [False] * (len(ids) - len(action) - stops) + [not scored] * (len(action) + stops)
        yield from token_lines(model.tokenizer.convert_ids_to_tokens(ids), ids, mask)


def token_lines(tokens: Sequence[str], ids: Sequence[int], mask: Sequence[bool]) -> Iterator[str]:
    """Tokens, ids and mask under each other, in lines of limited width."""
    cells = [(repr(token)[1:-1], str(id_), str(int(keep))) for token, id_, keep in zip(tokens, ids, mask, strict=True)]
    if len(cells) > MOST_TOKENS:
        left = len(cells) - MOST_TOKENS
        cells = [*cells[: MOST_TOKENS // 2], (f"({left} more)", "", ""), *cells[-(MOST_TOKENS // 2) :]]
    heads = ("token", "id", "loss")
    rows = [f"  {head:<6}" for head in heads]
    for cell in cells:
        width = max(map(len, cell)) + 1
        if len(rows[0]) + width > WIDTH:
            yield from (row.rstrip() for row in rows)
            rows = [f"  {head:<6}" for head in heads]
        rows = [row + part.ljust(width) for row, part in zip(rows, cell, strict=True)]
    yield from (row.rstrip() for row in rows)


@torch.no_grad()
def reward_lines(example: Any, module: Any) -> Iterator[str]:
    """The reward of the reference solution, term by term.

    Args:
        example: of the first training batch.
        module: may have a reward and a policy.
    """
    reward = getattr(module, "reward", None)
    if reward is None or not isinstance(example, Problem):
        return
    if example.theorem is not None or not example.solutions:
        yield "reward: not computed, since the first problem has no reference solution as a text"
        return
    rollouts, _ = text_rollouts(module.policy, [example], [0], [example.solutions[0]], module.device)
    reward.begin(rollouts, module.policy, prefixes=False)
    terms, correct_B = reward.terms(rollouts, module.policy, prefixes=False)
    total = reward.combine(terms, rollouts.with_terms(terms, correct_B), 0).terminal_B
    word = getattr(module, "reward_word", "log reward")
    verdict = "" if correct_B is None else f"; its answer is {'right' if bool(correct_B[0]) else 'WRONG'}"
    yield f"{word} of the reference solution: {float(total[0]):.4g}{verdict}"
    for name, values in terms.items():
        yield f"  {name}: {float(values[0]):.4g} before weights and temperatures"
