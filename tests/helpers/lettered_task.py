"""All strings over four letters, a reference over them, and classes of those that are right, by enumeration.

A string is right if it ends in ``a``; its class is the number of letters ``b`` in it. The strings stand in the order of
a four-ary heap: the children of string s are 4 s + 1 to 4 s + 4.
"""

from __future__ import annotations

import math

import torch
from tabular_policy import FIRST_CHARACTER, TabularPolicy

from lightning_gfn.types import Problem

LETTERS = "abcd"


def strings(max_length: int) -> list[str]:
    """All of them, in heap order."""
    found, last = [""], [""]
    for _ in range(max_length):
        last = [text + letter for text in last for letter in LETTERS]
        found += last
    return found


def is_right(text: str) -> bool:
    return text.endswith("a")


def class_of(text: str) -> str:
    return f"{text.count('b')} b"


def lettered_policy(max_length: int, seed: int = 0) -> TabularPolicy:
    """A policy and a reference, another one, that write these letters alone."""
    policy = TabularPolicy(max_new_tokens=max_length, seed=seed, stop_bonus=0.0)
    allowed = [ord(letter) - FIRST_CHARACTER for letter in LETTERS]
    for table in (policy.table, policy.reference):
        barred = torch.ones(table.shape[1], dtype=torch.bool)
        barred[[*allowed, -1]] = False
        table[:, barred] = -torch.inf
    return policy


def lettered_problem(max_length: int) -> Problem:
    right = [text for text in strings(max_length) if is_right(text)]
    known = {text: class_of(text) for text in right}
    return Problem("p", "x", answer="a", solution_set=known, solutions=tuple(right), answer_style="(.)$")


def log_p_ref(policy: TabularPolicy, text: str, prompt: str = "x") -> float:
    """By a written loop, the stop included, which is forced at the maximum length."""
    total, ids = 0.0, policy.encode_completion(prompt)
    for n, token in enumerate([*policy.encode_completion(text), -1]):
        if token == -1 and n == policy.max_new_tokens:
            break
        total += float(policy.log_q(ids[-1], n, reference=True).double()[token])
        ids.append(token)
    return total


def target_of(
    policy: TabularPolicy, max_length: int, *, alpha: float, beta: float, epsilon: float = 0.0
) -> list[float]:
    """Probabilities of all strings under the target over classes, by its definition."""
    texts = strings(max_length)
    p = [math.exp(log_p_ref(policy, text)) for text in texts]
    share: dict[str, float] = {}
    for text, value in zip(texts, p, strict=True):
        if is_right(text):
            share[class_of(text)] = share.get(class_of(text), 0.0) + value
    weights = [
        value * math.exp(beta) / max(share[class_of(text)], epsilon) ** alpha if is_right(text) else value
        for text, value in zip(texts, p, strict=True)
    ]
    return [weight / math.fsum(weights) for weight in weights]
