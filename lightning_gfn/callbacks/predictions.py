"""Write every predicted sample to disk as soon as it exists."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lightning_gfn.callbacks.common.costs import (
    LABELS,
    PEAK,
    PROCESSOR,
    is_labelled,
    peak_memory_mib,
    processor_seconds,
    reset_peak_memory,
    sampling_cost,
)
from lightning_gfn.callbacks.common.run_files import (
    gather_rows,
    json_line,
    records_of,
    run_folder,
    send_artifact,
    write_json,
)
from lightning_gfn.lean_types import Episode
from lightning_gfn.module_interfaces import as_evaluated
from lightning_gfn.prompts.chat import written_prompt
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rollouts.rollout_batch import tactics_asked
from lightning_gfn.types import EvalRecord
from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer


def prediction_rows(record: EvalRecord, prompt: ProofPrompt | None = None) -> list[dict[str, Any]]:
    """One row a completion, with its steps if it is an attempt at a proof.

    Args:
        record: samples of a problem.
        prompt: what the policy read before each tactic.
    """
    return [
        {
            "problem_id": record.problem.id,
            "prompt": written_prompt(record.problem.prompt),
            "temperature": record.temperature,
            "sample": sample,
            "completion": completion,
            "log_prob": record.log_probs[sample],
            "correct": record.correct[sample],
            "length": record.lengths[sample],
            "truncated": record.truncated[sample],
            **({"marked": record.marked[sample]} if record.marked else {}),
            **({"answer_style": record.problem.answer_style} if record.problem.theorem is None else {}),
            **(episode_columns(record.episodes[sample], prompt) if record.episodes and prompt is not None else {}),
        }
        for sample, completion in enumerate(record.completions)
    ]


def episode_columns(episode: Episode, prompt: ProofPrompt) -> dict[str, Any]:
    """How an attempt at a proof ended, and its tactics, each with what the policy read before it."""
    last = len(episode.tactics) - 1
    return {
        "outcome": episode.outcome,
        "message": episode.message,
        "steps": [
            {
                "prompt": prompt(state, episode.tactics[:i]),
                "tactic": tactic,
                "failed": episode.outcome == "error" and i == last,
            }
            for i, (state, tactic) in enumerate(zip(episode.states, episode.tactics, strict=True))
        ],
    }


class PredictionWriter(Callback):
    """Appends each batch of ``predict`` to ``predictions/rank<r>.jsonl`` and merges the ranks at the end.

    Rows: problem_id, prompt, temperature, sample, completion, log_prob (nats, temperature 1), correct, length (tokens),
    truncated, answer_style; of policies with tools also marked, the completion with what a tool wrote between ⟦ and ⟧;
    for an attempt at a proof, in place of answer_style, outcome, message and steps (prompt, tactic, failed). Every
    batch is flushed, so a killed run keeps what it has predicted. The merged ``predictions/predictions.jsonl`` stands
    in data-set order and holds each (problem, temperature, sample) once.

    ``predictions/budget.json`` says what the sampling cost, in the form that ``Budget`` takes as ``prior``: tokens
    generated, completions checked (reward calls), problems with a label and processor time on all ranks, seconds of the
    slowest, the highest peak of memory.

    Args:
        folder: name of the folder inside the run folder.
    """

    def __init__(self, *, folder: str = "predictions") -> None:
        self.folder = folder
        self._file: IO[str] | None = None
        self._generated_tokens = 0
        self._reward_calls = 0
        self._environment_steps = 0
        self._labelled: set[str] = set()
        self._start = 0.0
        self._processor_start = 0.0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this rank's file anew; files of ranks that no longer exist go."""
        folder = run_folder(trainer) / self.folder
        folder.mkdir(parents=True, exist_ok=True)
        if trainer.is_global_zero:
            for stale in folder.glob("rank*.jsonl"):
                stale.unlink()
        trainer.strategy.barrier("lightning_gfn.predictions_start")
        self._file = (folder / f"rank{trainer.global_rank}.jsonl").open("w", encoding="utf-8")
        self._generated_tokens = self._reward_calls = self._environment_steps = 0
        self._labelled = set()
        self._start, self._processor_start = time.monotonic(), processor_seconds()
        reset_peak_memory(pl_module.device)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._file is None:
            raise RuntimeError("PredictionWriter saw a batch before on_predict_start: run it by trainer.predict")
        proving = as_evaluated(pl_module, self).proving
        prompt = proving.proof_prompt if proving is not None else None
        records = records_of(outputs, "predict_step")
        rows = [row for record in records for row in prediction_rows(record, prompt)]
        self._environment_steps += sum(
            tactics_asked((record.problem.id, episode) for episode in record.episodes) for record in records
        )
        self._generated_tokens += sum(row["length"] for row in rows)
        self._reward_calls += len(rows)
        self._labelled |= {record.problem.id for record in records if is_labelled(record.problem)}
        self._file.write("".join(json_line(row) for row in rows))
        self._file.flush()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the ranks' files in data-set order and write what they cost."""
        self._close()
        parts_spent = gather_rows(trainer, [self._spent(pl_module)])
        trainer.strategy.barrier("lightning_gfn.predictions_end")
        if trainer.is_global_zero:
            folder = run_folder(trainer) / self.folder
            parts = [folder / f"rank{rank}.jsonl" for rank in range(trainer.world_size)]
            text = merge_predictions(parts)
            send_artifact(trainer, replace_text(folder / "predictions.jsonl", text), self.folder)
            cost = sampling_cost(parts_spent)
            send_artifact(trainer, write_json(folder / "budget.json", cost), self.folder)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()

    def _spent(self, pl_module: LightningModule) -> dict[str, float]:
        return {
            "generated_tokens": self._generated_tokens,
            "reward_calls": self._reward_calls,
            "environment_steps": self._environment_steps,
            LABELS: len(self._labelled),
            "wall_seconds": time.monotonic() - self._start,
            PROCESSOR: processor_seconds() - self._processor_start,
            PEAK: peak_memory_mib(pl_module.device),
        }

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def merge_predictions(parts: Sequence[Path]) -> str:
    """The lines of all ranks' files, each (problem, temperature, sample) once, in data-set order.

    Rank r of R evaluates problems r, r + R, r + 2R, …, so that the i-th problem of rank r is number iR + r.

    Args:
        parts: one file a rank, in order of ranks.
    """
    lines: dict[tuple[str, float, int], str] = {}
    order: dict[str, tuple[int, int]] = {}
    for rank, part in enumerate(parts):
        position: dict[str, int] = {}
        with part.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                problem_id = row["problem_id"]
                index = position.setdefault(problem_id, len(position))
                order[problem_id] = min((index, rank), order.get(problem_id, (index, rank)))
                lines.setdefault((problem_id, row["temperature"], row["sample"]), line)
    return "".join(lines[key] for key in sorted(lines, key=lambda key: (order[key[0]], key[1], key[2])))
