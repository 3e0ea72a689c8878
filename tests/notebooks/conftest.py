"""What both notebooks are tried on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def replay() -> ModuleType:
    """The fabricated module of the callback tests."""
    path = Path(__file__).parents[1] / "callbacks" / "replay_module.py"
    spec = importlib.util.spec_from_file_location("replay_module", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["replay_module"] = module
    spec.loader.exec_module(module)
    return module
