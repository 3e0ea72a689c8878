"""A backend that has run is copied as its configuration."""

from __future__ import annotations

import copy
import pickle

import pytest

from lightning_gfn.environments.embedded import EmbeddedLean


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda lean: pickle.loads(pickle.dumps(lean))])
def test_copies_hold_settings_and_nothing_that_runs(twin) -> None:
    lean = EmbeddedLean(heartbeats=123, folder="somewhere")
    lean._process, lean._generation, lean._imported = iter(()), 7, {("Init",): 3}  # type: ignore[assignment]
    other = twin(lean)
    assert (other.heartbeats, other.folder) == (123, "somewhere")
    assert (other._process, other._generation, other._imported) == (None, 0, {})
    assert lean._generation == 7
