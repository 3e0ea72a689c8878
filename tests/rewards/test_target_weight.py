"""The target as a reward: of completions, of prefixes, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from lightning_gfn.padding import pad_steps
from lightning_gfn.rewards.target import TargetWeight
from lightning_gfn.types import Problem, Rollouts


class Digits:
    """A policy whose tokens are digits."""

    def decode(self, ids: list[int]) -> str:
        return "".join(map(str, ids))


def rollouts(target: dict[str, float] | None) -> Rollouts:
    actions = [[1], [1, 2], [0, 1, 2], []]
    return Rollouts(
        problems=(Problem(id="p", prompt="x", target=target),),
        problem_index_B=torch.zeros(4, dtype=torch.int64),
        trajectory_index_N=torch.arange(4),
        steps=pad_steps([[9]] * 4, actions, "cpu"),
        completions=tuple("".join(map(str, action)) for action in actions),
        sources=("on_policy",) * 4,
    )


def test_completions_and_prefixes_are_looked_up() -> None:
    reward, given = TargetWeight(otherwise=-9.0), rollouts({"1": -1.0, "12": -2.0, "0": -3.0})
    terms, correct = reward.terms(given, Digits(), prefixes=False)  # type: ignore[arg-type]
    assert terms["log_target"].tolist() == [-1.0, -2.0, -9.0, -9.0]
    assert correct is not None and correct.tolist() == [True, True, False, False]
    terms, _ = reward.terms(given, Digits(), prefixes=True)  # type: ignore[arg-type]
    assert terms["log_target"][1, :3].tolist() == [-9.0, -1.0, -2.0]
    assert terms["log_target"][2].tolist() == [-9.0, -3.0, -9.0, -9.0]
    combined = reward.combine(terms, given, 0)
    assert combined.terminal_B.tolist() == [-1.0, -2.0, -9.0, -9.0] and combined.prefix_BT1 is not None


def test_data_without_a_target_are_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(ValueError, match="problem 'p' has no target distribution"):
        TargetWeight().try_on(Problem(id="p", prompt="x"))
    with pytest.raises(ValueError, match="otherwise is -inf"):
        TargetWeight(otherwise=-float("inf"))
