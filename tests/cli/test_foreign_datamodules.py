"""A folder ``datamodules/`` of the user's in the working directory changes nothing: ours is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONSOLE_SCRIPT = "import sys\nfrom lightning_gfn.cli import main\nsys.exit(main())\n"
PYTHON_M = [sys.executable, "-m", "lightning_gfn.cli"]
CONFIG = ROOT / "experiments" / "quickstart" / "sft.yaml"


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """A working directory with a ``datamodules`` of the user's, which must not be imported, and a class beside it."""
    folder = tmp_path / "work"
    (folder / "datamodules").mkdir(parents=True)
    for name in ("__init__.py", "synthetic.py"):
        (folder / "datamodules" / name).write_text("raise RuntimeError('the datamodules of the user were imported')\n")
    (folder / "mine.py").write_text(
        "from datamodules.synthetic import SyntheticWordProblems\n\n\nclass Mine(SyntheticWordProblems):\n    pass\n"
    )
    return folder


@pytest.fixture(params=["console script", "python -m"])
def call(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The two ways to call: a console script looks in its own folder first, ``python -m`` in the working directory."""
    if request.param == "python -m":
        return PYTHON_M
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "lightning-gfn"
    script.write_text(CONSOLE_SCRIPT)
    return [sys.executable, str(script)]


def run(call: list[str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", MLFLOW_TRACKING_URI="")
    return subprocess.run([*call, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


SLOW = [pytest.param(arguments, marks=pytest.mark.slow) for arguments in (["lean", "doctor"], ["fit", "--help"])]


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], *SLOW])
def test_commands_work(call: list[str], users_folder: Path, arguments: list[str]) -> None:
    done = run(call, users_folder, *arguments)
    working = (0, 1) if "doctor" in arguments else (0,)  # 1: no Lean works here, which the doctor says
    assert done.returncode in working and "Traceback" not in done.stderr, done.stderr
    assert len(done.stdout.splitlines()) >= 3


def printed(call: list[str], folder: Path, data: str) -> subprocess.CompletedProcess[str]:
    return run(call, folder, "fit", "--config", str(CONFIG), "--data.class_path", data, "--print_config")


def test_class_paths_load_ours(call: list[str], users_folder: Path) -> None:
    done = printed(call, users_folder, "mine.Mine")  # its base class is datamodules.synthetic.SyntheticWordProblems
    assert done.returncode == 0, done.stderr
    assert "class_path: mine.Mine" in done.stdout
    told = "is passed over" in done.stderr
    assert told == (call == PYTHON_M), "where another package comes first on the path, the user is told"


def test_a_folder_without_init_is_passed_over(users_folder: Path) -> None:
    (users_folder / "datamodules" / "__init__.py").unlink()
    done = printed(PYTHON_M, users_folder, "datamodules.synthetic.SyntheticWordProblems")
    assert done.returncode == 0 and "class_path: datamodules.synthetic" in done.stdout, done.stderr


def test_child_processes_find_ours(users_folder: Path) -> None:
    """A spawned process gets the search path of its parent, and imports what it unpickles from there."""
    code = (
        "import sys, multiprocessing\n"
        "from lightning_gfn.installation.our_datamodules import prefer_our_datamodules\n"
        "def child(queue):\n"
        "    import datamodules\n"
        "    queue.put(datamodules.__file__)\n"
        "if __name__ == '__main__':\n"
        "    sys.path.insert(0, '')\n"
        "    prefer_our_datamodules()\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    queue = context.Queue()\n"
        "    process = context.Process(target=child, args=(queue,))\n"
        "    process.start()\n"
        "    print(queue.get(timeout=60))\n"
        "    process.join()\n"
    )
    script = users_folder.parent / "spawns.py"
    script.write_text(code)
    done = run([sys.executable], users_folder, str(script))
    assert Path(done.stdout.strip()) == ROOT / "datamodules" / "__init__.py", done.stderr


def test_a_package_that_is_loaded_already_is_an_error(users_folder: Path) -> None:
    (users_folder / "datamodules" / "__init__.py").write_text("")
    code = f"import datamodules, lightning_gfn.cli as cli\nraise SystemExit(cli.main(['fit', '--config', '{CONFIG}']))"
    done = run([sys.executable], users_folder, "-c", code)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "remove the other one" in done.stderr and len(done.stderr.splitlines()) <= 3
