"""A module that proves theorems of a small world; run as a script it is tested on two processes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from lightning_gfn.callbacks.proof_files import ProofFiles
from lightning_gfn.callbacks.proof_search import ProofSearch
from lightning_gfn.lean_types import Episode
from lightning_gfn.module_interfaces import EvaluatedModule
from lightning_gfn.rollouts.proofs.proving import Proving
from lightning_gfn.rollouts.search.proof_search import SearchSettings
from lightning_gfn.rollouts.search.search_result import SearchBudget
from lightning_gfn.types import EvalRecord, Problem


def load_worlds() -> ModuleType:
    path = Path(__file__).parents[1] / "helpers" / "proof_worlds.py"
    spec = importlib.util.spec_from_file_location("tests_helper_proof_worlds", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


WORLDS = load_worlds()
SEARCH = SearchSettings(branching=4, budget=SearchBudget(nodes=16), seed=2)
GRID: dict[str, Any] = {"branchings": (1, 2, 4), "node_budgets": (1, 4, 16), "num_resamples": 200}


def make_problems(count: int = 9) -> list[Problem]:
    """Theorems of the world."""
    return [WORLDS.make_problem(f"t{n}") for n in range(count)]


def record_of(problem: Problem, *episodes: Episode) -> EvalRecord:
    """A record of these attempts; of none, one attempt whose statement failed."""
    rows = episodes if episodes else (Episode((), (), "error", error_kind="statement"),)
    n = len(rows)
    correct = tuple(row.outcome == "proved" for row in rows)
    numbers = ((-1.0,) * n, (1,) * n, (0.0,) * n, (False,) * n)
    return EvalRecord(problem, 1.0, tuple(row.script for row in rows), correct, *numbers, episodes=rows)


class ProverModule(pl.LightningModule, EvaluatedModule):
    """Returns records without proofs, or those that are given by problem id."""

    method = "prover"
    head = None

    def __init__(self, world: Any = None, episodes: dict[str, tuple[Episode, ...]] | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.policy = WORLDS.LetterPolicy()
        self.proving = Proving(world if world is not None else WORLDS.random_world(3, proofs=0.03))
        self.episodes = episodes if episodes is not None else {}

    @property
    def trained_model(self) -> Any:
        return self.policy

    def decoding(self) -> dict[str, Any]:
        return {"num_samples": 1}

    def environment_record(self) -> dict[str, Any]:
        return {}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch: list[Problem], batch_idx: int) -> Any:
        return self.weight.square().sum()

    def test_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:
        return [record_of(problem, *self.episodes.get(problem.id, ())) for problem in batch]

    validation_step = test_step


class ShardedModule(ProverModule):
    """Every rank reads its part; the last problem stands on both, as a padding sampler would do."""

    def test_dataloader(self) -> Any:
        problems = make_problems()
        return loader([*problems[self.global_rank :: 2], problems[-1]])


def loader(problems: list[Problem]) -> Any:
    """Batches of two."""
    return DataLoader(problems, batch_size=2, collate_fn=list)  # type: ignore[arg-type]


def main(folder: Path) -> None:
    """One test over two gloo processes."""
    from replay_module import quiet_trainer

    callbacks: list[pl.Callback] = [ProofSearch(search=SEARCH, **GRID), ProofFiles()]
    trainer = quiet_trainer(callbacks, devices=2, strategy="ddp", logger=False, default_root_dir=folder)
    logged = trainer.test(ShardedModule(), verbose=False)[0]
    (folder / f"report{trainer.global_rank}.json").write_text(json.dumps({"logged": logged}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
