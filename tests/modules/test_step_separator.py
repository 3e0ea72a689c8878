"""The ends of steps that an objective uses are those that the reward judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_gfn.interfaces import RewardNetwork
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.training_batch.columns import StepBoundaries
from lightning_gfn.objectives.subtb import ModifiedSubTB
from lightning_gfn.rewards.learned import LearnedReward
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.types import Problem

FLOOR = -10.0
PROBLEMS = [Problem(id=f"p{i}", prompt="x" * (i + 1), answer="1") for i in range(4)]


class Even(RewardNetwork):
    """Every step is as likely right as wrong."""

    is_calibrated = True

    def score_steps(self, prompts: Sequence[str], steps: Sequence[Sequence[str]], device: Any) -> list[list[float]]:
        return [[0.0] * len(solution) for solution in steps]


def learned(separator: str | None) -> LearnedReward:
    return LearnedReward(Even(), separator=separator, aggregate="last", floor=FLOOR)


def columns_of_a_step(make_policy: Any, make_trainer: Any, module_of: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """Columns that the objective was given in two training steps, and the texts of the prefixes."""
    policy = make_policy(allowed_tokens=["a", "\n"], max_new_tokens=12)
    module, seen = module_of(policy), list[dict[str, Any]]()
    remember = module.remember

    def watch(rollouts: Any, log_reward: Any) -> None:
        seen[-1]["actions"] = rollouts.action_lists()
        remember(rollouts, log_reward)

    class Watched(ModifiedSubTB):
        def prepare(self, columns: Any) -> dict[str, torch.Tensor]:
            seen.append(dict(columns))
            return super().prepare(columns)

    module.objective = Watched(level="step")
    module.remember = watch
    make_trainer(2).fit(module, DataLoader(PROBLEMS, batch_size=2, collate_fn=list))
    assert len(seen) == 2
    return [{**columns, "policy": policy} for columns in seen]


@pytest.mark.parametrize("separator", ["\n\n", "\n", "\n\na"])
def test_an_objective_uses_the_prefixes_that_the_reward_judged(
    make_policy: Any, make_trainer: Any, separator: str
) -> None:
    def module_of(policy: Any) -> GFlowNetModule:
        return GFlowNetModule(policy, ModifiedSubTB(level="step"), learned(separator), num_samples=16)

    inner = 0
    for columns in columns_of_a_step(make_policy, make_trainer, module_of):
        judged_BT1 = columns["log_reward_BT1"] > FLOOR
        for b, action in enumerate(columns["actions"]):
            texts = [columns["policy"].decode(action[:end]) for end in range(len(action) + 1)]
            counts = [text.count(separator) for text in texts]
            ends = [end for end in range(1, len(texts)) if counts[end] > counts[end - 1]]
            used = columns["step_mask_BT1"][b].nonzero().squeeze(1).tolist()
            assert used == sorted({0, *ends, len(action)})
            assert all(judged_BT1[b, end] for end in used if texts[end].strip())
            assert not any(judged_BT1[b, end] for end in range(len(action)) if end not in used)
            inner += len(set(ends) - {len(action)})
    assert inner >= 3


def test_a_planted_error_of_one_token_is_caught(make_policy: Any, make_trainer: Any, monkeypatch: Any) -> None:
    original = StepBoundaries.__call__

    def late(self: StepBoundaries, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return original(self, ids, mask).roll(1, dims=1)

    monkeypatch.setattr(StepBoundaries, "__call__", late)
    with pytest.raises(AssertionError):
        test_an_objective_uses_the_prefixes_that_the_reward_judged(make_policy, make_trainer, "\n\n")


def test_a_line_break_of_one_token_is_found_as_before(make_policy: Any) -> None:
    """One-token separators: the prefixes whose last token is the line break, the empty one and the whole action."""
    policy = make_policy()
    policy.build(())
    generator = torch.Generator().manual_seed(0)
    ids_NT = torch.randint(3, 259, (64, 40), generator=generator)
    line_break = policy.encode_completion("\n")[0]
    ids_NT[torch.rand(ids_NT.shape, generator=generator) < 0.2] = line_break
    lengths_N = torch.randint(0, 41, (64,), generator=generator)
    mask_NT = torch.arange(40) < lengths_N[:, None]
    expected = torch.nn.functional.pad((ids_NT == line_break) & mask_NT, (1, 0), value=True)
    expected[torch.arange(64), lengths_N] = True
    assert torch.equal(StepBoundaries(policy)(ids_NT, mask_NT), expected)


def test_the_module_takes_the_separator_of_the_reward(make_policy: Any) -> None:
    objective, likelihood = ModifiedSubTB(level="step"), ReferenceLikelihood()
    summed = SumReward({"l": WeightedReward(likelihood), "p": WeightedReward(learned("\n\n"))})
    for reward, separator, expected in (
        (learned(None), None, "\n"), (learned("\n\n"), None, "\n\n"), (learned("\n\n"), "\n\n", "\n\n"),
        (summed, None, "\n\n"), (likelihood, None, "\n"), (likelihood, ". ", ". "),
    ):  # fmt: skip
        module = GFlowNetModule(make_policy(), objective, reward, separator=separator)
        assert module.boundaries.separator == module.boundaries.ends.separator == expected


def test_two_separators_are_refused_before_a_model_is_loaded(make_policy: Any) -> None:
    policy = make_policy()
    with pytest.raises(ValueError, match=r"model.separator is '\\n\\n'.*LearnedReward.*'\\n'.*Remove model.separator"):
        GFlowNetModule(policy, ModifiedSubTB(level="step"), learned("\n"), separator="\n\n")
    with pytest.raises(ValueError, match="reads no ends of steps: set its level to step, or remove model.separator"):
        GFlowNetModule(policy, ModifiedSubTB(), learned("\n"), separator="\n")
    with pytest.raises(ValueError, match="model.separator is empty"):
        GFlowNetModule(policy, ModifiedSubTB(level="step"), ReferenceLikelihood(), separator="")
    assert policy.model is None
