"""Random numbers that depend on what they are for, not on when or where they are drawn.

Every uniform is a function of (stream, seed, rollout step, problem id, sample, turn, position). So samples do not
depend on the composition of the batch, on the number of ranks, or on an interruption, and no generator state needs
saving.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Stream = Literal[
    "action", "evaluation", "source", "temperature", "replay", "reference", "search", "supervised", "minibatch",
    "step_labels", "faithfulness",
]  # fmt: skip

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def keyed_uniforms(
    stream: Stream,
    *,
    seed: int,
    rollout_step: int,
    problem_ids: Sequence[str],
    samples: Sequence[int],
    length: int,
    turns: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """Counter-based uniforms, one row for each (problem, sample, turn).

        key = blake2b(stream, seed, rollout step, problem id, sample, turn)
        u_t = ⌊mix(key + (t + 1) · γ) / 2^11⌋ / 2^53

    where mix is the finaliser of splitmix64 and γ its increment.

    Args:
        stream: purpose; streams are independent of one another.
        seed: of the run.
        rollout_step: rollout batch counter; the epoch for what is drawn once in each, 0 in evaluation.
        problem_ids: N ids.
        samples: N sample indices within the problem's group.
        length: numbers in each row.
        turns: which model call of its trajectory each row is, from 0; None for first calls.

    Returns:
        float64 (N, length) in [0, 1).

    Raises:
        ValueError: if the sequences differ in length.

    Source: Steele et al. 2014, "Fast splittable pseudorandom number generators", section 5.
    """
    calls = turns if turns is not None else [0] * len(samples)
    keys = [
        _key(stream, seed, rollout_step, problem, sample, turn)
        for problem, sample, turn in zip(problem_ids, samples, calls, strict=True)
    ]
    counter = (np.arange(1, length + 1, dtype=np.uint64) * _GOLDEN)[None, :]
    bits = np.array(keys, dtype=np.uint64).reshape(len(keys), 1) + counter
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def keyed_uniform(stream: Stream, *, seed: int, rollout_step: int, problem_id: str) -> float:
    """One uniform in [0, 1) for a decision about a whole problem.

    Args:
        stream: what it is for.
        seed: of the run.
        rollout_step: as in ``keyed_uniforms``.
        problem_id: the problem.
    """
    uniforms = keyed_uniforms(
        stream, seed=seed, rollout_step=rollout_step, problem_ids=[problem_id], samples=[0], length=1
    )
    return float(uniforms[0, 0])


def _key(stream: str, seed: int, rollout_step: int, problem_id: str, sample: int, turn: int) -> int:
    name = stream.encode()
    message = struct.pack("<qqqq", seed, rollout_step, sample, len(name)) + name + problem_id.encode()
    salt = struct.pack("<q", turn)  # an empty salt is one of zeros
    return int.from_bytes(hashlib.blake2b(message, digest_size=8, salt=salt).digest(), "little")
