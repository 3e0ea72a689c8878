"""Social welfare as a reward: that of the agents themselves, the same in every batch, and nothing for nonsense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.inference.incentive_rounds import IncentiveRounds
from lightning_gfn import cli
from lightning_gfn.mechanism.agents import AgentSettings
from lightning_gfn.mechanism.escape_room import EscapeRoom
from lightning_gfn.mechanism.learning import run_round
from lightning_gfn.rewards.welfare import SocialWelfare
from lightning_gfn.types import Problem, Rollouts, StepBatch

ROOM, AGENTS = EscapeRoom(), AgentSettings(updates=20, episodes=8, learning_rate=0.3)


def rollouts(*answers: tuple[str, str]) -> Rollouts:
    problems = tuple(Problem(f"p{b}", "?", metadata={"context": context}) for b, (context, _) in enumerate(answers))
    index, ones = torch.arange(len(answers)), torch.ones(len(answers), 1, dtype=torch.int64)
    steps = StepBatch(ones, ones.bool(), ones, ones.bool())
    texts = tuple(text for _, text in answers)
    return Rollouts(problems, index, index, steps, texts, ("on_policy",) * len(answers))


def log_rewards(reward: SocialWelfare, *answers: tuple[str, str]) -> list[float]:
    given = rollouts(*answers)
    terms, correct = reward.terms(given, None, prefixes=False)  # type: ignore[arg-type]
    assert correct is None
    return reward.combine(terms, given, 0).terminal_B.tolist()


def test_the_reward_is_the_welfare_of_agents_that_learned() -> None:
    reward = SocialWelfare(ROOM, AGENTS, temperature=20.0, unusable=-7.0)
    good, wrong, nonsense, range_ = log_rewards(
        reward, ("lever 2", "05000"), ("lever 1", "[0, 5, 0, 0, 0]"), ("lever 1", "five"), ("lever 1", "09000")
    )
    assert (nonsense, range_) == (-7.0, -7.0) and -1 < wrong < 0 < 3 < good < 7
    alike = run_round(ROOM, AGENTS, np.tile([0.0, 5, 0, 0, 0], (16, 1)), np.ones(16, int), np.random.default_rng(0))
    spread = alike.welfare_P.std() + 1e-9
    assert abs(good * 20 - alike.welfare) < 4 * spread


def test_equal_answers_have_equal_rewards_in_any_batch() -> None:
    together = log_rewards(SocialWelfare(ROOM, AGENTS), ("lever 1", "50000"), ("lever 1", "[5,0,0,0,0]"))
    alone = log_rewards(SocialWelfare(ROOM, AGENTS), ("lever 1", "50000"))
    other = log_rewards(SocialWelfare(ROOM, AGENTS, seed=1), ("lever 1", "50000"))
    assert together == alone * 2 and alone != other


def test_other_worlds_and_prefixes_are_refused() -> None:
    reward = SocialWelfare(ROOM, AGENTS)
    with pytest.raises(ValueError, match="incentive_rounds"):
        reward.try_on(Problem("p", "?", metadata={"context": "harvest"}))
    with pytest.raises(ValueError, match="whole answers"):
        reward.terms(rollouts(("lever 1", "00000")), None, prefixes=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="temperature"):
        SocialWelfare(ROOM, AGENTS, temperature=0.0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    principal = {"class_path": "lightning_gfn.mechanism.principals.bandits.UCB", "init_args": {"levels": 2}}
    content = {
        "world": {"class_path": "lightning_gfn.mechanism.escape_room.EscapeRoom"},
        "agents": {"updates": 1, "episodes": 2, "test_episodes": 1},
        "rounds": 12,
        "mlflow": None,
        "principals": {"ucb": principal},
    }
    (tmp_path / "world.yaml").write_text(json.dumps(content))
    folder = tmp_path / "run"
    command = ["govern", "--config", str(tmp_path / "world.yaml"), "--principal", "ucb", "--run_dir", str(folder)]
    assert cli.main(command) == 0
    return folder


def test_prompts_tell_rounds_of_a_run(run: Path) -> None:
    rounds = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    data = IncentiveRounds(run=str(run), history=3, num_train=30, prompt_template="{question}\n")
    problems = data.problems("train")
    lengths = set()
    for problem in problems:
        told = [line for line in problem.prompt.splitlines() if "-> reward" in line]
        own = [entry for entry in rounds if entry["context"] == problem.metadata["context"]]
        values = [round(entry["welfare"]) for entry in own]
        shown = [int(line.split("reward ")[1]) for line in told]
        assert shown == sorted(shown) and set(shown) <= set(values) and ROOM.rules in problem.prompt
        assert f"Active: {problem.metadata['context']}." in problem.prompt
        lengths.add(len(told))
    assert lengths == {0, 1, 2, 3} and {p.metadata["context"] for p in problems} == set(ROOM.space.contexts)
    assert ["-> reward" in problem.prompt for problem in data.problems("test")] == [False] * 3


def test_broken_runs_name_file_and_remedy(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="lightning-gfn govern"):
        IncentiveRounds(run=str(tmp_path / "none")).problems("train")
    with (run / "rounds.jsonl").open("a") as file:
        file.write('{"context": "lever 1"}\n')
    with pytest.raises(ValueError, match=r"rounds.jsonl, line 13: field 'incentives' is missing"):
        IncentiveRounds(run=str(run)).problems("train")
    (run / "world.json").write_text("{}")
    with pytest.raises(ValueError, match="world.json lacks 'rules'"):
        IncentiveRounds(run=str(run)).problems("train")
