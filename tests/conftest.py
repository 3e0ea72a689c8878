"""What every test may need: the installed models, loaded once a session, and tests that wait for each other.

A test that needs a model is skipped, with the reason, where it is not installed.
"""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from lightning_gfn.policies.causal_lm import CausalLM


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Where several processes share the tests, runs on two ranks wait for each other.

    Two that begin together may choose the same port, and then each waits for a rank of the other.
    """
    if item.get_closest_marker("ddp") is None:
        return (yield)
    with FileLock(Path(tempfile.gettempdir()) / f"lightning-gfn-two-ranks-{getpass.getuser()}.lock"):
        return (yield)


@pytest.fixture(scope="session")
def run_ranks() -> Callable[..., None]:
    """Run Python on a program that starts further processes; it must succeed.

    Where it hangs, the failure shows what every thread of every process was at.
    """

    def run(*arguments: str | Path, path: str = "", cwd: Path | None = None, timeout: float = 560.0) -> None:
        root = str(Path(__file__).parents[1])
        environment = {
            **os.environ, "PYTHONPATH": f"{path}:{root}" if path else root, "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "", "PYTHONFAULTHANDLER": "1",
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], env=environment, cwd=cwd, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            _, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)
            _, errors = process.communicate()
            pytest.fail(f"not ended after {timeout:g} s\n{errors[-20000:]}")
        assert process.returncode == 0, errors[-3000:]

    return run


def installed_folder(name: str) -> Path:
    """The folder of an installed model."""
    from lightning_gfn.pretrained.catalogue import resolve

    try:
        return Path(resolve(name))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """Folder of the installed SmolLM2-135M-Instruct."""
    return installed_folder("smollm2-135m")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """Folder of the installed all-MiniLM-L6-v2."""
    return installed_folder("sentence-minilm")


@pytest.fixture(scope="session")
def smollm2(smollm2_folder: Path) -> CausalLM:
    """SmolLM2-135M-Instruct as a policy in float32; tests must leave it as it is."""
    from lightning_gfn.policies.causal_lm import CausalLM

    policy = CausalLM(pretrained="smollm2-135m", max_prompt_tokens=192, max_new_tokens=24)
    policy.build(())
    return policy.eval()
