"""What is needed to study a step that was left out because its loss or gradient was not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from lightning_gfn.callbacks.common.console import write_line
from lightning_gfn.callbacks.common.run_files import gather_rows, run_folder, write_json
from lightning_gfn.finite import largest_weight, state_not_finite

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

MAX_EXAMPLES = 64
TEXT_FIELDS = ("id", "prompt", "completion", "chosen", "rejected", "solutions", "steps", "labels", "label")


class SkippedStepDump(Callback):
    """Writes ``skipped_steps/step-<number>.json`` in the run folder for each step that was left out.

    A file holds each training batch of the step, of every rank: ids, prompts, completions, rewards, and the logged
    figures, loss terms and gradient norm among them; and the state of the weights. The newest files are kept.

    Args:
        max_files: files that are kept.
    """

    def __init__(self, *, max_files: int = 20) -> None:
        if max_files < 1:
            raise ValueError(f"SkippedStepDump: max_files={max_files} must be at least 1")
        self.max_files = max_files
        self._batches: list[tuple[Any, Any, dict[str, Any]]] = []
        self._seen: int | None = None
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen = total_of(pl_module)
        self._step = trainer.global_step
        self._batches = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        total = total_of(pl_module)
        if total is None or self._seen is None:
            return
        logged = {k: v for k, v in trainer.callback_metrics.items() if k.split("/")[0] == "train"}
        self._batches.append((batch, getattr(pl_module, "latest_rollouts", None), logged))
        if trainer.global_step == self._step:  # the window goes on
            return
        if total > self._seen:
            self._write(trainer, pl_module)
        self._batches, self._seen, self._step = [], total, trainer.global_step

    def _write(self, trainer: Trainer, pl_module: Any) -> None:
        rows = [{"rank": trainer.global_rank, **described(*held)} for held in self._batches]
        gathered = gather_rows(trainer, rows)
        step = trainer.global_step - 1
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        folder = run_folder(trainer) / "skipped_steps"
        broken = state_not_finite(pl_module, trainer.optimizers)
        content = {
            "step": step,
            "skipped_in_a_row": pl_module.skipped.in_a_row,
            "weights": {"largest": largest_weight(pl_module), "not_finite": broken[:20]},
            "learning_rates": [group["lr"] for o in trainer.optimizers for group in o.param_groups],
            "precision": str(trainer.precision),
            "batches": gathered,
        }
        path = write_json(folder / f"step-{step:08d}.json", content)
        for old in sorted(folder.glob("step-*.json"))[: -self.max_files]:
            old.unlink()
        if pl_module.skipped.in_a_row == 1:
            write_line(
                f"[lightning-gfn] WARNING (skipped_step, step {step}): the loss or the gradient is not finite; the "
                f"step was left out and its batch written to {path}"
            )


def total_of(pl_module: Any) -> int | None:
    """Steps that a module has left out; None if it does not count them."""
    skipped = getattr(pl_module, "skipped", None)
    return getattr(skipped, "total", None)


def described(batch: Any, rollouts: Any, logged: dict[str, Any]) -> dict[str, Any]:
    """One training batch as JSON's types; numbers that are no JSON numbers become texts (``nan``, ``-inf``)."""
    rows: list[dict[str, Any]] = []
    if rollouts is not None:
        drawn, log_rewards = rollouts.rollouts, rollouts.log_reward.terminal_B.tolist()
        for b, completion in enumerate(drawn.completions[:MAX_EXAMPLES]):
            problem = drawn.problem_of(b)
            terms = {name: plain(values[b].tolist()) for name, values in drawn.terms.items()}
            rows.append(
                {"id": problem.id, "prompt": str(problem.prompt), "completion": completion, "source": drawn.sources[b],
                 "log_reward": plain(log_rewards[b]), "terms": terms}
            )  # fmt: skip
    elif isinstance(batch, Sequence):
        rows = [
            {name: plain(getattr(row, name)) for name in TEXT_FIELDS if hasattr(row, name)}
            for row in batch[:MAX_EXAMPLES]
        ]
    return {"examples": rows, "metrics": {name: plain(float(value)) for name, value in sorted(logged.items())}}


def plain(value: Any) -> Any:
    """The same with numbers that are not finite as texts."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value if isinstance(value, (int, float, str, bool)) or value is None else str(value)
