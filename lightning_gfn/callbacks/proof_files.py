"""Proved theorems as Lean files that anybody can check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning_gfn.callbacks.common.evaluated_step import EvaluatedStep
from lightning_gfn.callbacks.common.lean_files import lean_file, unique_names
from lightning_gfn.callbacks.common.problem_rows import run_seed
from lightning_gfn.callbacks.common.run_files import (
    ResultRow,
    records_of,
    run_folder,
    send_artifact,
    write_json,
    write_jsonl,
)
from lightning_gfn.callbacks.proof_search import ProofSearch
from lightning_gfn.module_interfaces import ProofSetting, as_evaluated
from lightning_gfn.rollouts.distributed import gather_all
from lightning_gfn.similarity.tactic_scripts import distinct_scripts
from lightning_gfn.types import Problem
from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


@dataclass(frozen=True)
class _Proof:
    problem: Problem
    script: tuple[str, ...]
    source: str


class ProofFiles(EvaluatedStep):
    """Saves the distinct proofs of every proved theorem, from samples and from ``ProofSearch``, and checks them again.

    Into ``proofs/test`` (or ``proofs/val_step_<step>``) of the run folder go one ``.lean`` file a theorem with the
    proofs that hold, ``proofs.jsonl`` with every proof and its verdict, and ``summary.json``. Every proof is checked
    afresh by the environment from its statement; ranks share the checks. Theorems that are known by their place in a
    repository alone have no text of their own, and get no ``.lean`` file.

    Args:
        validation: also save what validations find; otherwise tests alone.
        max_proofs: most proofs saved of a theorem, the first ones found.

    Raises:
        ValueError: if ``max_proofs`` is below 1.
    """

    def __init__(self, *, validation: bool = False, max_proofs: int = 16) -> None:
        if max_proofs < 1:
            raise ValueError(f"max_proofs={max_proofs} must be at least 1")
        self.validation = validation
        self.max_proofs = max_proofs
        self.summary = ""
        self._found: list[_Proof] = []
        self._stage: str | None = None

    def restart(self) -> None:
        """Forget the proofs."""
        self._found = []
        self._stage = None

    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, step_name: str) -> None:
        """Keep the proofs of one batch."""
        for record in records_of(outputs, step_name):
            scripts = [episode.tactics for episode in record.episodes if episode.outcome == "proved"]
            source = f"sampling, temperature {record.temperature:g}"
            self._found += [_Proof(record.problem, scripts[n], source) for n in distinct_scripts(scripts)]

    def finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wait for the other callbacks: a search may find more."""
        if stage == "test" or self.validation:
            self._stage = stage

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, and say how many proofs hold."""
        self._save(trainer, pl_module)
        if trainer.is_global_zero:
            print(self.summary, flush=True)

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stage, self._stage = self._stage, None
        module = as_evaluated(pl_module, self)
        proving = module.proving
        if stage is None or proving is None:
            return
        proofs = self._distinct(trainer, gather_all(self._found))
        checks = [
            (n, proving.environment.check(proof.problem.theorem, proof.script))
            for n, proof in enumerate(proofs)
            if n % trainer.world_size == trainer.global_rank and proof.problem.theorem is not None
        ]
        verdicts = dict(gather_all([(n, check.result()) for n, check in checks]))
        rows: list[ResultRow] = [
            {
                "problem_id": proof.problem.id,
                "theorem": proof.problem.theorem.name if proof.problem.theorem is not None else "",
                "statement": proof.problem.theorem.statement if proof.problem.theorem is not None else "",
                "script": list(proof.script),
                "source": proof.source,
                "verified": verdicts[n].verified,
                "axioms": list(verdicts[n].axioms),
                "message": verdicts[n].message,
            }
            for n, proof in enumerate(proofs)
        ]
        if trainer.is_global_zero:
            self._write(trainer, module.method, proving, stage, proofs, rows)
        held = sum(row["verified"] for row in rows)
        proved = len({row["problem_id"] for row in rows if row["verified"]})
        self.summary = f"{stage}: {held} of {len(rows)} proofs hold when checked again; {proved} theorems proved"

    def _distinct(self, trainer: Trainer, sampled: list[_Proof]) -> list[_Proof]:
        """Sampled and searched proofs, by theorem and in the order in which they were found, each once."""
        found = list(sampled)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ProofSearch):
                found += [_Proof(proof.problem, proof.script, proof.source) for proof in callback.found]
        of_problem: dict[str, list[_Proof]] = {}
        for proof in found:
            of_problem.setdefault(proof.problem.id, []).append(proof)
        chosen = []
        for _, proofs in sorted(of_problem.items()):
            first = distinct_scripts([proof.script for proof in proofs])
            chosen += [proofs[n] for n in first[: self.max_proofs]]
        return chosen

    def _write(
        self,
        trainer: Trainer,
        method: str,
        proving: ProofSetting,
        stage: str,
        proofs: list[_Proof],
        rows: list[ResultRow],
    ) -> None:
        step = self.weights_step(trainer)
        place = "test" if stage == "test" else f"val_step_{step:06d}"
        folder = run_folder(trainer) / "proofs" / place
        environment = dict(proving.environment.describe())
        who = {"method": method, "seed": run_seed(), "step": step}
        header = ", ".join(f"{name} {value}" for name, value in {**who, **environment}.items())
        problems = {proof.problem.id: proof.problem for proof in proofs}
        names = dict(zip(problems, unique_names([_name(problem) for problem in problems.values()]), strict=True))
        for row in rows:
            row["file"] = None
        for name, problem in problems.items():
            own = [row for row in rows if row["problem_id"] == name and row["verified"]]
            if own and problem.theorem is not None and problem.theorem.statement.strip():
                told = [(row["script"], _remark(row)) for row in own]
                text = lean_file(names[name], problem.theorem, told, f"{problem.theorem.name}: {header}")
                path = replace_text(folder / f"{names[name]}.lean", text)
                for row in own:
                    row["file"] = path.name
                send_artifact(trainer, path, f"proofs/{place}")
        counts = {
            "proofs": len(rows),
            "verified": sum(row["verified"] for row in rows),
            "theorems_proved": len({row["problem_id"] for row in rows if row["verified"]}),
        }
        send_artifact(
            trainer, write_jsonl(folder / "proofs.jsonl", [{**row, **who} for row in rows]), f"proofs/{place}"
        )
        content = {"stage": stage, **who, "environment": environment, **counts}
        send_artifact(trainer, write_json(folder / "summary.json", content), f"proofs/{place}")


def _name(problem: Problem) -> str:
    return problem.theorem.name if problem.theorem is not None else problem.id


def _remark(row: ResultRow) -> str:
    axioms = ", ".join(row["axioms"]) or "none"
    return f"found by {row['source']}; axioms: {axioms}"
