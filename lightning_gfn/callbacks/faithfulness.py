"""Faithfulness of rationales in validation and test: does the answer follow what stands before it?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lightning_gfn.callbacks.common.evaluated_step import EvaluatedStep
from lightning_gfn.callbacks.common.problem_rows import Measured, measure, run_seed
from lightning_gfn.callbacks.common.run_files import (
    ResultRow,
    records_of,
    run_folder,
    send_artifact,
    write_json,
    write_jsonl,
)
from lightning_gfn.module_interfaces import as_evaluated
from lightning_gfn.rollouts.distributed import gather_all
from lightning_gfn.rollouts.reasoning.faithfulness import (
    Subject,
    answers_behind,
    faithfulness_metrics,
    first_reasoned,
    perturbed,
)

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


class Faithfulness(EvaluatedStep):
    """Changes the rationale of a completion of each problem and lets the policy answer again, greedily.

        answer_follows_c = share of problems whose answer behind the changed rationale is another one than behind the
        intact one

    for three changes c: ``truncated`` to the first half of its steps (lines, else sentences, else words), ``corrupted``
    in its last number, ``swapped`` with the rationale of another problem. A policy that reasons in its rationale
    follows it; one that knows the answer without does not. ``accuracy_c`` is the accuracy behind the changed rationale,
    ``accuracy_intact`` that behind the intact one. The completion is the first one of the first temperature that has a
    rationale and an answer; problems without one have no values. What follows the rationale up to the answer (``####``,
    ``The answer is:``) is kept. No answer is another answer.

    Logged as ``<stage>/<name>``; rank 0 writes ``results/<stage>_faithfulness.jsonl`` (a row a problem, with rationales
    and answers) and ``results/<stage>_faithfulness.json`` (means with intervals), which ``compare`` shows as a table.

    Args:
        num_problems: problems looked at, those with the lowest ids; None for all.
        max_rows: answers decoded at once.
        seed: key of the numbers that are put in.
        in_fit: also look at the validations within ``fit``.
        num_resamples: bootstrap resamples of the intervals.
        bootstrap_seed: seed of the resamples.

    Raises:
        ValueError: a number is below 1.

    Source: Lanham et al. 2023, arXiv:2307.13702, section 2 (early answering, adding mistakes).
    """

    def __init__(
        self,
        *,
        num_problems: int | None = None,
        max_rows: int = 512,
        seed: int = 0,
        in_fit: bool = False,
        num_resamples: int = 1000,
        bootstrap_seed: int = 0,
    ) -> None:
        if min(num_problems if num_problems is not None else 1, max_rows) < 1:
            raise ValueError(f"Faithfulness: num_problems={num_problems} and max_rows={max_rows} must be at least 1")
        self.num_problems = num_problems
        self.max_rows = max_rows
        self.seed = seed
        self.in_fit = in_fit
        self.num_resamples = num_resamples
        self.bootstrap_seed = bootstrap_seed
        self._subjects: dict[str, Subject] = {}
        self._seen: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a policy that cannot go on from a text.

        Raises:
            ValueError: it is an encoder-decoder model, which reads a context elsewhere than it writes.
        """
        from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM

        if stage != "predict" and isinstance(as_evaluated(pl_module, self).policy, Seq2SeqLM):
            raise ValueError(
                "Faithfulness lets a policy go on behind a changed rationale, which Seq2SeqLM cannot: choose CausalLM, "
                "or take Faithfulness out of trainer.callbacks"
            )

    def restart(self) -> None:
        """Forget the completions."""
        self._subjects = {}
        self._seen = set()

    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, step_name: str) -> None:
        """Note a completion of each problem of one batch."""
        for record in records_of(outputs, step_name):
            if record.problem.id not in self._seen:
                self._seen.add(record.problem.id)
                subject = first_reasoned(record.problem, record.completions)
                if subject is not None:
                    self._subjects[record.problem.id] = subject

    def finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Change rationales, let the policy answer, merge the ranks and write the results."""
        if trainer.state.fn == "fit" and not self.in_fit:
            return
        known = {subject.problem.id: subject for subject in gather_all(list(self._subjects.values()))}
        subjects = [known[name] for name in sorted(known)][: self.num_problems]
        rationales = perturbed(subjects, seed=self.seed)
        own = slice(trainer.global_rank, None, trainer.world_size)
        policy = as_evaluated(pl_module, self).policy
        found = answers_behind(policy, subjects[own], rationales[own], max_rows=self.max_rows)
        rows: list[ResultRow] = [
            {
                "problem_id": subject.problem.id,
                "answer": subject.problem.answer,
                "cue": subject.parts.cue,
                "answered": {name: asdict(one) for name, one in answered.items()},
                "metrics": faithfulness_metrics(answered),
            }
            for subject, answered in zip(subjects[own], found, strict=True)
        ]
        rows = sorted(gather_all(rows), key=lambda row: row["problem_id"])
        measured = measure(rows, num_resamples=self.num_resamples, seed=self.bootstrap_seed)
        if measured:
            # All ranks hold the same values; the reduction keeps monitors of every rank supplied and Lightning quiet.
            pl_module.log_dict({f"{stage}/{name}": one.value for name, one in measured.items()}, sync_dist=True)
        if trainer.is_global_zero:
            self._write(trainer, pl_module, stage, rows, measured)

    def _write(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        stage: str,
        rows: list[ResultRow],
        measured: dict[str, Measured],
    ) -> None:
        folder = run_folder(trainer) / "results"
        module = as_evaluated(pl_module, self)
        own = {"method": module.method, "seed": run_seed(), "step": self.weights_step(trainer)}
        metrics = {name: one.to_json() for name, one in measured.items()}
        settings = {"num_problems": self.num_problems, "seed": self.seed}
        content = {"stage": stage, **own, "settings": settings, "problems": len(rows), "metrics": metrics}
        path = write_jsonl(folder / f"{stage}_faithfulness.jsonl", [{**row, **own} for row in rows])
        send_artifact(trainer, path, "results")
        send_artifact(trainer, write_json(folder / f"{stage}_faithfulness.json", content), "results")
