"""A rollout batch that serves several updates: its minibatches, and how it travels in a checkpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lightning_gfn.modules.settings import UpdateSettings
from lightning_gfn.modules.training_batch.trajectory_layout import JoinedLayout
from lightning_gfn.rollouts.batching import select_trajectories
from lightning_gfn.rollouts.keyed_random import keyed_uniforms
from lightning_gfn.types import Problem, Rollouts, StepBatch

INDICES = ("problem_index_B", "trajectory_index_N")
"""What a checkpoint holds of the rollouts beside the fields of their ``StepBatch``."""


@dataclass
class RolloutWindow:
    """One rollout batch, its constant columns, and how many updates have used it.

    Args:
        rollout_step: rollout batch counter, part of the key of the minibatches.
        problem_ids: the problems of the batch; their texts come again with every training batch.
        rollouts: B trajectories.
        layout: of these rollouts.
        constants: columns that are the same in every update: (B, …), or scalars.
        statistics: metrics of the whole rollout batch, logged with every update.
        num_done: updates made.
    """

    rollout_step: int
    problem_ids: tuple[str, ...]
    rollouts: Rollouts
    layout: JoinedLayout
    constants: dict[str, Tensor]
    statistics: dict[str, float]
    num_done: int = 0

    def minibatch(
        self, problems: Sequence[Problem], updates: UpdateSettings, *, seed: int, whole_groups: bool
    ) -> tuple[Rollouts, JoinedLayout, dict[str, Tensor]] | None:
        """The trajectories of the next update with their layout and their constant columns.

        Each epoch cuts another permutation of the trajectories (or of the problems' groups) into parts; it is keyed by
        (seed, rollout batch, epoch), problem id and sample. A batch with fewer of them than parts (the last one of an
        epoch, or a process's share) leaves evenly spread parts empty, so that every process makes as many updates as
        the others.

        Args:
            problems: the present training batch.
            updates: numbers of epochs and parts.
            seed: of the module.
            whole_groups: keep the trajectories of a problem together.

        Returns:
            Rollouts, layout and columns; None where the part is empty.

        Raises:
            ValueError: if the training batch is not the one that was sampled.
        """
        if tuple(problem.id for problem in problems) != self.problem_ids:
            raise ValueError(
                f"the data moved on after {self.num_done} of the {updates.num_updates} updates on a rollout batch: the "
                "loader must repeat each batch updates.num_epochs * updates.num_minibatches times (datamodules do), "
                "and trainer.limit_train_batches must be a multiple of it"
            )
        rollouts = replace(self.rollouts, problems=tuple(problems))
        if updates.num_minibatches == 1:
            return rollouts, self.layout, self.constants
        epoch, part = divmod(self.num_done, updates.num_minibatches)
        units = self._units(whole_groups)
        order = self._order(units, seed, epoch)
        start, end = part_bounds(len(order), part, updates.num_minibatches)
        index = sorted(trajectory for unit in order[start:end] for trajectory in unit)
        return self._select(rollouts, index) if index else None

    def _units(self, whole_groups: bool) -> list[list[int]]:
        group_B = self.rollouts.problem_index_B.tolist()
        if not whole_groups:
            return [[b] for b in range(len(group_B))]
        groups = [[b for b, group in enumerate(group_B) if group == p] for p in range(len(self.problem_ids))]
        return [group for group in groups if group]  # a theorem that could not be stated has no trajectories

    def _order(self, units: list[list[int]], seed: int, epoch: int) -> list[list[int]]:
        group_B = self.rollouts.problem_index_B.tolist()
        seen: Counter[int] = Counter()
        samples = []
        for unit in units:
            samples.append(seen[group_B[unit[0]]])
            seen[group_B[unit[0]]] += 1
        ids = [self.problem_ids[group_B[unit[0]]] for unit in units]
        uniforms = keyed_uniforms(
            "minibatch", seed=seed, rollout_step=self.rollout_step, problem_ids=ids, samples=samples, length=epoch + 1
        )
        return [units[i] for i in uniforms[:, epoch].argsort(kind="stable")]

    def _select(self, rollouts: Rollouts, index: list[int]) -> tuple[Rollouts, JoinedLayout, dict[str, Tensor]]:
        chosen_B = torch.tensor(index, device=rollouts.problem_index_B.device)
        part = select_trajectories(rollouts, index)
        layout = JoinedLayout(part)
        width = layout.mask_BT.shape[1]
        constants = {name: _rows(name, column, chosen_B, width) for name, column in self.constants.items()}
        correct_B = rollouts.correct_B
        return part.with_terms({}, correct_B[chosen_B] if correct_B is not None else None), layout, constants

    def to(self, device: torch.device) -> RolloutWindow:
        """The same with all tensors on a device."""
        correct_B = self.rollouts.correct_B
        self.rollouts = replace(
            self.rollouts,
            problem_index_B=self.rollouts.problem_index_B.to(device),
            trajectory_index_N=self.rollouts.trajectory_index_N.to(device),
            steps=self.rollouts.steps.to(device),
            correct_B=correct_B.to(device) if correct_B is not None else None,
        )
        self.layout = JoinedLayout(self.rollouts)
        self.constants = {name: column.to(device) for name, column in self.constants.items()}
        return self

    def state_dict(self) -> dict[str, Any]:
        """Tensors and primitives; what only sampling and rewarding needed is left out."""
        steps = {name: values for name, values in vars(self.rollouts.steps).items() if values is not None}
        return {
            "number": self.rollout_step,
            "num_done": self.num_done,
            "problem_ids": list(self.problem_ids),
            "statistics": dict(self.statistics),
            "constants": dict(self.constants),
            "completions": list(self.rollouts.completions),
            "sources": list(self.rollouts.sources),
            "are_proofs": self.rollouts.episodes is not None,
            "correct_B": self.rollouts.correct_B,
            "rollouts": {name: getattr(self.rollouts, name) for name in INDICES} | steps,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RolloutWindow:
        """What ``state_dict`` described; the problems themselves follow with the next training batch."""
        held = dict(state["rollouts"])
        rollouts = Rollouts(
            problems=(),
            problem_index_B=held.pop("problem_index_B"),
            trajectory_index_N=held.pop("trajectory_index_N"),
            steps=StepBatch(**held),
            completions=tuple(state["completions"]),
            sources=tuple(state["sources"]),
            correct_B=state["correct_B"],
            episodes=(None,) * len(state["completions"]) if state.get("are_proofs") else None,
        )
        return cls(
            rollout_step=state["number"],
            problem_ids=tuple(state["problem_ids"]),
            rollouts=rollouts,
            layout=JoinedLayout(rollouts),
            constants=dict(state["constants"]),
            statistics=dict(state["statistics"]),
            num_done=state["num_done"],
        )


def part_bounds(num_units: int, part: int, num_parts: int) -> tuple[int, int]:
    """Where a part begins and ends if units are cut as evenly as whole numbers allow; empty parts are spread evenly."""
    return num_units * part // num_parts, num_units * (part + 1) // num_parts


def has_idle_step(num_units: int, updates: UpdateSettings, accumulate: int) -> bool:
    """True if some optimiser step on a rollout batch would see empty parts alone.

    Args:
        num_units: trajectories, or problems where groups stay together.
        updates: numbers of epochs and parts.
        accumulate: training batches an optimiser step.
    """
    bounds = [part_bounds(num_units, part, updates.num_minibatches) for part in range(updates.num_minibatches)]
    filled = [start < end for start, end in bounds] * updates.num_epochs
    return not all(any(filled[first : first + accumulate]) for first in range(0, len(filled), accumulate))


def _rows(name: str, column: Tensor, chosen_B: Tensor, width: int) -> Tensor:
    """Rows of a constant column, cut to the actions of the longest chosen trajectory; scalars stay."""
    if not column.dim():
        return column
    ends = {"BT": width, "BT1": width + 1}
    return column[chosen_B] if column.dim() == 1 else column[chosen_B, : ends[name.rsplit("_", 1)[1]]]
