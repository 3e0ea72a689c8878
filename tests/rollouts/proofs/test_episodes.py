"""Proof episodes against a written loop: one attempt after the other, one tactic after the other, one Lean."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats

from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.lean_types import Episode, LeanError, ProofFinished
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rollouts import keyed_random
from lightning_gfn.rollouts.keyed_random import keyed_uniforms
from lightning_gfn.rollouts.proofs import episode_runner
from lightning_gfn.types import Problem, Rollouts

Walk = tuple[Episode, list[tuple[list[int], list[int]]], list[float]]


def written(policy: Any, problem: Problem, sample: int, *, seed: int, step: int, max_steps: int = 3) -> Walk:
    """One attempt, without pool, sampler or threads: the episode, its contexts and actions, its log-probabilities."""
    lean, prompt = FakeLean(), ProofPrompt()
    assert problem.theorem is not None
    state = lean.start(problem.theorem)
    states: list[str] = []
    tactics: list[str] = []
    steps, log_pf = [], []
    while True:
        context = policy.encode_prompt(prompt(state.text, tactics))
        length = policy.max_new_tokens + 1
        uniforms = keyed_uniforms(
            "action",
            seed=seed,
            rollout_step=step,
            problem_ids=[problem.id],
            samples=[sample],
            turns=[len(tactics)],
            length=length,
        )
        sampled = policy.sample([context], torch.from_numpy(uniforms))
        action = sampled.action_ids_NT[0][sampled.action_mask_NT[0]].tolist()
        log_pf += sampled.behaviour_log_pf_NT[0][sampled.action_mask_NT[0]].tolist()
        steps.append((context, action))
        states.append(state.text)
        tactics.append(policy.decode(action))
        result = lean.run_tac(state, tactics[-1])
        if isinstance(result, ProofFinished):
            return Episode(tuple(states), tuple(tactics), "proved"), steps, log_pf
        if isinstance(result, LeanError):
            return (
                Episode(tuple(states), tuple(tactics), "error", result.message, error_kind=result.kind), steps, log_pf,
            )  # fmt: skip
        if len(tactics) == max_steps:
            return Episode(tuple(states), tuple(tactics), "unfinished", final_state=result.text), steps, log_pf
        state = result


def walks(policy: Any, rollouts: Rollouts) -> list[Walk]:
    """The same of a batch."""
    found: list[Walk] = []
    assert rollouts.episodes is not None and rollouts.behaviour_log_pf_NT is not None
    actions = rollouts.action_lists()
    for b, episode in enumerate(rollouts.episodes):
        assert episode is not None and rollouts.completions[b] == episode.script
        rows = (rollouts.trajectory_index_N == b).nonzero().squeeze(1).tolist()
        steps = [(rollouts.context_ids_NC[n][rollouts.context_mask_NC[n]].tolist(), actions[n]) for n in rows]
        log_pf = [float(p) for n in rows for p in rollouts.behaviour_log_pf_NT[n][rollouts.action_mask_NT[n]]]
        found.append((replace(episode, seconds=0.0), steps, log_pf))
    return found


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("workers", [1, 2])
def test_it_is_the_written_loop(tactic, theorems, make_proving, collect, length, workers) -> None:
    policy = tactic.TacticPolicy(max_new_tokens=length, stop_bonus=-2.0 if length == 1 else 1.0)
    rollouts = collect(policy, theorems, make_proving(workers=workers, max_steps=2), num_samples=40)
    expected = [
        written(policy, problem, sample, seed=1, step=4, max_steps=2) for problem in theorems for sample in range(40)
    ]
    assert walks(policy, rollouts) == expected
    kinds = {(walk[0].outcome, len(walk[1])) for walk in expected}
    assert {("proved", 1), ("error", 1), ("error", 2), ("unfinished", 2)} <= kinds
    assert length == 2 or ("proved", 2) in kinds
    assert rollouts.problem_index_B.tolist() == [0] * 40 + [1] * 40
    assert rollouts.trajectory_index_N.tolist() == sorted(rollouts.trajectory_index_N.tolist())
    assert rollouts.terms == {} and rollouts.correct_B is None


def test_a_forgotten_turn_is_noticed(policy, theorems, make_proving, collect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop above fails if every tactic of an attempt is drawn with the same numbers."""
    original = keyed_random._key
    expected = [written(policy, problem, sample, seed=1, step=4) for problem in theorems for sample in range(12)]
    monkeypatch.setattr(keyed_random, "_key", lambda *parts: original(*parts[:-1], 0))
    assert walks(policy, collect(policy, theorems, make_proving(), num_samples=12)) != expected


def test_the_history_is_part_of_the_context(policy, theorems, make_proving, collect, monkeypatch) -> None:
    expected = [written(policy, problem, sample, seed=1, step=4) for problem in theorems for sample in range(12)]
    forgetful = make_proving(prompt=ProofPrompt(history=False))
    assert walks(policy, collect(policy, theorems, forgetful, num_samples=12)) != expected


def test_samples_do_not_depend_on_the_batch_or_on_timing(tactic, theorems, make_proving, collect) -> None:
    policy = tactic.TacticPolicy(max_new_tokens=2, stop_bonus=1.0)
    whole = walks(policy, collect(policy, theorems, make_proving(), num_samples=8))
    slow = make_proving(workers=2, backend={"latency": 0.003}, min_rows=1, max_wait=0.0)
    assert walks(policy, collect(policy, theorems, slow, num_samples=8)) == whole
    patient = make_proving(min_rows=100, max_wait=None)
    turned = walks(policy, collect(policy, theorems[::-1], patient, num_samples=8))
    assert turned[8:] + turned[:8] == whole
    again = walks(policy, collect(policy, theorems, make_proving(), num_samples=4, attempt=1))
    assert again[:4] == whole[4:8], "a second attempt goes on where the first ended"
    assert walks(policy, collect(policy, theorems, make_proving(), num_samples=8, step=5)) != whole


def test_crashes_in_the_middle_change_nothing(tactic, theorems, make_proving, collect) -> None:
    policy = tactic.TacticPolicy(max_new_tokens=2, stop_bonus=1.0)
    whole = walks(policy, collect(policy, theorems, make_proving(), num_samples=8))
    proving = make_proving(backend={"crash_every": 7}, cache=0)
    assert walks(policy, collect(policy, theorems, proving, num_samples=8)) == whole
    assert proving.environment.counters()["restarts"] > 0, "it did crash"


def test_a_tactic_that_breaks_lean_is_an_error_of_that_attempt(policy, theorems, make_proving, collect) -> None:
    rollouts = collect(policy, theorems, make_proving(backend={"crash_on": ["exact hq"]}), num_samples=12)
    broken = [episode for episode in rollouts.episodes if "exact hq" in episode.tactics]
    assert broken and all(episode.error_kind == "fault" for episode in broken)
    assert {episode.error_kind for episode in rollouts.episodes} > {"fault"}


def test_a_proof_that_does_not_survive_the_check_is_an_error(policy, theorems, make_proving, collect) -> None:
    rollouts = collect(policy, theorems, make_proving(backend={"lie_on": ["left"]}), num_samples=20)
    lies = [episode for episode in rollouts.episodes if episode.tactics[0] == "left"]
    assert lies and all(episode.outcome == "error" and episode.error_kind == "unsound" for episode in lies)


def test_equal_tactics_are_asked_once(policy, theorems, make_proving, collect) -> None:
    proving = make_proving(cache=0)
    asked: list[tuple[str, tuple[str, ...], str]] = []
    run_tac = proving.environment.run_tac

    def counting(theorem, script, tactic):
        asked.append((theorem.name, tuple(script), tactic))
        return run_tac(theorem, script, tactic)

    proving.environment.run_tac = counting
    collect(policy, theorems, proving, num_samples=30)
    assert len(asked) == len(set(asked)) < 60


def test_the_policy_is_called_on_many_rows_at_once(policy, theorems, make_proving, collect) -> None:
    collect(policy, theorems, make_proving(min_rows=100, max_wait=None), num_samples=10)
    assert len(policy.calls) <= 3 and policy.calls[0] == 20
    policy.calls.clear()
    collect(policy, theorems, make_proving(), num_samples=10)
    assert policy.calls[0] >= 10 and sum(policy.calls) > 20


def test_a_slow_theorem_holds_up_no_other(policy, theorems, make_proving) -> None:
    """While one theorem's tactics hang, the other's attempts are played to their ends."""
    from concurrent.futures import Future

    from lightning_gfn.rollouts.keyed_sampling import KeyedDraw
    from lightning_gfn.rollouts.proofs.attempt import ProofAttempt

    proving = make_proving(min_rows=100)
    start, held = proving.environment.start, Future()
    attempts = [
        ProofAttempt(p, item.id, item.theorem, sample) for p, item in enumerate(theorems) for sample in range(5)
    ]

    def starting(theorem):
        return held if theorem.name == "conjunction" else start(theorem)

    real = start(theorems[0].theorem).result()
    proving.environment.start = starting
    seen: list[bool] = []

    def release() -> None:
        limit = time.monotonic() + 20.0
        while time.monotonic() < limit and not all(attempt.is_finished for attempt in attempts[5:]):
            time.sleep(0.01)
        seen.append(all(attempt.is_finished for attempt in attempts[5:]))
        held.set_result(real)

    watcher = threading.Thread(target=release)
    watcher.start()
    episode_runner.EpisodeRunner(policy, proving, KeyedDraw("action", 1, 4), "cpu", max_steps=3).run(attempts)
    watcher.join()
    assert seen == [True] and all(attempt.is_finished for attempt in attempts)


def test_a_state_that_is_too_long_ends_the_attempt(tactic, theorems, make_proving, collect) -> None:
    first = len(ProofPrompt()(FakeLean().start(theorems[0].theorem).text))
    policy = tactic.TacticPolicy(max_context=first)
    rollouts = collect(policy, theorems[:1], make_proving(), num_samples=20)
    outcomes = {(len(episode.tactics), episode.outcome, episode.error_kind) for episode in rollouts.episodes}
    assert (1, "error", "forbidden") in outcomes and (1, "proved", None) in outcomes
    assert all(number == 1 for number, _, _ in outcomes)


def test_frequencies_are_the_enumerated_probabilities(tactic, theorems, make_proving, collect) -> None:
    policy = tactic.TacticPolicy(stop_bonus=-3.0)
    tree = tactic.enumerated(policy, FakeLean(), theorems[0].theorem, 3)
    assert math.isclose(sum(p for p, _ in tree.values()), 1.0, abs_tol=1e-5) and len(tree) > 10
    count = 1500
    rollouts = collect(policy, theorems[:1], make_proving(), num_samples=count)
    drawn = Counter(episode.tactics for episode in rollouts.episodes)
    outcomes = {episode.tactics: episode.outcome for episode in rollouts.episodes}
    assert all(outcomes[script] == tree[script][1] for script in drawn)
    likely = [script for script, (p, _) in tree.items() if p * count >= 5]
    observed = [drawn[script] for script in likely]
    expected = [tree[script][0] * count for script in likely]
    rest = count - sum(observed), count - sum(expected)
    assert stats.chisquare([*observed, rest[0]], [*expected, rest[1]]).pvalue > 1e-3
    turned = [expected[-1], *expected[:-1]]
    assert stats.chisquare([*observed, rest[0]], [*turned, rest[1]]).pvalue < 1e-3, "the test sees other probabilities"
