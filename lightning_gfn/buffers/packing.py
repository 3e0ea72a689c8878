"""Trajectories as flat arrays: how a buffer holds them and how they travel in a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_gfn.types import Step, Trajectory


@dataclass(frozen=True, slots=True)
class PackedTrajectory:
    """One trajectory as arrays, an order of magnitude smaller than tuples of Python numbers.

    Args:
        problem_id: which problem it attempts.
        completion: its text.
        tokens: int32, context and action of each step one after the other.
        lengths: int64, tokens of each context and of each action, in the same order.
        inserted: int32, places among all tokens of those that a tool wrote.
        names: the names of its reward terms.
        values: float64, the values of all terms one after the other.
        counts: int64, the number of values of each term.
        log_reward: log reward when it was added (nats).
        born: optimiser step at which it was sampled.
    """

    problem_id: str
    completion: str
    tokens: NDArray[np.int32]
    lengths: NDArray[np.int64]
    names: tuple[str, ...]
    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    log_reward: float
    born: int
    inserted: NDArray[np.int32]


def pack(trajectory: Trajectory) -> PackedTrajectory:
    """Arrays instead of tuples."""
    parts = [part for step in trajectory.steps for part in (step.context, step.action)]
    return PackedTrajectory(
        problem_id=trajectory.problem_id,
        completion=trajectory.completion,
        tokens=np.fromiter(chain.from_iterable(parts), dtype=np.int32),
        lengths=np.array([len(part) for part in parts], dtype=np.int64),
        names=tuple(trajectory.terms),
        values=np.fromiter(chain.from_iterable(trajectory.terms.values()), dtype=np.float64),
        counts=np.array([len(values) for values in trajectory.terms.values()], dtype=np.int64),
        log_reward=float(trajectory.log_reward),
        born=int(trajectory.born),
        inserted=np.array(_places(trajectory.steps), dtype=np.int32),
    )


def unpack(packed: PackedTrajectory) -> Trajectory:
    """The trajectory that was packed."""
    parts = _cut(packed.tokens.tolist(), packed.lengths.tolist())
    values = _cut(packed.values.tolist(), packed.counts.tolist())
    return Trajectory(
        problem_id=packed.problem_id,
        steps=tuple(_steps(parts, packed.inserted.tolist())),
        completion=packed.completion,
        terms=dict(zip(packed.names, values, strict=True)),
        log_reward=packed.log_reward,
        born=packed.born,
    )


def to_state(packed: Sequence[PackedTrajectory]) -> dict[str, Any]:
    """Flat tensors and lists of strings for a whole buffer; the order is kept."""
    schemas = list(dict.fromkeys(item.names for item in packed))
    schema_of = {names: index for index, names in enumerate(schemas)}
    return {
        "problem_ids": [item.problem_id for item in packed],
        "completions": [item.completion for item in packed],
        "term_names": [list(names) for names in schemas],
        "term_schema": torch.tensor([schema_of[item.names] for item in packed], dtype=torch.int64),
        "num_parts": torch.tensor([len(item.lengths) for item in packed], dtype=torch.int64),
        "lengths": _join((item.lengths for item in packed), np.int64),
        "tokens": _join((item.tokens for item in packed), np.int32),
        "counts": _join((item.counts for item in packed), np.int64),
        "values": _join((item.values for item in packed), np.float64),
        "log_rewards": torch.tensor([item.log_reward for item in packed], dtype=torch.float64),
        "born": torch.tensor([item.born for item in packed], dtype=torch.int64),
        "inserted": _join((item.inserted for item in packed), np.int32),
        "num_inserted": torch.tensor([len(item.inserted) for item in packed], dtype=torch.int64),
    }


def from_state(state: Mapping[str, Any]) -> list[PackedTrajectory]:
    """What ``to_state`` was given, bit for bit.

    Raises:
        ValueError: if a part is missing.
    """
    expected = set(to_state([])) - {"inserted", "num_inserted"}
    if missing := expected - set(state):
        raise ValueError(
            f"the replay buffer's state lacks {sorted(missing)}; the checkpoint holds another kind of buffer"
        )
    if "inserted" in state:
        inserted = _split(state["inserted"], state["num_inserted"].tolist())
    else:  # saved before tools were known
        inserted = [np.empty(0, np.int32)] * len(state["problem_ids"])
    names = [tuple(state["term_names"][index]) for index in state["term_schema"].tolist()]
    lengths = _split(state["lengths"], state["num_parts"].tolist())
    tokens = _split(state["tokens"], [int(part.sum()) for part in lengths])
    counts = _split(state["counts"], [len(schema) for schema in names])
    values = _split(state["values"], [int(part.sum()) for part in counts])
    return [
        PackedTrajectory(problem_id, completion, *arrays)
        for problem_id, completion, *arrays in zip(
            state["problem_ids"],
            state["completions"],
            tokens,
            lengths,
            names,
            values,
            counts,
            state["log_rewards"].tolist(),
            state["born"].tolist(),
            inserted,
            strict=True,
        )
    ]


def _places(steps: Sequence[Step]) -> list[int]:
    """Places of inserted tokens among the tokens of all contexts and actions."""
    places, start = [], 0
    for step in steps:
        start += len(step.context)
        places += [start + place for place in step.inserted]
        start += len(step.action)
    return places


def _steps(parts: Sequence[tuple[int, ...]], places: Sequence[int]) -> Iterator[Step]:
    """Contexts and actions, in turn, as steps."""
    end = 0
    for context, action in zip(parts[::2], parts[1::2], strict=True):
        start = end + len(context)
        end = start + len(action)
        yield Step(context, action, tuple(place - start for place in places if start <= place < end))


def _cut(flat: list[Any], sizes: list[int]) -> list[tuple[Any, ...]]:
    ends = np.cumsum([0, *sizes]).tolist()
    return [tuple(flat[start:end]) for start, end in zip(ends, ends[1:], strict=False)]


def _join(arrays: Iterable[NDArray[Any]], dtype: type[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([np.empty(0, dtype), *arrays]))


def _split(flat: torch.Tensor, sizes: list[int]) -> list[NDArray[Any]]:
    return [part.copy() for part in np.split(flat.cpu().numpy(), np.cumsum(sizes))[: len(sizes)]]
