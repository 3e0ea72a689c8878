"""Proof search in validation and test: how many theorems a policy proves by searching, and at what cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lightning_gfn.callbacks.common.evaluated_step import EvaluatedStep
from lightning_gfn.callbacks.common.problem_rows import Measured, run_seed
from lightning_gfn.callbacks.common.run_files import (
    ResultRow,
    records_of,
    run_folder,
    send_artifact,
    write_json,
    write_jsonl,
)
from lightning_gfn.callbacks.common.search_rows import described, grid_table, grid_text, search_metrics, search_row
from lightning_gfn.module_interfaces import EvaluatedModule, as_evaluated
from lightning_gfn.rollouts.distributed import gather_all
from lightning_gfn.rollouts.keyed_random import keyed_uniform
from lightning_gfn.rollouts.search.proof_search import SearchSettings, search_proofs
from lightning_gfn.rollouts.search.state_values import HeadValue
from lightning_gfn.types import Problem

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


@dataclass(frozen=True)
class SearchedProof:
    """A proof that a search found.

    Args:
        problem: whose theorem it proves.
        script: its tactics.
        source: how it was found.
    """

    problem: Problem
    script: tuple[str, ...]
    source: str


class ProofSearch(EvaluatedStep):
    """Searches proofs of the theorems that were evaluated, through ``policy`` and ``proving`` of the module.

    Logged as ``<stage>/search_solve_rate`` with ``_ci95_low`` and ``_ci95_high`` (percentile bootstrap over theorems),
    and as means over theorems ``search_nodes``, ``search_environment_steps``, ``search_states``, ``search_proofs``
    (distinct ones), ``search_error_rate``, ``search_policy_seconds``, ``search_environment_seconds``,
    ``search_proof_length`` (of the first proof, over proved theorems); ``search_seconds_per_proof`` and
    ``search_nodes_per_proof`` are totals divided by the theorems proved. ``search_solve_rate_b<b>_n<n>`` is the solve
    rate at branching b with n nodes: a search tells the result of every smaller budget, only branchings need searches
    of their own. Validations search at the branching of ``search`` alone.

    Rank 0 writes ``results/<stage>_search.jsonl`` (a row for each theorem and branching) and, with the grid as a table,
    ``results/<stage>_search.json``. Ranks split the theorems by id and every theorem is searched once.

    Args:
        search: algorithm, proposals, branching and budget.
        num_theorems: theorems searched in validation, the same ones each time; None for all. A test searches all.
        branchings: further branchings that a test searches.
        node_budgets: budgets of nodes to report, at most that of ``search``.
        num_resamples: bootstrap resamples of the intervals.
        bootstrap_seed: seed of the resamples.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        *,
        search: SearchSettings | None = None,
        num_theorems: int | None = 50,
        branchings: tuple[int, ...] = (),
        node_budgets: tuple[int, ...] = (),
        num_resamples: int = 1000,
        bootstrap_seed: int = 0,
    ) -> None:
        self.search = search if search is not None else SearchSettings()
        if num_theorems is not None and num_theorems < 1:
            raise ValueError(f"num_theorems={num_theorems} must be at least 1, or null for all")
        if min((*branchings, *node_budgets), default=1) < 1:
            raise ValueError(f"branchings={branchings} and node_budgets={node_budgets} must be at least 1")
        if max(node_budgets, default=1) > self.search.budget.nodes:
            raise ValueError(
                f"node_budgets={node_budgets} go beyond search.budget.nodes={self.search.budget.nodes}: raise that one"
            )
        self.num_theorems = num_theorems
        self.branchings = tuple(branchings)
        self.node_budgets = tuple(sorted(set(node_budgets)))
        self.num_resamples = num_resamples
        self.bootstrap_seed = bootstrap_seed
        self.summary = ""
        self.found: list[SearchedProof] = []
        self._problems: dict[str, Problem] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a module that cannot prove.

        Raises:
            ValueError: the module has no environment.
        """
        if stage != "predict" and as_evaluated(pl_module, self).proving is None:
            raise ValueError("ProofSearch needs an environment: set model.proving.environment")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the solve rates."""
        if trainer.is_global_zero:
            print(self.summary, flush=True)

    def restart(self) -> None:
        """Forget the theorems."""
        self._problems = {}
        self.found = []

    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, step_name: str) -> None:
        """Note the theorems of one batch."""
        for record in records_of(outputs, step_name):
            if record.problem.theorem is not None:
                self._problems.setdefault(record.problem.id, record.problem)

    def finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Search, merge the ranks, log the figures and write the results."""
        known = {problem.id: problem for problem in gather_all(list(self._problems.values()))}
        problems = self._chosen(known, stage)
        if not problems:
            return
        own = problems[trainer.global_rank :: trainer.world_size]
        wanted = [self.search.branching, *(self.branchings if stage == "test" else ())]
        rows: list[ResultRow] = []
        seconds: dict[int, float] = {}
        for branching in dict.fromkeys(wanted):
            part, spent = self._search(pl_module, own, branching)
            rows += sorted(gather_all(part), key=lambda row: row["problem_id"])
            seconds[branching] = sum(gather_all([spent]))
        self.found = [
            SearchedProof(known[row["problem_id"]], tuple(proof["script"]), f"search, branching {row['branching']}")
            for row in rows
            for proof in row["proofs"]
        ]
        self._report(trainer, pl_module, stage, rows, seconds)

    def _chosen(self, known: dict[str, Problem], stage: str) -> list[Problem]:
        """Theorems to search, by id; a subset is drawn by the ids alone."""
        ids = sorted(known)
        if stage == "val" and self.num_theorems is not None:
            drawn = sorted(ids, key=lambda name: keyed_uniform("search", seed=0, rollout_step=0, problem_id=name))
            ids = sorted(drawn[: self.num_theorems])
        return [known[name] for name in ids]

    def _search(
        self, pl_module: LightningModule, problems: list[Problem], branching: int
    ) -> tuple[list[ResultRow], float]:
        """This rank's rows and wall time."""
        module = as_evaluated(pl_module, self)
        proving = module.proving
        assert proving is not None
        value = self.search.algorithm.value
        if isinstance(value, HeadValue):
            value.bind(module.head, proving.proof_prompt)
        start = time.monotonic()
        settings = replace(self.search, branching=branching)
        results = search_proofs(module.policy, proving.environment, proving.proof_prompt, problems, settings)
        return [search_row(result, branching) for result in results], time.monotonic() - start

    def _report(
        self, trainer: Trainer, pl_module: LightningModule, stage: str, rows: list[ResultRow], seconds: dict[int, float]
    ) -> None:
        resampling = {"num_resamples": self.num_resamples, "seed": self.bootstrap_seed}
        measured = {
            branching: search_metrics([row for row in rows if row["branching"] == branching], spent, **resampling)
            for branching, spent in seconds.items()
        }
        main = measured[self.search.branching]
        table = grid_table(rows, self.node_budgets or (self.search.budget.nodes,), **resampling)
        values = {f"{stage}/{name}": found.value for name, found in main.items()}
        rate = main["search_solve_rate"]
        values |= {f"{stage}/search_solve_rate_ci95_low": rate.low, f"{stage}/search_solve_rate_ci95_high": rate.high}
        if self.node_budgets:
            values |= {f"{stage}/search_solve_rate_b{x['branching']}_n{x['nodes']}": x["solve_rate"] for x in table}
        # All ranks hold the same values; the reduction keeps monitors of every rank supplied and Lightning quiet.
        pl_module.log_dict(values, sync_dist=True)
        module = as_evaluated(pl_module, self)
        if trainer.is_global_zero:
            self._write(trainer, module, stage, rows, measured, table)
        count = table[0]["theorems"]
        self.summary = grid_text(table, f"{module.method}, {stage}: solve rate by search, {count} theorems")

    def _write(
        self,
        trainer: Trainer,
        module: EvaluatedModule,
        stage: str,
        rows: list[ResultRow],
        measured: dict[int, dict[str, Measured]],
        table: list[dict[str, Any]],
    ) -> None:
        folder = run_folder(trainer) / "results"
        assert module.proving is not None
        own = {
            "method": module.method,
            "seed": run_seed(),
            "step": self.weights_step(trainer),
        }
        content = {
            "stage": stage,
            **own,
            "environment": dict(module.proving.environment.describe()),
            "search": described(self.search),
            "theorems": table[0]["theorems"],
            "metrics": {name: found.to_json() for name, found in measured[self.search.branching].items()},
            "metrics_by_branching": {
                str(branching): {name: found.to_json() for name, found in column.items()}
                for branching, column in measured.items()
            },
            "table": table,
        }
        send_artifact(
            trainer, write_jsonl(folder / f"{stage}_search.jsonl", [{**row, **own} for row in rows]), "results"
        )
        send_artifact(trainer, write_json(folder / f"{stage}_search.json", content), "results")
