"""Readable samples: what the policy writes, at each validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning_gfn.callbacks.common.evaluated_step import EvaluatedStep
from lightning_gfn.callbacks.common.markdown_text import code, fenced, plain
from lightning_gfn.callbacks.common.run_files import (
    ResultRow,
    gather_rows,
    records_of,
    run_folder,
    send_artifact,
    write_jsonl,
)
from lightning_gfn.types import EvalRecord
from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def sample_row(record: EvalRecord, num_samples: int) -> ResultRow:
    """A problem with its first samples."""
    return {
        "problem_id": record.problem.id,
        "prompt": record.problem.prompt,
        "answer": record.problem.answer,
        "temperature": record.temperature,
        "num_samples": len(record.completions),
        "num_correct": sum(record.correct) if record.is_judged else None,
        "samples": [
            {"completion": text, "correct": right, "log_prob": log_prob, "length": length}
            for text, right, log_prob, length in zip(
                record.shown[:num_samples], record.correct, record.log_probs, record.lengths, strict=False
            )
        ],
    }


def samples_markdown(rows: Sequence[ResultRow], title: str) -> str:
    """The rows as a Markdown page."""
    parts = [f"# {title}"]
    for row in rows:
        judged = row["num_correct"] is not None
        right = f"{row['num_correct']} of {row['num_samples']} right" if judged else f"{row['num_samples']} samples"
        parts.append(f"## {plain(row['problem_id'])}, temperature {row['temperature']:g}: {right}")
        parts.append(fenced(row["prompt"]))
        if judged:
            parts.append(f"Reference answer: {code(row['answer'])}")
        for index, sample in enumerate(row["samples"]):
            verdict = (": right" if sample["correct"] else ": wrong") if judged else ""
            parts.append(f"**{index + 1}{verdict}**, {sample['length']} tokens, log q {sample['log_prob']:.2f} nats")
            parts.append(fenced(sample["completion"]))
    return "\n\n".join(parts) + "\n"


class SampleTable(EvaluatedStep):
    """Keeps the samples of the first problems at each validation and test, as JSONL and as a Markdown page.

    Written to ``samples/step_<step>.jsonl`` and ``.md`` (``samples/test_step_<step>`` for tests) in the run folder and
    given to the loggers as artifacts.

    Args:
        num_problems: problems shown.
        num_samples: samples shown of each problem and temperature.
    """

    def __init__(self, *, num_problems: int = 4, num_samples: int = 8) -> None:
        if num_problems < 1 or num_samples < 1:
            raise ValueError(f"num_problems and num_samples must be positive, got {num_problems} and {num_samples}")
        self.num_problems = num_problems
        self.num_samples = num_samples
        self._rows: dict[tuple[str, float], ResultRow] = {}

    def restart(self) -> None:
        """Start with an empty table."""
        self._rows = {}

    def take(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, step_name: str) -> None:
        """Keep the samples of the first problems."""
        self._keep(records_of(outputs, step_name), trainer.global_rank)

    def finish(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the table."""
        self._write(trainer, "test_step" if stage == "test" else "step")

    def _keep(self, records: Sequence[EvalRecord], rank: int) -> None:
        for record in records:
            known = list(dict.fromkeys(problem_id for problem_id, _ in self._rows))
            if record.problem.id not in known:
                known.append(record.problem.id)
            number = known.index(record.problem.id)
            if number < self.num_problems:
                row = {**sample_row(record, self.num_samples), "order": [number, rank]}
                self._rows.setdefault((record.problem.id, record.temperature), row)

    def _write(self, trainer: Trainer, stem: str) -> None:
        gathered = sorted(gather_rows(trainer, list(self._rows.values())), key=lambda row: row["order"])
        first = list(dict.fromkeys(row["problem_id"] for row in gathered))[: self.num_problems]
        if not trainer.is_global_zero or not gathered:
            return
        unique = {(row["problem_id"], row["temperature"]): row for row in reversed(gathered)}
        keys = sorted((key for key in unique if key[0] in first), key=lambda key: (first.index(key[0]), key[1]))
        rows = [{name: value for name, value in unique[key].items() if name != "order"} for key in keys]
        step = self.weights_step(trainer)
        path = run_folder(trainer) / "samples" / f"{stem}_{step:06d}.jsonl"
        send_artifact(trainer, write_jsonl(path, rows), "samples")
        page = samples_markdown(rows, f"Samples at step {step}")
        send_artifact(trainer, replace_text(path.with_suffix(".md"), page), "samples")
