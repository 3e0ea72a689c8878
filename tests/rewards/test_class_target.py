"""Targets over classes: written loops, exact, counted and running probabilities, replay, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lettered_task import class_of, is_right, lettered_policy, lettered_problem, log_p_ref, strings

from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.class_targets.class_target import ClassTarget
from lightning_gfn.rewards.class_targets.constant import ConstantWhenRight
from lightning_gfn.rewards.class_targets.counted import CountedProbabilities
from lightning_gfn.rewards.class_targets.probabilities import (
    KnownProbabilities,
    Observation,
    RunningProbabilities,
    class_key,
)
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rewards.schedules import Linear
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.solution_classes.equations import EquationClasses
from lightning_gfn.types import Problem, Rollouts

LENGTH = 4
TEXTS = ["a", "ba", "bba", "abba", "dc", "", "caab"]


@pytest.fixture
def policy() -> Any:
    return lettered_policy(LENGTH)


@pytest.fixture
def rollouts(make_rollouts: Any) -> Rollouts:
    return make_rollouts([lettered_problem(LENGTH)], TEXTS, [0] * len(TEXTS))


def class_shares(policy: Any) -> dict[str, float]:
    shares: dict[str, float] = {}
    for text in strings(LENGTH):
        if is_right(text):
            shares[class_of(text)] = shares.get(class_of(text), 0.0) + math.exp(log_p_ref(policy, text))
    return shares


@pytest.mark.parametrize("prefixes", [False, True])
@pytest.mark.parametrize("step", [0, 5])
def test_log_rewards_equal_a_written_loop(prefixes: bool, step: int, policy: Any, rollouts: Rollouts) -> None:
    reward = ClassTarget(
        probabilities=KnownProbabilities(max_rows=7),
        alpha=Linear(0.0, 1.0, 10),
        beta=4.0,
        temperature=Linear(2.0, 1.0, 10),
        epsilon=0.02,
    )
    shares = class_shares(policy)
    assert min(shares.values()) < 0.02 < max(shares.values())

    def by_hand(text: str) -> float:
        alpha, temperature = step / 10, 2.0 - step / 10
        value = log_p_ref(policy, text) / temperature
        return value + 4.0 - alpha * math.log(max(shares[class_of(text)], 0.02)) if is_right(text) else value

    terms, correct_B = reward.terms(rollouts, policy, prefixes=prefixes)
    assert correct_B is not None and correct_B.tolist() == [is_right(text) for text in TEXTS]
    found = reward.combine(terms, rollouts, step)
    assert found.terminal_B.tolist() == pytest.approx([by_hand(text) for text in TEXTS], abs=1e-4)
    if prefixes:
        assert found.prefix_BT1 is not None
        for row, text in zip(found.prefix_BT1.tolist(), TEXTS, strict=True):
            assert row[: len(text) + 1] == pytest.approx([by_hand(text[:n]) for n in range(len(text) + 1)], abs=1e-4)


def test_known_probabilities_add_up_to_that_of_being_right(policy: Any) -> None:
    known = KnownProbabilities()
    problem = lettered_problem(LENGTH)
    known.prepare([problem], policy, ClassTarget().classes, "cpu")
    shares = class_shares(policy)
    assert known.values(problem, list(shares)) == pytest.approx(
        [math.log(share) for share in shares.values()], abs=1e-4
    )
    before = policy.score_rows
    known.prepare([problem], policy, ClassTarget().classes, "cpu")
    assert policy.score_rows == before, "each problem is scored once"


class FirstLetters(SolutionClasses):
    """No class for what begins with c."""

    name = "first_letter"

    def labels(self, problem: Problem, completions: Any) -> list[str | None]:
        return [None if text.startswith("c") else text[:1] for text in completions]


def test_right_completions_without_a_class_keep_their_weight(policy: Any, make_rollouts: Any) -> None:
    rollouts = make_rollouts([lettered_problem(LENGTH)], ["ca", "ba"], [0, 0])
    reward = ClassTarget(FirstLetters(), KnownProbabilities(), beta=1.0, epsilon=1e-6)
    terms, _ = reward.terms(rollouts, policy, prefixes=False)
    found = reward.combine(terms, rollouts, 0).terminal_B.tolist()
    assert found[0] == pytest.approx(log_p_ref(policy, "ca") + 1.0, abs=1e-4)
    assert found[1] > log_p_ref(policy, "ba") + 1.0


def sampled(policy: Any, count: int, temperature: float, problem: Problem) -> Rollouts:
    context = policy.encode_prompt(problem.prompt)
    uniforms = torch.rand(count, LENGTH + 1, generator=torch.Generator().manual_seed(3))
    drawn = policy.sample([context] * count, uniforms, temperature_N=torch.full((count,), temperature))
    ids = [row[mask].tolist() for row, mask in zip(drawn.action_ids_NT, drawn.action_mask_NT, strict=True)]
    from lightning_gfn.padding import pad_steps

    return Rollouts(
        problems=(problem,),
        problem_index_B=torch.zeros(count, dtype=torch.int64),
        trajectory_index_N=torch.arange(count),
        steps=pad_steps([context] * count, ids, "cpu"),
        completions=tuple(map(policy.decode, ids)),
        sources=("tempered",) * count,
        behaviour_log_pf_NT=drawn.behaviour_log_pf_NT,
        behaviour_log_pstop_N=torch.where(drawn.action_mask_NT.sum(1) == LENGTH, 0.0, drawn.behaviour_log_pstop_N),
    )


@pytest.mark.parametrize("error", [None, "unweighted"])
def test_running_probabilities_come_to_the_exact_ones(error: str | None, policy: Any) -> None:
    problem = lettered_problem(LENGTH)
    reward = ClassTarget(probabilities=RunningProbabilities())
    assert isinstance(reward.probabilities, RunningProbabilities)
    for temperature in (1.0, 1.5):
        rollouts = sampled(policy, 4000, temperature, problem)
        terms, _ = reward.terms(rollouts, policy, prefixes=False)
        observations = reward.observations(terms, rollouts)
        if error is not None:
            observations = [Observation(seen.problem_id, seen.key, 0.0) for seen in observations]
        reward.learn(observations)
    shares = class_shares(policy)
    found = {name: math.exp(reward.probabilities.log_prob("p", class_key(name))) for name in shares}
    distance = max(abs(found[name] - share) for name, share in shares.items())
    assert distance < 0.02 if error is None else distance > 0.05


def test_stored_terms_meet_the_present_estimate(policy: Any, rollouts: Rollouts) -> None:
    reward = ClassTarget(probabilities=RunningProbabilities(pooling=0.0), alpha=1.0, beta=0.0, epsilon=0.01)
    terms, _ = reward.terms(rollouts, policy, prefixes=True)
    log_p = terms["log_p_ref"]
    nothing = reward.combine(terms, rollouts, 0)
    assert nothing.prefix_BT1 is not None and torch.equal(nothing.prefix_BT1, log_p), "nothing is known yet"
    first = reward.schedule_values(0)
    reward.learn([Observation("p", class_key("0 b"), 0.0), Observation("p", class_key("1 b"), math.log(3.0))])
    assert reward.schedule_values(0) != first
    found = (reward.combine(terms, rollouts, 0).terminal_B - rollouts.at_last_prefix(log_p)).tolist()
    expected = [math.log(4.0), math.log(4.0 / 3.0), math.log(100.0), math.log(100.0), 0.0, 0.0, 0.0]
    assert found == pytest.approx(expected, abs=1e-4)
    again = ClassTarget(probabilities=RunningProbabilities(pooling=0.0), alpha=1.0, beta=0.0, epsilon=0.01)
    again.load_state_dict(reward.state_dict())
    assert torch.equal(again.combine(terms, rollouts, 0).terminal_B, reward.combine(terms, rollouts, 0).terminal_B)


@pytest.mark.parametrize("pooling", [0.0, 2.0, 1e9])
def test_problems_share_what_was_seen_of_classes(pooling: float) -> None:
    weights = {("p", "a"): 1.5, ("p", "b"): 0.5, ("q", "a"): 2.0, ("q", None): 4.0}
    running = RunningProbabilities(pooling)
    assert running.log_prob("p", class_key("a")) == 0.0, "nothing is known"
    running.learn(Observation(p, class_key(label), math.log(w)) for (p, label), w in weights.items())
    whole = sum(weights.values())
    for problem in ("p", "q", "new"):
        for label in ("a", "b", "c"):
            own = sum(w for (p, name), w in weights.items() if p == problem and name == label)
            every = sum(w for (_, name), w in weights.items() if name == label) / whole
            below = sum(w for (p, _), w in weights.items() if p == problem) + pooling
            expected = (own + pooling * every) / below if below else 1.0
            assert math.exp(running.log_prob(problem, class_key(label))) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=r"pooling is -1"):
        RunningProbabilities(-1.0)


def test_replayed_trajectories_are_not_counted_again(policy: Any) -> None:
    from dataclasses import replace

    reward = ClassTarget()
    drawn = sampled(policy, 6, 1.0, lettered_problem(LENGTH))
    mixed = replace(drawn, sources=("replay", "on_policy", "reference", "tempered", "replay", "on_policy"))
    terms, _ = reward.terms(mixed, policy, prefixes=False)
    assert len(reward.observations(terms, mixed)) == 3
    assert ClassTarget(probabilities=KnownProbabilities()).observations(terms, mixed) == []


def test_a_sum_hands_observations_to_its_summand(policy: Any, rollouts: Rollouts) -> None:
    whole = SumReward({"target": WeightedReward(ClassTarget()), "more": WeightedReward(ReferenceLikelihood())})
    assert whole.learns and not SumReward({"answer": WeightedReward(AnswerMatch())}).learns
    terms, _ = whole.terms(rollouts, policy, prefixes=False)
    whole.learn([("target", Observation("p", class_key("0 b"), 0.0))])
    other = SumReward({"target": WeightedReward(ClassTarget()), "more": WeightedReward(ReferenceLikelihood())})
    other.load_state_dict(whole.state_dict())
    assert torch.equal(other.combine(terms, rollouts, 0).terminal_B, whole.combine(terms, rollouts, 0).terminal_B)


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_counted_probabilities_are_smoothed_shares(tmp_path: Path, policy: Any) -> None:
    drawn = ["a", "ca", "ba", "dc", "bb", "a"]
    rows = [{"problem_id": "p", "completion": text, "correct": is_right(text)} for text in drawn]
    problem = lettered_problem(LENGTH)
    counted = CountedProbabilities(written(tmp_path / "predictions.jsonl", rows), smoothing=0.5)
    counted.prepare([problem], policy, ClassTarget().classes, "cpu")
    whole = 6 + 0.5 * 3
    found = counted.values(problem, ["0 b", "1 b", "2 b", None])
    assert [math.exp(value) for value in found] == pytest.approx([3.5 / whole, 1.5 / whole, 0.5 / whole, 1.0])
    exact = CountedProbabilities(counted.path, smoothing=0.0)
    exact.prepare([problem], policy, ClassTarget().classes, "cpu")
    assert exact.values(problem, ["0 b", "2 b"]) == [pytest.approx(math.log(0.5)), -1e30]


def test_what_cannot_be_counted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"reward.probabilities.path: .*nowhere.* does not exist"):
        CountedProbabilities("nowhere.jsonl")
    with pytest.raises(ValueError, match="smoothing is -1"):
        CountedProbabilities(written(tmp_path / "some.jsonl", []), smoothing=-1.0)
    path = written(tmp_path / "bad.jsonl", [{"problem_id": "p", "completion": "a"}])
    with pytest.raises(ValueError, match=r"bad.jsonl:1: no field 'correct'; expected problem_id"):
        CountedProbabilities(path).read()
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"broken.jsonl:1: not a line of JSON"):
        CountedProbabilities(str(tmp_path / "broken.jsonl")).read()
    path = written(tmp_path / "other.jsonl", [{"problem_id": "q", "completion": "a", "correct": True}])
    with pytest.raises(ValueError, match=r"no samples of the training problem 'p'"):
        ClassTarget(probabilities=CountedProbabilities(path)).try_on(lettered_problem(2))


def test_settings_that_make_no_target_are_refused(policy: Any, rollouts: Rollouts) -> None:
    class Clusters(FirstLetters):
        is_pointwise = False

    with pytest.raises(ValueError, match="ClassTarget compares classes of several batches, and Clusters numbers"):
        ClassTarget(Clusters())
    with pytest.raises(ValueError, match=r"reward.epsilon is 0.0"):
        ClassTarget(epsilon=0.0)
    with pytest.raises(ValueError, match=r"reward.temperature is 0.0 at optimiser step 0"):
        ClassTarget(temperature=0.0)
    with pytest.raises(ValueError, match="does not know its solutions"):
        ClassTarget(EquationClasses(), KnownProbabilities()).try_on(Problem("q", "x", answer="1"))
    with pytest.raises(ValueError, match="does not say which completions are right"):
        ClassTarget(success=ReferenceLikelihood()).terms(rollouts, policy, prefixes=False)
    with pytest.raises(ValueError, match=r"the reward term 'class_key' is missing"):
        ClassTarget().combine({"correct": torch.ones(1), "log_p_ref": torch.ones(1)}, rollouts, 0)
    with pytest.raises(ValueError, match=r"reward.constant is nan"):
        ConstantWhenRight(math.nan)


@pytest.mark.parametrize("prefixes", [False, True])
def test_constant_when_right_is_the_likelihood_elsewhere(prefixes: bool, policy: Any, rollouts: Rollouts) -> None:
    reward = ConstantWhenRight(2.0, FirstLetters())
    terms, _ = reward.terms(rollouts, policy, prefixes=prefixes)
    found = reward.combine(terms, rollouts, 0)

    def by_hand(text: str) -> float:
        return 2.0 if is_right(text) and not text.startswith("c") else log_p_ref(policy, text)

    assert found.terminal_B.tolist() == pytest.approx([by_hand(text) for text in TEXTS], abs=1e-4)
    if prefixes:
        assert found.prefix_BT1 is not None
        for row, text in zip(found.prefix_BT1.tolist(), TEXTS, strict=True):
            assert row[: len(text) + 1] == pytest.approx([by_hand(text[:n]) for n in range(len(text) + 1)], abs=1e-4)
