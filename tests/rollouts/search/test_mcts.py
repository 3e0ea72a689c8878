"""Monte Carlo tree search: PUCT by hand, against a written search, virtual loss, values of leaves."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_gfn.interfaces import RewardNetwork
from lightning_gfn.lean_types import LeanError, TacticState
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rollouts.search.mcts import MCTS, MCTSTree, puct
from lightning_gfn.rollouts.search.proof_search import SearchSettings, search_proofs
from lightning_gfn.rollouts.search.search_result import SearchBudget
from lightning_gfn.rollouts.search.search_tree import Leaf, LeafValue, TacticResult
from lightning_gfn.rollouts.search.state_values import (
    ConstantValue,
    HeadValue,
    LogProbValue,
    RewardNetworkValue,
    squashed,
)
from lightning_gfn.rollouts.search.tactic_generator import Proposal, ProposalRequest, SampledTactics
from lightning_gfn.types import Scores, StepBatch


def tried(leaf: Leaf, **outcomes: tuple[float, str | None]) -> list[TacticResult]:
    """Tactics with their probabilities and the states that they lead to."""
    return [
        TacticResult(
            leaf,
            Proposal(tactic, math.log(p)),
            TacticState((state,)) if state is not None else LeanError("no"),
        )
        for tactic, (p, state) in outcomes.items()
    ]


def test_puct_by_hand() -> None:
    assert puct(0.3, 0.5, 9, 2, 1.2) == pytest.approx(0.3 + 1.2 * 0.5 * 3 / 3)
    assert puct(0.0, 0.25, 1, 0, 2.0) == pytest.approx(0.5)


@pytest.mark.parametrize("backup", ["mean", "max"])
def test_a_tree_by_hand(backup: Any) -> None:
    tree = MCTSTree(Leaf(TacticState(("r",))), MCTS(exploration=1.0, backup=backup), 9)
    [root] = tree.select(5)
    tree.absorb(root, tried(root, a=(0.3, "x"), b=(0.2, "y"), c=(0.5, None)), 0.1)
    a, b = tree.root.edges or []
    assert (a.prior, b.prior) == pytest.approx((0.3, 0.2))  # of all proposals, the failed one included
    assert tree.score(tree.root, a) == pytest.approx(0.3 * math.sqrt(1) / 1)
    [x] = tree.select(5)
    assert x.script == ("a",) and x.states == ("r",) and x.log_prob == pytest.approx(math.log(0.3))
    tree.absorb(x, tried(x, d=(1.0, "z")), 0.2)
    assert tree.score(tree.root, a) == pytest.approx(0.2 + 0.3 * math.sqrt(2) / 2)
    assert tree.score(tree.root, b) == pytest.approx(0.2 * math.sqrt(2))
    [z] = tree.select(5)
    assert z.script == ("a", "d")
    tree.absorb(z, tried(z, e=(1.0, "w")), 0.05)
    value = 0.125 if backup == "mean" else 0.2
    assert a.value(backup, 0.0) == pytest.approx(value)
    assert tree.score(tree.root, a) == pytest.approx(value + 0.3 * math.sqrt(3) / 3)
    [y_or_w] = tree.select(5)
    assert y_or_w.script == (("b",) if 0.2 * math.sqrt(3) > value + 0.1 * math.sqrt(3) else ("a", "d", "e"))


def test_states_without_a_way_on_close_the_edges_to_them() -> None:
    tree = MCTSTree(Leaf(TacticState(("r",))), MCTS(), 9)
    [root] = tree.select(1)
    tree.absorb(root, tried(root, a=(0.9, "x"), b=(0.1, "y")), 0.0)
    [x] = tree.select(1)
    tree.absorb(x, tried(x, c=(1.0, None)), 0.7)
    assert (tree.root.edges or [])[0].total == 0.0, "a dead end is worth nothing, whatever its value was"
    [y] = tree.select(1)
    assert y.script == ("b",)
    tree.absorb(y, tried(y, d=(1.0, "r")), 0.0)  # a circle
    assert tree.select(1) == [] and tree.root.is_closed


def test_virtual_loss_spreads_a_batch() -> None:
    root_outcomes = {"a": (0.4, "x"), "b": (0.35, "y"), "c": (0.25, "z")}
    tree = MCTSTree(Leaf(TacticState(("r",))), MCTS(parallel=3), 9)
    [root] = tree.select(3)
    tree.absorb(root, tried(root, **root_outcomes), 0.0)
    leaves = tree.select(3)
    assert [leaf.script for leaf in leaves] == [("a",), ("b",), ("c",)]
    for leaf in leaves:
        tree.absorb(leaf, tried(leaf, d=(1.0, leaf.script[0] + "1")), 0.5)
    assert all(edge.virtual == 0 and edge.visits == 1 for edge in tree.root.edges or [])
    assert tree.root.visits == 4 and tree.root.virtual == 0


class HashValue(LeafValue):
    """Values that only the state decides."""

    def __init__(self, uniform: Any) -> None:
        self.uniform = uniform

    def __call__(self, policy: Any, problems: Any, leaves: Any) -> list[float]:
        return [self.uniform("value", leaf.state.goals[0]) for leaf in leaves]


def written_mcts(worlds: Any, policy: Any, world: Any, problem: Any, settings: SearchSettings) -> Any:
    """The same search as recursion over scripts, without transposition: statistics in dicts keyed by scripts."""
    how = settings.algorithm
    children: dict[Any, list[Any]] = {}
    prior: dict[Any, float] = {}
    state_of = {(): "s0"}
    backed: dict[Any, list[float]] = {}
    dead: set[Any] = set()

    def is_dead(script: Any) -> bool:
        return script in dead or (script in children and all(is_dead(child) for child in children[script]))

    def choose(script: Any) -> Any:
        while script in children:
            alive = [child for child in children[script] if not is_dead(child)]
            total = len(backed[script])

            def score(child: Any, total: int = total) -> float:
                values = backed.get(child, [])
                q = 0.0
                if values:
                    q = max(values) if how.backup == "max" else sum(values) / len(values)
                return q + how.exploration * prior[child] * math.sqrt(total) / (1 + len(values))

            script = max(alive, key=score)
        return script

    steps = 0
    for nodes in range(1, settings.budget.nodes + 1):
        if is_dead(()):
            return "exhausted", None, nodes - 1, steps
        script = choose(())
        request = ProposalRequest(ProofPrompt()(state_of[script], script), "\n".join((problem.id, *script)))
        [found] = settings.proposals.propose(policy, [request], settings.branching, seed=settings.seed)
        weights = [math.exp(p.log_prob) for p in found.tactics]
        children[script] = []
        for proposal, weight in zip(found.tactics, weights, strict=True):
            steps += 1
            after = world.rule(problem.theorem.name, state_of[script], proposal.tactic)
            child = (*script, proposal.tactic)
            if after == "proved":
                return "proved", child, nodes, steps + len(found.tactics) - 1 - found.tactics.index(proposal)
            if after is not None and len(child) < settings.max_depth:
                children[script].append(child)
                state_of[child], prior[child] = after, weight / sum(weights)
        value = worlds.uniform("value", state_of[script]) if children[script] else 0.0
        for length in range(len(script) + 1):
            backed.setdefault(script[:length], []).append(value)
    return ("exhausted" if is_dead(()) else "budget"), None, settings.budget.nodes, steps


@pytest.mark.parametrize("backup", ["mean", "max"])
@pytest.mark.parametrize("exploration", [0.3, 2.0])
def test_it_is_the_written_search(worlds: Any, backup: Any, exploration: float) -> None:
    how = MCTS(value=HashValue(worlds.uniform), backup=backup, exploration=exploration, transposition=False)
    settings = SearchSettings(algorithm=how, branching=4, budget=SearchBudget(nodes=25), seed=5, max_depth=5)
    statuses = set()
    for seed in range(3):
        policy, world = worlds.LetterPolicy(), worlds.random_world(seed, errors=0.5, proofs=0.01)
        problems = [worlds.make_problem(f"t{n}") for n in range(6)]
        results = search_proofs(policy, world, ProofPrompt(), problems, settings)
        for result, problem in zip(results, problems, strict=True):
            script = result.proofs[0].script if result.proofs else None
            found = (result.status, script, result.nodes, result.environment_steps)
            assert found == written_mcts(worlds, policy, world, problem, settings)
            statuses.add(result.status)
    assert statuses == {"proved", "exhausted", "budget"}


def test_transposition_never_expands_goals_twice(worlds: Any) -> None:
    world = worlds.random_world(7, proofs=0.0, states=15)
    settings = SearchSettings(algorithm=MCTS(), branching=6, budget=SearchBudget(nodes=200), max_depth=30)
    problems = [worlds.make_problem(f"t{n}") for n in range(4)]
    results = search_proofs(worlds.LetterPolicy(), world, ProofPrompt(), problems, settings, keep_tried=True)
    for result in results:
        assert result.status == "exhausted" and result.nodes <= result.states <= 15
        expanded = list(dict.fromkeys((one.leaf.script, one.leaf.state.goals) for one in result.tried))
        assert len({goals for _, goals in expanded}) == len(expanded) == result.nodes


def test_the_value_guides_the_search(worlds: Any) -> None:
    """Of three equal ways at each state one is proved, five tactics down; a value that knows it needs few nodes."""

    def rule(theorem: str, state: str, tactic: str) -> str:
        path = state[2:] + tactic
        return "proved" if path == "cabca" else f"s0{path}"

    class Oracle(LeafValue):
        def __call__(self, policy: Any, problems: Any, leaves: Any) -> list[float]:
            return [float("cabca".startswith("".join(leaf.script))) * 0.9 for leaf in leaves]

    policy = worlds.LetterPolicy(lambda text: [1.0] * 3 + [0.0] * 5)
    base = SearchSettings(proposals=SampledTactics(oversampling=5), branching=8, budget=SearchBudget(nodes=400), seed=1)
    nodes = {}
    for name, value in (("oracle", Oracle()), ("none", None)):
        settings = replace(base, algorithm=MCTS(value=value, backup="max", exploration=0.3))
        [result] = search_proofs(policy, worlds.World(rule), ProofPrompt(), [worlds.make_problem("t")], settings)
        nodes[name] = result.nodes
    assert nodes["oracle"] <= 20 < nodes["none"]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="backup"):
        MCTS(backup="median")  # type: ignore[arg-type]
    for name, value in (("parallel", 0), ("prior_temperature", 0.0), ("exploration", -1.0)):
        with pytest.raises(ValueError, match=name):
            MCTS(**{name: value})  # type: ignore[arg-type]


# ---------------------------------------------------------------- values of leaves


def leaf_of(*script: str, log_prob: float = 0.0) -> Leaf:
    return Leaf(TacticState(("g",)), script, ("g",) * len(script), log_prob)


def test_simple_values(worlds: Any) -> None:
    leaves = [leaf_of(), leaf_of("a", "b", log_prob=-4.0)]
    problems = [worlds.make_problem("t")] * 2
    policy = worlds.LetterPolicy()
    assert ConstantValue(0.4)(policy, problems, leaves) == [0.4, 0.4]
    assert LogProbValue()(policy, problems, leaves) == pytest.approx([1.0, math.exp(-2.0)])
    assert squashed(0.5, "exp") == 1.0 and squashed(-1.0, "exp") == pytest.approx(math.exp(-1))
    assert squashed(-800.0, "sigmoid") == 0.0 and squashed(1.7, "identity") == 1.0


def test_reward_network_judges_the_tactics_so_far(worlds: Any) -> None:
    class Network(RewardNetwork):
        is_calibrated = True

        def score_steps(self, prompts: Any, steps: Any, device: Any) -> list[list[float]]:
            self.seen = list(zip(prompts, steps, strict=True))
            return [[9.0] * (len(row) - 1) + [math.log(3.0)] for row in steps]

    network = Network()
    problems = [worlds.make_problem("t"), worlds.make_problem("u")]
    values = RewardNetworkValue(network)(worlds.LetterPolicy(), problems, [leaf_of(), leaf_of("a", "b")])
    assert values == pytest.approx([0.5, 0.75])
    assert network.seen == [("prove u", ["a\n", "b\n"])]


def test_value_head_is_read_at_the_end_of_the_prompt(worlds: Any) -> None:
    class Scoring(worlds.LetterPolicy):  # type: ignore[name-defined,misc]
        def score(self, steps: StepBatch, **options: Any) -> Scores:
            assert options == {"stop": False, "hidden": True} and steps.action_ids_NT.shape[1] == 0
            hidden = steps.context_mask_NC.sum(1).float()[:, None, None]
            log_pf_NT, may_stop_NT1 = steps.action_ids_NT.float(), torch.ones(steps.num_steps, 1).bool()
            return Scores(log_pf_NT, None, may_stop_NT1, hidden_NT1H=hidden)

    class Head:
        provides = frozenset({"value_BT1"})
        network = torch.nn.Linear(1, 1)

    torch.nn.init.constant_(Head.network.weight, -0.01)
    torch.nn.init.zeros_(Head.network.bias)
    value = HeadValue(max_rows=1)
    problems = [worlds.make_problem("t")] * 2
    with pytest.raises(RuntimeError, match="bind"):
        value(Scoring(), problems, [leaf_of()])
    with pytest.raises(ValueError, match="value head"):
        value.bind(None, ProofPrompt())
    value.bind(Head(), ProofPrompt(history=False))
    expected = math.exp(-0.01 * len("g\n--\n"))
    assert value(Scoring(), problems, [leaf_of(), leaf_of("a")]) == pytest.approx([expected, expected])
