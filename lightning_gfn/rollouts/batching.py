"""Rows of a rollout batch: padding, stored reward terms, subsets, and the way back to trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_gfn.types import CORRECT, LogReward, Rollouts, Source, Step, StepBatch, Trajectory


@dataclass(frozen=True)
class BatchRow:
    """One trajectory that a batch shall hold.

    Args:
        problem: index of its problem in the batch.
        sample: index among the problem's samples in this rollout batch; it keys the random numbers.
        source: where it comes from.
        context: tokens that the policy sees.
        temperature: sampling temperature, if the action is to be sampled.
        action: the action tokens, if they are given.
        inserted: places among them of tokens that a tool wrote.
        terms: stored reward terms, if it has any.
    """

    problem: int
    sample: int
    source: Source
    context: Sequence[int]
    temperature: float = 1.0
    action: Sequence[int] | None = None
    inserted: Sequence[int] = ()
    terms: Mapping[str, tuple[float, ...]] | None = None


def stored_terms(
    rows: Sequence[Mapping[str, tuple[float, ...]] | None], lengths: Sequence[int], device: torch.device | str
) -> dict[str, Tensor]:
    """The reward terms that replayed rows bring along, as (B,) or (B, T + 1); NaN in the other rows.

    A term is per prefix if every replayed row has one value more than action tokens; a row repeats its last value
    beyond its last prefix.

    Args:
        rows: the stored terms of each of the B trajectories, None where it has none.
        lengths: action tokens of each; several steps stand in a row, with the stop of each but the last as a token.
        device: where the tensors shall lie.

    Returns:
        Tensors by name; none if no row is replayed.

    Raises:
        ValueError: if the replayed rows carry different terms, or values that fit neither shape.
    """
    replayed = {b: terms for b, terms in enumerate(rows) if terms is not None}
    names = {frozenset(terms) for terms in replayed.values()}
    if len(names) > 1:
        raise ValueError(
            f"replayed trajectories carry different reward terms {[sorted(group) for group in names]}: the buffer was "
            "filled under two rewards; start with an empty one"
        )
    width = max(lengths, default=0) + 1
    stacked = {}
    for name in sorted(names.pop()) if names else ():
        values = {b: list(terms[name]) for b, terms in replayed.items()}
        is_scalar = name == CORRECT or any(len(row) != lengths[b] + 1 for b, row in values.items())
        if is_scalar and any(len(row) != 1 for row in values.values()):
            raise ValueError(f"stored reward term '{name}' has neither one value a trajectory nor one a prefix")
        size = 1 if is_scalar else width
        empty = [torch.nan] * size
        table = [
            values[b] + values[b][-1:] * (size - len(values[b])) if b in values else empty for b in range(len(rows))
        ]
        tensor_BT1 = torch.tensor(table, dtype=torch.float32, device=device)
        stacked[name] = tensor_BT1.squeeze(1) if is_scalar else tensor_BT1
    return stacked


def select_trajectories(rollouts: Rollouts, index: Sequence[int]) -> Rollouts:
    """The trajectories at these indices, in this order, with all their steps; reward terms are left out."""
    device = rollouts.problem_index_B.device
    chosen_B = torch.tensor(index, dtype=torch.int64, device=device)
    rows_of: list[list[int]] = [[] for _ in range(rollouts.num_trajectories)]
    for n, b in enumerate(rollouts.trajectory_index_N.tolist()):
        rows_of[b].append(n)
    rows = torch.tensor([n for b in index for n in rows_of[b]], dtype=torch.int64, device=device)
    new_index_N = torch.tensor([new for new, b in enumerate(index) for _ in rows_of[b]], dtype=torch.int64).to(device)
    behaviour, stops = rollouts.behaviour_log_pf_NT, rollouts.behaviour_log_pstop_N
    return replace(
        rollouts,
        problem_index_B=rollouts.problem_index_B[chosen_B],
        trajectory_index_N=new_index_N,
        steps=rollouts.steps.select(rows),
        completions=tuple(rollouts.completions[b] for b in index),
        sources=tuple(rollouts.sources[b] for b in index),
        behaviour_log_pf_NT=behaviour[rows] if behaviour is not None else None,
        behaviour_log_pstop_N=stops[rows] if stops is not None else None,
        terms={},
        correct_B=None,
        episodes=tuple(rollouts.episodes[b] for b in index) if rollouts.episodes is not None else None,
    )


def concatenated(first: Rollouts, second: Rollouts) -> Rollouts:
    """All trajectories of two batches, padded alike; those of the second keep the problem indices that they have."""
    before, after = first.behaviour_log_pf_NT, second.behaviour_log_pf_NT
    stops = [part.behaviour_log_pstop_N for part in (first, second) if part.behaviour_log_pstop_N is not None]
    return replace(
        first,
        problem_index_B=torch.cat([first.problem_index_B, second.problem_index_B]),
        trajectory_index_N=torch.cat([first.trajectory_index_N, second.trajectory_index_N + first.num_trajectories]),
        steps=StepBatch(
            _stacked(first.context_ids_NC, second.context_ids_NC, left=True),
            _stacked(first.context_mask_NC, second.context_mask_NC, left=True),
            _stacked(first.action_ids_NT, second.action_ids_NT),
            _stacked(first.action_mask_NT, second.action_mask_NT),
            _stacked(first.steps.inserted_NT, second.steps.inserted_NT)
            if first.steps.inserted_NT is not None and second.steps.inserted_NT is not None
            else None,
        ),
        completions=first.completions + second.completions,
        sources=first.sources + second.sources,
        behaviour_log_pf_NT=_stacked(before, after) if before is not None and after is not None else None,
        behaviour_log_pstop_N=torch.cat(stops) if len(stops) == 2 else None,
        terms={},
        correct_B=None,
        episodes=first.episodes + second.episodes
        if first.episodes is not None and second.episodes is not None
        else None,
    )


def _stacked(first: Tensor, second: Tensor, *, left: bool = False) -> Tensor:
    """Rows of two tables, padded with 0 to the same width."""
    width = max(first.shape[1], second.shape[1])
    missing = [width - values.shape[1] for values in (first, second)]
    return torch.cat(
        [pad(values, (n, 0) if left else (0, n)) for values, n in zip((first, second), missing, strict=True)]
    )


def to_trajectories(rollouts: Rollouts, log_reward: LogReward, *, optimizer_step: int) -> list[Trajectory]:
    """The new trajectories of a batch, for a buffer; replayed ones are left out, since the buffer holds them.

    Args:
        rollouts: with reward terms.
        log_reward: of the trajectories, as combined at this optimiser step.
        optimizer_step: optimiser step of their birth.

    Returns:
        One ``Trajectory`` for each row that was not replayed, in order.
    """
    contexts = [
        [token for token, keep in zip(ids, mask, strict=True) if keep]
        for ids, mask in zip(rollouts.context_ids_NC.tolist(), rollouts.context_mask_NC.tolist(), strict=True)
    ]
    steps_of: list[list[Step]] = [[] for _ in range(rollouts.num_trajectories)]
    owners = rollouts.trajectory_index_N.tolist()
    for b, context, action, places in zip(
        owners, contexts, rollouts.action_lists(), rollouts.inserted_lists(), strict=True
    ):
        steps_of[b].append(Step(tuple(context), tuple(action), tuple(places)))
    tables = {name: values.tolist() for name, values in rollouts.terms.items()}
    if rollouts.correct_B is not None:
        tables[CORRECT] = rollouts.correct_B.float().tolist()
    log_rewards = log_reward.terminal_B.tolist()
    problem_ids = [rollouts.problems[p].id for p in rollouts.problem_index_B.tolist()]
    trajectories = []
    for b, source in enumerate(rollouts.sources):
        if source == "replay":
            continue
        end = sum(len(taken.action) + 1 for taken in steps_of[b])
        rows = {name: table[b] for name, table in tables.items()}
        terms = {name: tuple(row[:end]) if isinstance(row, list) else (row,) for name, row in rows.items()}
        trajectories.append(
            Trajectory(
                problem_ids[b], tuple(steps_of[b]), rollouts.completions[b], terms, log_rewards[b], optimizer_step
            )
        )
    return trajectories
