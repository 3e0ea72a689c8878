"""Best-first search: against a written sequential search, budgets, transposition, repeatability, checks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from lightning_gfn.environments.fake import FakeLean
from lightning_gfn.environments.pool import LeanPool
from lightning_gfn.lean_types import Theorem
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rollouts.search.best_first import BestFirst
from lightning_gfn.rollouts.search.mcts import MCTS
from lightning_gfn.rollouts.search.proof_search import SearchSettings, search_proofs
from lightning_gfn.rollouts.search.search_result import SearchBudget, SearchResult
from lightning_gfn.rollouts.search.tactic_generator import ProposalRequest, SampledTactics
from lightning_gfn.types import Problem

STATE_ONLY = ProofPrompt(history=False)
SETTINGS = SearchSettings(branching=5, budget=SearchBudget(nodes=30), seed=3)


def problems_of(worlds: Any, count: int = 8) -> list[Any]:
    return [worlds.make_problem(f"t{n}") for n in range(count)]


def facts(result: SearchResult) -> tuple[Any, ...]:
    """A result without its times."""
    proofs = [(p.script, round(p.log_prob, 9), p.nodes, p.environment_steps) for p in result.proofs]
    counts = (result.nodes, result.environment_steps, result.errors, result.unsound, result.states)
    return result.problem.id, result.status, proofs, counts


def written_search(policy: Any, world: Any, problem: Any, settings: SearchSettings, prompt: ProofPrompt) -> Any:
    """The same search in a plain loop over lists: the best state is looked up by scanning all of them."""
    merge, depth = settings.algorithm.transposition, settings.max_depth  # type: ignore[attr-defined]
    open_states: list[list[Any]] = [[0.0, (), "s0"]]
    closed: list[Any] = []
    seen, nodes, steps, errors = {"s0"}, 0, 0, 0
    while open_states and nodes < settings.budget.nodes:
        best = max(open_states, key=lambda entry: entry[0])  # the first of equal ones
        open_states.remove(best)
        log_prob, script, state = best
        closed.append(state if merge else script)
        nodes += 1
        request = ProposalRequest(prompt(state, script), "\n".join((problem.id, *script)))
        [row] = settings.proposals.propose(policy, [request], settings.branching, seed=settings.seed)
        proof = None
        for proposal in row.tactics:
            steps += 1
            after = world.rule(problem.theorem.name, state, proposal.tactic)
            errors += after is None
            new = [log_prob + proposal.log_prob, (*script, proposal.tactic), after]
            if after == "proved":
                proof = proof or new
            elif after is not None:
                seen.add(after)
                twins = [entry for entry in open_states if merge and entry[2] == after]
                if len(new[1]) >= depth or (merge and after in closed) or any(t[0] >= new[0] for t in twins):
                    continue
                open_states = [entry for entry in open_states if entry not in twins] + [new]
        if proof is not None:
            found = [(proof[1], round(proof[0], 9), nodes, steps)]
            return problem.id, "proved", found, (nodes, steps, errors, 0, len(seen))
    status = "budget" if open_states else "exhausted"
    return problem.id, status, [], (nodes, steps, errors, 0, len(seen))


@pytest.mark.parametrize("transposition", [True, False])
@pytest.mark.parametrize("prompt", [ProofPrompt(), STATE_ONLY])
@pytest.mark.parametrize("max_depth", [3, 12])
def test_it_is_the_written_search(worlds: Any, transposition: bool, prompt: ProofPrompt, max_depth: int) -> None:
    settings = replace(SETTINGS, algorithm=BestFirst(transposition=transposition), max_depth=max_depth)
    statuses = set()
    for seed in range(4):
        policy, world = worlds.LetterPolicy(), worlds.random_world(seed, proofs=0.01)
        problems = problems_of(worlds)
        found = [facts(r) for r in search_proofs(policy, world, prompt, problems, settings)]
        assert found == [written_search(policy, world, p, settings, prompt) for p in problems]
        statuses |= {status for _, status, _, _ in found}
    assert "proved" in statuses and len(statuses) >= 2


@pytest.mark.parametrize("algorithm", [BestFirst(), MCTS(), MCTS(parallel=4, backup="max")])
def test_batching_threads_and_overlap_change_nothing(worlds: Any, algorithm: Any) -> None:
    problems = problems_of(worlds)
    settings = replace(SETTINGS, algorithm=algorithm)
    found = []
    for options in ({}, {"concurrent": 1}, {"concurrent": 3, "overlap": False}):
        for delay in (0.0, 0.002):
            world = worlds.random_world(1)
            world = worlds.World(world.rule, delay=delay)
            results = search_proofs(worlds.LetterPolicy(), world, ProofPrompt(), problems, replace(settings, **options))
            found.append([facts(r) for r in results])
    assert all(other == found[0] for other in found[1:])
    other_seed = search_proofs(
        worlds.LetterPolicy(), worlds.random_world(1), ProofPrompt(), problems, replace(settings, seed=4)
    )
    assert [facts(r) for r in other_seed] != found[0]


def test_policy_calls_are_batched_over_theorems(worlds: Any) -> None:
    policy = worlds.LetterPolicy()
    settings = replace(SETTINGS, budget=SearchBudget(nodes=4), overlap=False)
    search_proofs(policy, worlds.World.of({}), ProofPrompt(), problems_of(worlds), settings)
    assert policy.calls == [8 * 5]


@pytest.mark.parametrize("algorithm", [BestFirst(), MCTS(), MCTS(parallel=3)])
def test_a_large_budget_tells_the_result_of_every_smaller_one(worlds: Any, algorithm: Any) -> None:
    policy, world, problems = worlds.LetterPolicy(), worlds.random_world(2), problems_of(worlds, 12)
    settings = replace(SETTINGS, algorithm=algorithm, branching=3, budget=SearchBudget(nodes=40))
    large = search_proofs(policy, world, ProofPrompt(), problems, settings)
    proved = []
    for nodes in (1, 2, 5, 11, 23, 40):
        small = search_proofs(policy, world, ProofPrompt(), problems, replace(settings, budget=SearchBudget(nodes)))
        assert [r.is_proved for r in small] == [r.is_proved_within(nodes) for r in large]
        assert all(r.nodes <= nodes for r in small)
        proved.append(sum(r.is_proved for r in small))
    assert proved == sorted(proved) and proved[0] < proved[-1]


def test_environment_steps_and_seconds_end_a_search(worlds: Any) -> None:
    policy, world, problems = worlds.LetterPolicy(), worlds.random_world(3, proofs=0.0), problems_of(worlds)
    for limit in (1, 7, 13):
        budget = SearchBudget(nodes=100, environment_steps=limit)
        results = search_proofs(policy, world, ProofPrompt(), problems, replace(SETTINGS, budget=budget))
        assert all(r.environment_steps <= limit for r in results)
        assert any(r.environment_steps == limit and r.status == "budget" for r in results)
    slow = worlds.World(world.rule, delay=0.01)
    budget = SearchBudget(nodes=10_000, seconds=0.05)
    results = search_proofs(
        policy,
        slow,
        ProofPrompt(),
        problems,
        replace(SETTINGS, budget=budget, algorithm=BestFirst(transposition=False)),
    )
    assert any(r.status == "budget" and r.seconds < 2.0 for r in results)
    assert all(r.environment_seconds > 0 for r in results)


def test_transposition_keeps_the_more_probable_way(worlds: Any) -> None:
    """a leads to s1 at once, b and c lead there on a better way; only the better way is expanded, once."""
    table = {"s0": {"a": "s1", "b": "s2"}, "s2": {"c": "s1"}, "s1": {"d": "proved", "e": "s0"}}
    weights = {"s0": {"a": 0.1, "b": 0.9}, "s2": {"c": 1.0}, "s1": {"d": 0.5, "e": 0.5}}

    def probabilities(text: str) -> list[float]:
        return [weights[text.split("\n")[0]].get(letter, 0.0) for letter in worlds.LETTERS]

    policy = worlds.LetterPolicy(probabilities)
    settings = replace(SETTINGS, proposals=SampledTactics(oversampling=50), budget=SearchBudget(nodes=14, proofs=14))
    problem = worlds.make_problem("t")
    merged, apart = (
        search_proofs(
            policy,
            worlds.World.of(table),
            STATE_ONLY,
            [problem],
            replace(settings, algorithm=BestFirst(transposition=merge)),
        )[0]
        for merge in (True, False)
    )
    assert [p.script for p in merged.proofs] == [("b", "c", "d")]
    assert merged.proofs[0].log_prob == pytest.approx(math.log(0.45))
    assert (merged.status, merged.nodes, merged.states) == ("proved", 3, 3)
    assert {("a", "d"), ("b", "c", "d")} < {p.script for p in apart.proofs}
    assert apart.nodes == 14 and apart.states == 3


def test_a_proof_counts_only_if_it_survives_the_check(worlds: Any) -> None:
    table = {"s0": {"a": "proved", "b": "s1"}, "s1": {"b": "proved"}}
    settings = replace(SETTINGS, proposals=SampledTactics(oversampling=50), branching=8)
    policy = worlds.LetterPolicy(lambda text: [1.0] * 8)
    world = worlds.World.of(table, unsound=["a"])
    [result] = search_proofs(policy, world, ProofPrompt(), [worlds.make_problem("t")], settings)
    assert [p.script for p in result.proofs] == [("b", "b")] and result.unsound == 1
    assert result.proofs[0].axioms == ("propext",)
    assert world.checked == [("t", ("a",)), ("t", ("b", "b"))]
    [trusting] = search_proofs(policy, worlds.World.of(table), ProofPrompt(), [worlds.make_problem("t")], settings)
    assert [p.script for p in trusting.proofs] == [("a",)]


def test_a_statement_that_fails_and_a_problem_without_theorem(worlds: Any) -> None:
    bad, good = worlds.make_problem("bad", "bad"), worlds.make_problem("t0")
    policy, world = worlds.LetterPolicy(), worlds.random_world(0)
    results = search_proofs(policy, world, ProofPrompt(), [bad, good], SETTINGS)
    assert (results[0].status, results[0].message, results[0].nodes) == ("statement", "unknown identifier", 0)
    assert results[1].problem is good and results[1].nodes > 0
    with pytest.raises(ValueError, match="'none' has no theorem"):
        search_proofs(policy, world, ProofPrompt(), [replace(good, id="none", theorem=None)], SETTINGS)


def test_a_state_too_long_for_the_policy_is_passed_over_and_counted(worlds: Any) -> None:
    class Short(worlds.LetterPolicy):  # type: ignore[name-defined,misc]
        def encode_prompt(self, text: str) -> list[int]:
            if "long" in text:
                raise ValueError("a prompt has 9 tokens")
            return super().encode_prompt(text)

    table = {"s0": {"a": "long", "b": "s1"}, "s1": {"b": "proved"}, "long": {"a": "proved"}}
    settings = replace(SETTINGS, proposals=SampledTactics(oversampling=50), branching=8)
    for algorithm in (BestFirst(), MCTS()):
        policy = Short(lambda text: [2.0, 1.0])
        problem = worlds.make_problem("t")
        [result] = search_proofs(
            policy, worlds.World.of(table), STATE_ONLY, [problem], replace(settings, algorithm=algorithm)
        )
        assert [p.script for p in result.proofs] == [("b", "b")] and result.too_long == 1 and result.nodes == 3


def test_fake_lean_is_searched_in_a_pool(worlds: Any) -> None:
    """Propositional logic in worker threads; letters stand for tactics."""
    tactics = dict(
        zip("abcdefgh", ["intro h", "constructor", "assumption", "cases h", "left", "right", "x", "y"], strict=True)
    )
    theorems = [
        Theorem("swap", "(p q : Prop) : p ∧ q → q ∧ p"),
        Theorem("or", "(p q : Prop) (h : p ∨ q) : q ∨ p"),
        Theorem("false", "(p q : Prop) : p → q"),
        Theorem("broken", "(p : Prop) : p ∧"),
    ]

    class Tactics(worlds.LetterPolicy):  # type: ignore[name-defined,misc]
        def decode(self, ids: Any) -> str:
            return tactics[super().decode(ids)]

    pool = LeanPool(FakeLean(), num_workers=2)
    pool.setup()
    try:
        problems = [Problem(t.name, "prove", theorem=t) for t in theorems]
        settings = SearchSettings(
            proposals=SampledTactics(oversampling=50), branching=8, budget=SearchBudget(nodes=60), max_depth=8
        )
        for algorithm in (BestFirst(), MCTS(parallel=2)):
            policy = Tactics(lambda text: [1.0] * 8)
            results = search_proofs(policy, pool, ProofPrompt(), problems, replace(settings, algorithm=algorithm))
            assert [r.status for r in results] == ["proved", "proved", "exhausted", "statement"]
            for result, theorem in zip(results[:2], theorems, strict=False):
                assert FakeLean().check(theorem, result.proofs[0].script).verified
                assert result.environment_seconds > 0 and result.errors > 0
    finally:
        pool.close()


def test_settings_out_of_range_are_refused() -> None:
    for name in ("nodes", "environment_steps", "seconds", "proofs"):
        with pytest.raises(ValueError, match=f"budget.{name}"):
            SearchBudget(**{name: 0})
    for name in ("branching", "max_depth", "concurrent"):
        with pytest.raises(ValueError, match=f"search.{name}"):
            SearchSettings(**{name: 0})
