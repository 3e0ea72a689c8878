"""Rewards, buffers and behaviour mixes are built from YAML by class path."""

from __future__ import annotations

import pytest
from jsonargparse import ArgumentError, ArgumentParser

from lightning_gfn.interfaces import Buffer, Reward
from lightning_gfn.rewards.function import FunctionReward
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rewards.schedules import Cosine
from lightning_gfn.rewards.weighted_sum import SumReward
from lightning_gfn.rollouts.behaviour import BehaviourMix

SUM = """
reward:
  class_path: lightning_gfn.rewards.weighted_sum.SumReward
  init_args:
    terms:
      likelihood:
        reward: {class_path: lightning_gfn.rewards.likelihood.ReferenceLikelihood}
        temperature: {class_path: lightning_gfn.rewards.schedules.Cosine, init_args: {start: 1.1, end: 0.5, steps: 150}}
      answer:
        reward: {class_path: lightning_gfn.rewards.answer_match.AnswerMatch}
        weight: 10
"""


@pytest.fixture
def parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--reward", type=Reward)
    parser.add_argument("--buffer", type=Buffer)
    parser.add_argument("--behaviour", type=BehaviourMix, default=BehaviourMix())
    return parser


def test_a_sum_with_numbers_and_schedules(parser: ArgumentParser) -> None:
    reward = parser.instantiate(parser.parse_string(SUM)).reward
    assert isinstance(reward, SumReward) and reward.needs_reference
    likelihood, answer = reward.summands["likelihood"], reward.summands["answer"]
    assert isinstance(likelihood.reward, ReferenceLikelihood) and likelihood.temperature == Cosine(1.1, 0.5, 150)
    assert likelihood.factor(0) == pytest.approx(1 / 1.1) and likelihood.factor(150) == pytest.approx(2.0)
    assert answer.factor(3) == 10.0


@pytest.mark.parametrize(
    ("right", "wrong"), [("weight: 10", "wieght: 10"), ("steps: 150", "step: 150"), ("AnswerMatch", "AnswersMatch")]
)
def test_misspelt_keys_fail(parser: ArgumentParser, right: str, wrong: str) -> None:
    assert right in SUM
    with pytest.raises(ArgumentError):
        parser.parse_string(SUM.replace(right, wrong))


def test_a_function_by_path(parser: ArgumentParser, tmp_path) -> None:
    (tmp_path / "mine.py").write_text("def f(completions, **columns):\n    return [0.0] * len(completions)\n")
    arguments = f"{{function: '{tmp_path}/mine.py:f'}}"
    text = f"reward: {{class_path: lightning_gfn.rewards.function.FunctionReward, init_args: {arguments}}}"
    reward = parser.instantiate(parser.parse_string(text)).reward
    assert isinstance(reward, FunctionReward) and reward.name == "f"


def test_a_buffer_and_a_behaviour_mix(parser: ArgumentParser) -> None:
    config = parser.parse_string(
        "buffer:\n"
        "  class_path: lightning_gfn.buffers.replay.ReplayBuffer\n"
        "  init_args: {duplicates: edit_distance, capacity: 7}\n"
        "behaviour: {on_policy: 0.25, tempered: 0.5, replay: 0.25, top_p: 0.9}"
    )
    objects = parser.instantiate(config)
    assert objects.buffer.capacity == 7 and objects.behaviour.tempered == 0.5
    with pytest.raises(ArgumentError):
        parser.parse_string(
            "buffer: {class_path: lightning_gfn.buffers.replay.ReplayBuffer, init_args: {eviction: newest}}"
        )
