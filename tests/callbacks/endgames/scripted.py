"""A module without a model, whose moves a test writes, and the trainer around it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lightning_gfn.module_interfaces import EvaluatedModule


class Player(EvaluatedModule):
    """Samples nothing itself; keeps what is logged."""

    method = "scripted"
    policy = None  # type: ignore[assignment]
    proving = None
    head = None

    def __init__(self) -> None:
        self.logged: dict[str, float] = {}

    @property
    def trained_model(self) -> Any:
        return None

    def decoding(self) -> dict[str, Any]:
        return {"num_samples": 1, "temperatures": (1.0, 0.001)}

    def environment_record(self) -> dict[str, Any]:
        return {}

    def log_dict(self, values: dict[str, float], **_: Any) -> None:
        self.logged |= values


def trainer(folder: Path, datamodule: object = None) -> Any:
    """What the callbacks read of a trainer that tests."""
    return SimpleNamespace(
        default_root_dir=str(folder),
        state=SimpleNamespace(fn="test"),
        datamodule=datamodule,
        loggers=[],
        is_global_zero=True,
        world_size=1,
    )
