"""Verdicts that are wrong with a stated probability, always on the same completions: label noise of a reward model."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from lightning_gfn.answers.extraction import extract_answer

if TYPE_CHECKING:
    from lightning_gfn.types import Problem


def check_probability(probability: float) -> None:
    """Refuse a share of wrong verdicts outside [0, 1].

    Raises:
        ValueError: names ``probability``.
    """
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability is {probability}, expected a share of flipped verdicts in [0, 1]")


def flipped(problem_id: str, completion: str, *, probability: float, seed: int) -> bool:
    """Draw whether the verdict on this completion is turned over.

        flipped = blake2b(seed, problem id, completion) / 2^64 < probability

    The decision is a function of its arguments: asking again, in another batch, on another rank or after an
    interruption gives the same one. Completions flipped at a small probability stay flipped at every larger one.

    Args:
        problem_id: the problem that the completion attempts.
        completion: its whole text.
        probability: share of completions whose verdict is wrong.
        seed: key of the noise.

    Returns:
        True if the verdict is to be turned over.

    Raises:
        ValueError: if the probability lies outside [0, 1].
    """
    check_probability(probability)
    return _draw(problem_id, completion, seed) < probability * 2.0**64


def noise_below(count: int, problem_id: str, text: str, *, seed: int) -> int:
    """A whole number from 0 to ``count`` - 1 that is a function of the other arguments, as ``flipped`` is."""
    return count * _draw(problem_id, text, seed) >> 64


def _draw(problem_id: str, text: str, seed: int) -> int:
    name = problem_id.encode()
    message = struct.pack("<qq", seed, len(name)) + name + text.encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(message, digest_size=8, person=b"label noise").digest(), "little")


def noisy_verdict(problem: Problem, completion: str, *, correct: bool, probability: float, seed: int) -> bool:
    """The verdict of a checker that errs, for good, on a share of the completions that hold an answer.

        noisy = correct xor flipped(completion)   if an answer can be extracted, else False

    A text without an answer is refused by every checker, so noise never makes it right; else the many short prefixes
    that the objectives with prefix rewards look at would be rewarded for stopping before any solution.

    Args:
        problem: says how answers are written.
        completion: the whole text.
        correct: the true verdict.
        probability: share of wrong verdicts among completions with an answer.
        seed: key of the noise.

    Returns:
        The noisy verdict.

    Raises:
        ValueError: if the probability lies outside [0, 1].
    """
    if not flipped(problem.id, completion, probability=probability, seed=seed):
        return correct
    return not correct and extract_answer(completion, problem.answer_style) is not None
