"""A stand-in for the real modules: a policy of one weight, whose samples are fabricated from the problem id."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_gfn.module_interfaces import EvaluatedModule
from lightning_gfn.types import EvalRecord, Problem

WORDINGS = (
    "first add the apples then the pears so we have {n}",
    "pears and apples together make {n} pieces of fruit",
    "counting every single item on the table one by one gives {n}",
)


def make_problems(count: int) -> list[Problem]:
    """Problems whose answers are their numbers; every second one has an enumerated solution set."""
    problems = []
    for n in range(count):
        solutions = {f"{words.format(n=n)}\nThe answer is: {n}": f"path {i}" for i, words in enumerate(WORDINGS)}
        known = solutions if n % 2 == 0 else None
        problems.append(Problem(id=f"p{n:03d}", prompt=f"How much is {n}?", answer=str(n), solution_set=known))
    return problems


def make_record(problem: Problem, temperature: float, num_samples: int = 8) -> EvalRecord:
    """Samples of which (number of the problem) mod (num_samples + 1) are right, in rotating wordings."""
    n = int(problem.id[1:])
    num_correct = n % (num_samples + 1) if temperature == 1.0 else num_samples
    completions, correct = [], []
    for sample in range(num_samples):
        right = sample < num_correct
        answer = n if right else n + 1 + sample
        completions.append(f"{WORDINGS[sample % (1 + n % 3)].format(n=answer)}\nThe answer is: {answer}")
        correct.append(right)
    return EvalRecord(
        problem=problem,
        temperature=temperature,
        completions=tuple(completions),
        correct=tuple(correct),
        log_probs=tuple(-1.0 - sample for sample in range(num_samples)),
        lengths=tuple(10 + n + sample for sample in range(num_samples)),
        entropies=tuple(0.5 + 0.01 * n for _ in range(num_samples)),
        truncated=(False,) * num_samples,
    )


@dataclass(frozen=True)
class Drawing:
    """How the fabricated samples claim to be drawn."""

    num_samples: int = 8
    temperatures: tuple[float, ...] = (1.0, 0.6)
    top_k: int | None = None
    top_p: float | None = 0.9
    seed: int = 3


class ReplayModule(pl.LightningModule, EvaluatedModule):
    """Trains one weight and returns fabricated records."""

    def __init__(self, method: str = "replay", drawing: Drawing | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.method = method
        self.evaluation = drawing if drawing is not None else Drawing()
        self.policy: Any = None
        self.proving = self.head = None

    @property
    def trained_model(self) -> Any:
        return self.policy

    def decoding(self) -> dict[str, Any]:
        return asdict(self.evaluation)

    def environment_record(self) -> dict[str, Any]:
        return {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch

    def training_step(self, batch: list[Problem], batch_idx: int) -> dict[str, Any]:
        loss: Tensor = self.weight.square().sum()
        self.log("train/loss", loss)
        return {"loss": loss, "generated_tokens": 10, "reward_calls": len(batch), "gradient_tokens": 100}

    def records(self, batch: list[Problem]) -> list[EvalRecord]:
        return [make_record(p, t, self.evaluation.num_samples) for t in self.evaluation.temperatures for p in batch]

    def validation_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:
        return self.records(batch)

    def test_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:
        return self.records(batch)

    def predict_step(self, batch: list[Problem], batch_idx: int) -> list[EvalRecord]:
        return self.records(batch)


class FileLogger(DummyLogger):
    """Remembers metrics and artifacts."""

    def __init__(self) -> None:
        super().__init__()
        self.artifacts: list[tuple[str, str | None]] = []
        self.metrics: list[dict[str, float]] = []

    def log_artifact_file(self, path: Path, artifact_path: str | None = None) -> None:
        assert path.is_file()
        self.artifacts.append((path.name, artifact_path))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.metrics.append(dict(metrics))


def quiet_trainer(callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
    """A CPU trainer that shows nothing and saves nothing unless asked to."""
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "max_steps": 4,
    }
    return pl.Trainer(callbacks=callbacks, **{**settings, **options})


def make_loader(problems: list[Problem], batch_size: int = 2) -> DataLoader[Problem]:
    """Batches of problems, in order."""
    return DataLoader(problems, batch_size=batch_size, collate_fn=list)  # type: ignore[arg-type]
