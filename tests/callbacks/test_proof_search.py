"""ProofSearch: values against searches run one by one, the grid, files, refusals, and two processes."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lightning_gfn.callbacks.common.search_rows import described, grid_text
from lightning_gfn.callbacks.proof_search import ProofSearch
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rollouts.search.mcts import MCTS
from lightning_gfn.rollouts.search.proof_search import SearchSettings, search_proofs
from lightning_gfn.rollouts.search.search_result import SearchBudget
from lightning_gfn.rollouts.search.state_values import HeadValue

HERE = Path(__file__).parent
TIMES = {"seconds", "policy_seconds", "environment_seconds"}


@pytest.fixture(scope="module")
def prover() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prover_module", HERE / "prover_module.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prover_module"] = module
    spec.loader.exec_module(module)
    return module


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what differs from run to run."""
    cleaned = []
    for row in rows:
        metrics = {name: value for name, value in row["metrics"].items() if not name.endswith("_seconds")}
        proofs = [{k: v for k, v in proof.items() if k not in TIMES} for proof in row["proofs"]]
        cleaned.append({k: v for k, v in {**row, "metrics": metrics, "proofs": proofs}.items() if k not in TIMES})
    return cleaned


def test_the_grid_is_what_separate_searches_say(make_trainer: Any, prover: Any, tmp_path: Path) -> None:
    trainer = make_trainer(ProofSearch(search=prover.SEARCH, **prover.GRID))
    module = prover.ProverModule()
    problems = prover.make_problems()
    logged = trainer.test(module, prover.loader(problems), verbose=False)[0]
    rates = []
    for branching in (1, 2, 4):
        for nodes in (1, 4, 16):
            settings = replace(prover.SEARCH, branching=branching, budget=SearchBudget(nodes=nodes))
            world = prover.WORLDS.random_world(3, proofs=0.03)
            results = search_proofs(prover.WORLDS.LetterPolicy(), world, ProofPrompt(), problems, settings)
            rate = sum(result.is_proved for result in results) / len(problems)
            assert logged[f"test/search_solve_rate_b{branching}_n{nodes}"] == pytest.approx(rate)
            rates.append(rate)
    assert len(set(rates)) >= 4
    assert logged["test/search_solve_rate"] == logged["test/search_solve_rate_b4_n16"] == pytest.approx(rates[-1])
    assert logged["test/search_solve_rate_ci95_low"] < rates[-1] < logged["test/search_solve_rate_ci95_high"]
    assert logged["test/search_nodes"] == pytest.approx(sum(r.nodes for r in results) / len(problems))
    steps = sum(r.environment_steps for r in results)
    assert logged["test/search_environment_steps"] == pytest.approx(steps / len(problems))
    proved = sum(r.is_proved for r in results)
    assert logged["test/search_nodes_per_proof"] == pytest.approx(sum(r.nodes for r in results) / proved)

    found = json.loads((tmp_path / "results" / "test_search.json").read_text())
    assert [(cell["branching"], cell["nodes"]) for cell in found["table"]] == [
        (b, n) for b in (1, 2, 4) for n in (1, 4, 16)
    ]
    assert found["environment"] == {"backend": "world", "version": "1"} and found["method"] == "prover"
    assert found["search"]["algorithm"] == {"class": "BestFirst", "transposition": True}
    assert found["metrics"]["search_nodes_per_proof"]["ci95"] == [None, None]
    rows = read_rows(tmp_path / "results" / "test_search.jsonl")
    assert [(row["branching"], row["problem_id"]) for row in rows] == [(b, p.id) for b in (4, 1, 2) for p in problems]
    by_id = {row["problem_id"]: row for row in rows[:9]}
    for result in results:
        row = by_id[result.problem.id]
        assert row["status"] == result.status
        assert [tuple(proof["script"]) for proof in row["proofs"]] == [proof.script for proof in result.proofs]
    assert trainer.logger.artifacts == [("test_search.jsonl", "results"), ("test_search.json", "results")]


def test_validation_searches_the_same_few_theorems_each_time(make_trainer: Any, prover: Any, tmp_path: Path) -> None:
    callback = ProofSearch(search=prover.SEARCH, num_theorems=3, branchings=(1,), node_budgets=(2, 16))
    chosen = []
    for problems in (prover.make_problems(), prover.make_problems()[::-1]):
        trainer = make_trainer(callback)
        logged = trainer.validate(prover.ProverModule(), prover.loader(problems), verbose=False)[0]
        assert "val/search_solve_rate_b4_n2" in logged and "val/search_solve_rate_b1_n2" not in logged
        chosen.append([row["problem_id"] for row in read_rows(tmp_path / "results" / "val_search.jsonl")])
    assert len(chosen[0]) == 3 and chosen[0] == chosen[1]
    assert chosen[0] != ["t0", "t1", "t2"], "a random subset, not the first ones"


def test_sanity_checks_are_left_out_and_each_validation_searches(make_trainer: Any, prover: Any) -> None:
    callback = ProofSearch(search=prover.SEARCH, num_theorems=2)
    trainer = make_trainer(callback, max_steps=2, num_sanity_val_steps=1, val_check_interval=1)
    module = prover.ProverModule()
    trainer.fit(module, prover.loader(prover.make_problems(4)), prover.loader(prover.make_problems(4)))
    logged = [row for row in trainer.logger.metrics if "val/search_solve_rate" in row]
    assert len(logged) == 2


def test_a_module_that_cannot_prove_and_bad_numbers_are_refused(make_trainer: Any, prover: Any, replay: Any) -> None:
    with pytest.raises(ValueError, match="model.proving.environment"):
        make_trainer(ProofSearch()).test(replay.ReplayModule(), replay.make_loader(replay.make_problems(2)))
    with pytest.raises(ValueError, match="search.budget.nodes=64"):
        ProofSearch(node_budgets=(1, 256))
    with pytest.raises(ValueError, match="num_theorems"):
        ProofSearch(num_theorems=0)
    with pytest.raises(ValueError, match="branchings"):
        ProofSearch(branchings=(0,))
    search = SearchSettings(algorithm=MCTS(value=HeadValue()))
    with pytest.raises(ValueError, match="value head"):
        make_trainer(ProofSearch(search=search)).test(prover.ProverModule(), prover.loader(prover.make_problems(1)))


def test_descriptions(prover: Any) -> None:
    told = described(SearchSettings(algorithm=MCTS(value=HeadValue())))
    assert told["algorithm"]["value"] == "HeadValue" and told["budget"]["nodes"] == 64
    assert json.dumps(told)
    table = [{"branching": b, "nodes": n, "solve_rate": b / n} for b in (1, 2) for n in (2, 4)]
    assert grid_text(table, "title").splitlines()[2].split() == ["1", "0.500", "0.250"]


@pytest.mark.ddp
def test_two_processes_find_what_one_finds(make_trainer: Any, prover: Any, run_ranks: Any, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    run_ranks(HERE / "prover_module.py", folder)
    reports = [json.loads((folder / f"report{rank}.json").read_text())["logged"] for rank in (0, 1)]
    trainer = make_trainer(ProofSearch(search=prover.SEARCH, **prover.GRID))
    alone = trainer.test(prover.ProverModule(), prover.loader(prover.make_problems()), verbose=False)[0]
    for name, value in alone.items():
        assert reports[0][name] == pytest.approx(reports[1][name])
        if "seconds" not in name:
            assert reports[0][name] == pytest.approx(value), name
    paths = [place / "results" / "test_search.jsonl" for place in (folder, tmp_path)]
    assert without_times(read_rows(paths[0])) == without_times(read_rows(paths[1]))
    saved = json.loads((folder / "proofs" / "test" / "summary.json").read_text())
    assert saved["verified"] == saved["proofs"] > 0


def test_yaml_chooses_algorithm_and_proposals() -> None:
    from jsonargparse import ArgumentParser
    from lightning.pytorch import Callback

    rollouts = "lightning_gfn.rollouts.search"
    search = {
        "algorithm": {
            "class_path": f"{rollouts}.mcts.MCTS",
            "init_args": {"backup": "max", "value": {"class_path": f"{rollouts}.state_values.LogProbValue"}},
        },
        "proposals": {"class_path": f"{rollouts}.beam_tactics.BeamTactics", "init_args": {"width": 16}},
        "budget": {"nodes": 256, "proofs": 2},
        "max_depth": 8,
    }
    options = {"search": search, "branchings": [1, 2], "node_budgets": [1, 256]}
    parser = ArgumentParser()
    parser.add_argument("--callback", type=Callback)
    config = {"class_path": "lightning_gfn.callbacks.proof_search.ProofSearch", "init_args": options}
    callback = parser.instantiate(parser.parse_object({"callback": config})).callback
    assert isinstance(callback, ProofSearch) and callback.branchings == (1, 2)
    algorithm = callback.search.algorithm
    assert (
        isinstance(algorithm, MCTS) and algorithm.backup == "max" and type(algorithm.value).__name__ == "LogProbValue"
    )
    assert callback.search.budget == SearchBudget(nodes=256, proofs=2) and callback.search.max_depth == 8
