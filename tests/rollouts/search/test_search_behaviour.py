"""Trajectories of a search: proofs first, then the most probable failures, as sampling could have made them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.rollouts.search.best_first import BestFirst
from lightning_gfn.rollouts.search.mcts import MCTS
from lightning_gfn.rollouts.search.search_behaviour import SearchBehaviour
from lightning_gfn.rollouts.search.search_result import SearchBudget
from lightning_gfn.types import Problem

BEHAVIOUR = SearchBehaviour(branching=6, budget=SearchBudget(nodes=20, proofs=3))


def script_log_prob(policy: Any, proving: Proving, worlds: Any, episode: Any) -> float:
    total = 0.0
    for n, (state, tactic) in enumerate(zip(episode.states, episode.tactics, strict=True)):
        prompt = proving.proof_prompt(state, episode.tactics[:n])
        total += float(policy.log_q(policy.encode_prompt(prompt))[worlds.LETTERS.index(tactic)])
    return total


@pytest.mark.parametrize("algorithm", [BestFirst(), MCTS()])
def test_episodes_are_what_the_environment_says(worlds: Any, algorithm: Any) -> None:
    policy, world = worlds.LetterPolicy(), worlds.random_world(4, proofs=0.05)
    proving = Proving(world, max_steps=3)
    problems: list[Problem] = [worlds.make_problem(f"t{n}") for n in range(6)]
    found = replace(BEHAVIOUR, algorithm=algorithm).find(policy, problems, 8, proving, seed=1, rollout_step=2)
    outcomes = set()
    for problem, row in zip(problems, found.episodes, strict=True):
        assert 0 < len(row) <= 8 and len({(e.episode.tactics, e.episode.outcome) for e in row}) == len(row)
        for one in row:
            episode = one.episode
            assert one.actions is None and 1 <= len(episode.tactics) <= 3
            walked = [world.walk(problem.theorem, episode.tactics[:n]) for n in range(len(episode.tactics) + 1)]
            assert list(episode.states) == walked[:-1]
            expected = {None: "error", "proved": "proved"}.get(walked[-1], "unfinished")
            assert episode.outcome == expected
            assert expected != "unfinished" or (len(episode.tactics) == 3 and episode.final_state == walked[-1])
            outcomes.add(expected)
        kinds = [one.episode.outcome == "proved" for one in row]
        assert kinds == sorted(kinds, reverse=True), "proofs come first"
        failures = [one.episode for one in row if one.episode.outcome != "proved"]
        log_probs = [script_log_prob(policy, proving, worlds, episode) for episode in failures]
        assert log_probs == sorted(log_probs, reverse=True)
    assert outcomes == {"error", "proved", "unfinished"}
    assert found.costs["environment_steps"] == len(world.asked)
    assert found.costs["generated_tokens"] == sum(policy.calls)


def test_numbers_failures_and_keys(worlds: Any) -> None:
    policy, world = worlds.LetterPolicy(), worlds.random_world(4, proofs=0.05)
    proving, problems = Proving(world, max_steps=3), [worlds.make_problem(f"t{n}") for n in range(6)]

    def found(behaviour: SearchBehaviour = BEHAVIOUR, num: int = 4, seed: int = 1, step: int = 2) -> Any:
        return behaviour.find(policy, problems, num, proving, seed=seed, rollout_step=step).episodes

    first = [[one.episode.tactics for one in row] for row in found()]
    assert first == [[one.episode.tactics for one in row] for row in found()]
    assert first != [[one.episode.tactics for one in row] for row in found(step=3)]
    assert first != [[one.episode.tactics for one in row] for row in found(seed=2)]
    proofs = found(replace(BEHAVIOUR, failures=False))
    assert all(one.episode.outcome == "proved" for row in proofs for one in row) and any(proofs)
    assert max(len(row) for row in found(num=1)) == 1
