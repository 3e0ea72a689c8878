"""A trainer and a module of fabricated records for callback tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import pytest

REPLAY = Path(__file__).parent / "replay_module.py"


@pytest.fixture(scope="session")
def replay() -> ModuleType:
    """The file ``replay_module.py`` beside this one, which two-process scripts import as well."""
    spec = importlib.util.spec_from_file_location("replay_module", REPLAY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["replay_module"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_trainer(tmp_path: Path, replay: ModuleType) -> Callable[..., pl.Trainer]:
    """A quiet CPU trainer whose run folder is ``tmp_path``."""

    def build(*callbacks: pl.Callback, **options: Any) -> pl.Trainer:
        settings: dict[str, Any] = {"logger": replay.FileLogger(), "default_root_dir": tmp_path, **options}
        return replay.quiet_trainer(list(callbacks), **settings)

    return build
