"""Which problems of a training batch are sampled: those whose log Z says that they are neither easy nor hard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_gfn.interfaces import Objective
from lightning_gfn.objectives.flowrl import FlowRL
from lightning_gfn.padding import pad_steps
from lightning_gfn.policies.heads import Head
from lightning_gfn.policies.models.evaluation_mode import evaluation_mode
from lightning_gfn.rollouts.rollout_batch import RolloutBatch
from lightning_gfn.types import Problem

if TYPE_CHECKING:
    from lightning_gfn.modules.rollout import RolloutModule


@dataclass(frozen=True)
class ProblemSelection:
    """PACED-RL's choice of problems: of each training batch the ones whose estimated accuracy is nearest to a target.

        p̂(x) = log Z(x) / β,    sampled: the ``keep`` problems with the smallest |p̂(x) - target|

    ``data.batch_size`` is the number of candidates; of equally near ones those that come first are taken, and the
    order of the batch stays. A batch of at most ``keep`` problems is taken as it is, without a pass over its prompts.
    Only chosen problems cost samples, but the data are gone through as much faster. Every process chooses among its own
    candidates.

    Args:
        keep: problems that are sampled, of each process's training batch.
        target: accuracy to be near to, 0 to 1.

    Raises:
        ValueError: a number is out of range.

    Source: Kim et al. 2026, arXiv:2602.12642 (PACED-RL), read in public notes on the paper: greedy choice of the
    problems nearest to 0.5. Its second part, replay of right trajectories by |observed - estimated accuracy|, is not
    here.
    """

    keep: int
    target: float = 0.5

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ValueError(f"selection.keep is {self.keep}, expected at least 1 problem")
        if not 0.0 <= self.target <= 1.0:
            raise ValueError(f"selection.target is {self.target}, expected an accuracy from 0 to 1")

    def nearest(self, accuracy_P: Sequence[float]) -> list[int]:
        """Places of the chosen candidates, in order.

        Args:
            accuracy_P: estimate of each candidate.
        """
        ranked = sorted(range(len(accuracy_P)), key=lambda place: abs(accuracy_P[place] - self.target))
        return sorted(ranked[: self.keep])


def check_selection(objective: Objective, head: Head | None, *, proofs: bool, asynchronous: bool) -> None:
    """Refuse to choose problems where nothing says how hard they are.

    Args:
        objective: of the module.
        head: of the module.
        proofs: problems are theorems.
        asynchronous: actors sample coming batches before the trainer reads them.

    Raises:
        ValueError: names the setting and the remedy.
    """
    if not isinstance(objective, FlowRL) or head is None or "log_z_B" not in head.provides:
        raise ValueError(
            "model.selection chooses problems by a learned log Z: set model.objective to FlowRL with prior: old and "
            "reward_scale: none and model.head to LogZHead, or remove model.selection"
        )
    objective.mean_reward(torch.zeros(0))
    if proofs:
        raise ValueError("model.selection reads log Z of a prompt, and theorems have many: remove model.selection")
    if asynchronous:
        raise ValueError(
            "model.selection needs the newest log Z, but model.asynchronous samples coming batches before: remove one"
        )


@torch.no_grad()
def estimated_accuracy(module: RolloutModule, problems: Sequence[Problem]) -> Tensor:
    """log Z / β of each problem under the present weights, (P,), from a pass over the prompts alone.

    Args:
        module: with a FlowRL objective and a log Z head.
        problems: the candidates.
    """
    assert isinstance(module.objective, FlowRL) and module.head is not None
    contexts = [module.policy.encode_prompt(problem.prompt) for problem in problems]
    steps = pad_steps(contexts, [[]] * len(problems), module.device)
    with module.whole_weights(), evaluation_mode(module):
        _, log_z_P = module.policy.score_and_read(steps, module.head.read, hidden=module.head.needs_hidden)
    return module.objective.mean_reward(log_z_P)


def chosen_problems(module: RolloutModule, batch: list[Problem]) -> list[Problem]:
    """The problems of a training batch that are sampled, or were when the rollout batch that is held was opened."""
    if module.window is not None:
        held = set(module.window.problem_ids)
        return [problem for problem in batch if problem.id in held]
    assert module.selection is not None
    module.estimates = {}
    if len(batch) <= module.selection.keep:
        return batch
    accuracy_P = estimated_accuracy(module, batch).tolist()
    places = module.selection.nearest(accuracy_P)
    module.estimates = {batch[place].id: accuracy_P[place] for place in places}
    return [batch[place] for place in places]


def selection_statistics(estimates: dict[str, float], drawn: RolloutBatch) -> dict[str, float]:
    """Mean estimate of the chosen problems, and its mean distance from the mean reward of their samples.

    Args:
        estimates: p̂ of each chosen problem; nothing is said where it is empty.
        drawn: their trajectories and rewards.
    """
    if not estimates:
        return {}
    rewards: dict[str, list[float]] = {}
    for p, reward in zip(drawn.rollouts.problem_index_B.tolist(), drawn.log_reward.terminal_B.tolist(), strict=True):
        rewards.setdefault(drawn.rollouts.problems[p].id, []).append(reward)
    apart = [abs(sum(own) / len(own) - estimates[name]) for name, own in rewards.items()]
    return {
        "estimated_accuracy": sum(estimates.values()) / len(estimates),
        "estimated_accuracy_error": sum(apart) / len(apart),
    }
