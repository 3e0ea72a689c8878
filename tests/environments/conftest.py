"""One embedded Lean for all tests that need it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lightning_gfn.environments.embedded import EmbeddedLean


@pytest.fixture(scope="session")
def lean() -> Iterator[EmbeddedLean]:
    """The embedded Lean; the test is skipped, with the reason, where it is not installed."""
    reason = EmbeddedLean.unavailable()
    if reason is not None:
        pytest.skip(reason)
    backend = EmbeddedLean(timeout=120, check_timeout=300, start_timeout=600)
    yield backend
    backend.close()
