"""The last lines of a command: what it did, its figures, and where everything lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

SHOWN = 6
STAGES = {"validate": "val", "test": "test", "run": "test"}
PREDICTIONS = Path("predictions") / "predictions.jsonl"
FIRST = ("results", "predictions", "step_labels", "proofs", "samples", "model", "checkpoints")
"""What of a run folder is looked for first."""
QUIET = ("config.yaml", "run.json", "metrics.csv")

State = dict[Path, tuple[int, int]]


def files_of(folder: Path) -> State:
    """The files below a folder, each with its time and size."""
    found = {path.relative_to(folder): path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {path: (state.st_mtime_ns, state.st_size) for path, state in found.items()}


def written(before: State, after: State) -> list[str]:
    """What of a folder is new or changed: single files of results and predictions, else whole folders.

    Args:
        before: its files when the command began.
        after: its files now.
    """
    changed = [path for path, state in after.items() if before.get(path) != state and path.name not in QUIET]
    whole = [path for path in changed if not path.stem.startswith("rank")]
    names = [
        path.as_posix() if path.parts[0] in FIRST[:3] or len(path.parts) == 1 else f"{path.parts[0]}/" for path in whole
    ]
    order = {name: number for number, name in enumerate(FIRST)}
    return sorted(dict.fromkeys(names), key=lambda name: (order.get(name.partition("/")[0], len(order)), name))


def figures(trainer: Trainer, stage: str) -> str:
    """The figures that a stage logged, as many as a line holds."""
    values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(f"{stage}/")}
    shown = [f"{name} {value:.4g}" for name, value in list(values.items())[:SHOWN]]
    more = [f"{len(values) - SHOWN} more in metrics.jsonl"] if len(values) > SHOWN else []
    return ", ".join([*shown, *more]) if shown else "no figures, neither the module nor a callback logs any"


def predicted(folder: Path, before: State, trainer: Trainer) -> str:
    """How many samples a prediction wrote."""
    if files_of(folder).get(PREDICTIONS) == before.get(PREDICTIONS):
        batches = sum(int(number) for number in trainer.num_predict_batches)
        return f"{batches} batches; add lightning_gfn.callbacks.PredictionWriter to keep the samples"
    with (folder / PREDICTIONS).open(encoding="utf-8") as file:
        return f"{sum(1 for _ in file)} samples"


def closing_lines(command: str, folder: Path, before: State, trainer: Trainer, checkpoint: Path | None) -> list[str]:
    """What a command did and where it lies.

    Args:
        command: fit, validate, test, predict or run.
        folder: the run folder.
        before: its files when the command began.
        trainer: after the command.
        checkpoint: whose weights were used; None for the model as configured.
    """
    changed = written(before, files_of(folder))
    used = f"of {checkpoint}" if checkpoint is not None else "of the model as configured"
    stage = STAGES.get(command, "")
    tabled = f"results/{stage}_metrics.json" in changed
    if command in ("fit", "run"):
        did = f"training ended at step {trainer.global_step}"
        if command == "run":
            did += ", its weights were tested" if tabled else f", its weights were tested: {figures(trainer, stage)}"
    elif command == "predict":
        did = f"{used}: {predicted(folder, before, trainer)}"
    else:
        did = f"{used}: the figures above" if tabled else f"{used}: {figures(trainer, stage)}"
    where = ", ".join(changed) if changed else "nothing was written"
    return [f"{command}: {did}" if command in ("fit", "run") else f"{command} {did}", f"in {folder}: {where}"]
