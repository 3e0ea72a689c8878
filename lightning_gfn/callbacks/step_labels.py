"""Label the steps of predicted samples and write them in TRL's stepwise form."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lightning_gfn.callbacks.common.costs import PEAK, peak_memory_mib, sampling_cost
from lightning_gfn.callbacks.common.run_files import (
    ResultRow,
    json_line,
    records_of,
    run_folder,
    send_artifact,
    write_json,
)
from lightning_gfn.callbacks.predictions import merge_predictions
from lightning_gfn.module_interfaces import as_evaluated
from lightning_gfn.prompts.chat import written_prompt
from lightning_gfn.prompts.question_template import known_template
from lightning_gfn.rollouts.step_labels import StepLabeller, SteppedSolution, attempt_of
from lightning_gfn.whole_files import replace_text

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from lightning_gfn.types import EvalRecord


def closing_line(problem_id: str, **spent: float) -> ResultRow:
    """The row that says that all rows of a problem are written, and what its batch cost if it is the last of one."""
    return {"problem_id": problem_id, "temperature": 0.0, "sample": -1, "end": True, **spent}


class StepLabelWriter(Callback):
    """Labels every sample of ``predict`` and appends it to ``step_labels/rank<r>.jsonl`` of the run folder.

    Rows: prompt, completions (the steps, each with the separator that ends it), labels (bool: above 0), soft_labels (0
    to 1), problem_id, temperature, sample, and prompt_template where the data name theirs. The same text of one problem
    is labelled once, a sample without visible text not at all. Every batch is flushed; a run that was killed goes on
    after the last problem that it finished, if the settings are still the same. At the end the ranks are merged into
    ``step_labels/step_labels.jsonl``, and ``step_labels/budget.json`` says what samples and labels cost, in the form
    that ``Budget`` takes as ``prior``.

    Args:
        labeller: exact labels, or completion from each step.
        separator: what ends a step.
        folder: name of the folder inside the run folder.
    """

    def __init__(self, labeller: StepLabeller, *, separator: str = "\n", folder: str = "step_labels") -> None:
        self.labeller = labeller
        self.separator = separator
        self.folder = folder
        self._done: set[str] = set()
        self._since = 0.0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out what an earlier run finished.

        Raises:
            ValueError: it had other settings.
        """
        folder = run_folder(trainer) / self.folder
        settings = {
            "labeller": repr(self.labeller),
            "separator": self.separator,
            "decoding": repr(as_evaluated(pl_module, self).decoding()),
            "ranks": trainer.world_size,
        }
        file = folder / "settings.json"
        if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != settings:
            raise ValueError(
                f"{folder} holds labels of other settings ({file}): move it away, or give the callback another folder"
            )
        trainer.strategy.barrier("lightning_gfn.step_labels_start")
        if trainer.is_global_zero:
            replace_text(file, json.dumps(settings, indent=2) + "\n")
        self._done = {row["problem_id"] for row in self._keep_whole(self._part(trainer, trainer.global_rank))}
        self._since = time.monotonic()

    def _part(self, trainer: Trainer, rank: int) -> Path:
        return run_folder(trainer) / self.folder / f"rank{rank}.jsonl"

    @staticmethod
    def _keep_whole(path: Path) -> list[ResultRow]:
        """The rows of a file up to the last problem that was finished; the rest is cut off.

        A problem is finished when its closing line is there.
        """
        if not path.is_file():
            return []
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        ends = [number for number, line in enumerate(lines) if line.endswith("\n") and json.loads(line).get("end")]
        whole = lines[: ends[-1] + 1] if ends else []
        if len(whole) < len(lines):
            replace_text(path, "".join(whole))
        return [row for line in whole if (row := json.loads(line)).get("end")]

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Label the samples of the batch."""
        records = [r for r in records_of(outputs, "predict_step") if r.problem.id not in self._done]
        rows = self.labelled(records, pl_module) if records else []
        with self._part(trainer, trainer.global_rank).open("a", encoding="utf-8") as file:
            file.write("".join(json_line(row) for row in rows))

    def labelled(self, records: list[EvalRecord], pl_module: LightningModule) -> list[ResultRow]:
        """Rows of the samples of these records, and the closing line of each problem."""
        unique: dict[tuple[str, str], tuple[ResultRow, SteppedSolution]] = {}
        for record in records:
            for sample, completion in enumerate(record.completions):
                attempt = attempt_of(record.problem, f"{record.temperature:g}/{sample}", completion, self.separator)
                row = {"problem_id": record.problem.id, "temperature": record.temperature, "sample": sample}
                if attempt is not None:
                    unique.setdefault((record.problem.id, completion), (row, attempt))
        pairs = list(unique.values())
        template = known_template(getattr(pl_module.trainer, "datamodule", None))
        policy = as_evaluated(pl_module, self).policy
        labels = self.labeller([attempt for _, attempt in pairs], policy)
        rows: dict[str, list[ResultRow]] = {record.problem.id: [] for record in records}
        for (row, attempt), shares in zip(pairs, labels.shares, strict=True):
            stepwise = {
                "prompt": written_prompt(attempt.problem.prompt),
                "completions": list(attempt.steps),
                "labels": [share > 0 for share in shares],
                "soft_labels": shares,
                **({"prompt_template": template} if template is not None else {}),
            }
            rows[attempt.problem.id].append({**stepwise, **row})
        *others, last = rows
        now, since = time.monotonic(), self._since
        self._since = now
        spent = {
            "generated_tokens": labels.generated_tokens + sum(sum(record.lengths) for record in records),
            "reward_calls": labels.reward_calls + sum(len(record.completions) for record in records),
            "wall_seconds": now - since,
            PEAK: peak_memory_mib(pl_module.device),
        }
        ends = {id_: closing_line(id_) for id_ in others} | {last: closing_line(last, **spent)}
        return [row for id_, own in rows.items() for row in (*own, ends[id_])]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Merge the ranks' files in data-set order."""
        trainer.strategy.barrier("lightning_gfn.step_labels_end")
        if trainer.is_global_zero:
            folder = run_folder(trainer) / self.folder
            parts = [self._part(trainer, rank) for rank in range(trainer.world_size)]
            lines = [(line, json.loads(line)) for line in merge_predictions(parts).splitlines(keepends=True)]
            text = "".join(line for line, row in lines if "end" not in row)
            send_artifact(trainer, replace_text(folder / "step_labels.jsonl", text), self.folder)
            cost = sampling_cost([cost_of(part) for part in parts])
            send_artifact(trainer, write_json(folder / "budget.json", cost), self.folder)


def cost_of(part: Path) -> dict[str, float]:
    """What one rank spent, by the closing lines of its file: sums, and the highest peak of memory."""
    rows = [json.loads(line) for line in part.read_text(encoding="utf-8").splitlines()]
    summed = {name: sum(row.get(name, 0) for row in rows) for name in ("generated_tokens", "reward_calls")}
    seconds = sum(row.get("wall_seconds", 0.0) for row in rows)
    return {**summed, "wall_seconds": seconds, PEAK: max((row.get(PEAK, 0.0) for row in rows), default=0.0)}
