"""Public classes are imported from their package, by a name that loads their file when it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STUBS = sorted(path for path in ROOT.glob("*/**/__init__.pyi") if ".venv" not in path.parts)


def package_of(stub: Path) -> str:
    return ".".join(stub.parent.relative_to(ROOT).parts)


def named(stub: Path) -> dict[str, str]:
    """Name → module, as the stub says."""
    imports = [node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def defined(folder: Path) -> dict[str, str]:
    """Public class → module, as the files of a folder define them."""
    found = {}
    for path in folder.glob("[!_]*.py"):
        classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
        found |= {node.name: path.stem for node in classes if not node.name.startswith("_")}
    return found


def test_every_package_of_parts_has_names() -> None:
    parts = {"objectives", "rewards", "policies", "metrics", "callbacks", "modules", "environments", "rollouts"}
    wanted = {f"lightning_gfn.{name}" for name in parts} | {"datamodules"}
    assert {package_of(stub) for stub in STUBS} >= wanted


@pytest.mark.parametrize("stub", STUBS, ids=package_of)
def test_names_are_those_of_the_public_classes(stub: Path) -> None:
    missing = {name: module for name, module in defined(stub.parent).items() if named(stub).get(name) != module}
    assert missing == {}, f"{stub} lacks them"
    package = import_module(package_of(stub))
    assert sorted(package.__all__) == sorted(named(stub))
    for name, module in named(stub).items():
        assert getattr(package, name) is getattr(import_module(f"{package.__name__}.{module}"), name)


def test_a_class_that_no_stub_names_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text("class New: ...\nclass _Inner: ...\n")
    (tmp_path / "__init__.pyi").write_text("from .old import Old as Old\n")
    assert defined(tmp_path) == {"New": "new"} and named(tmp_path / "__init__.pyi") == {"Old": "old"}


def test_packages_load_nothing_heavy() -> None:
    packages = ", ".join(map(package_of, STUBS))
    code = (
        f"import sys, {packages}; print(sorted({{'torch', 'lightning', 'transformers', 'mlflow'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_yaml_may_use_the_short_path() -> None:
    from jsonargparse import ArgumentParser

    from lightning_gfn.interfaces import Objective
    from lightning_gfn.objectives.vargrad import VarGrad

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--objective", type=Objective)
    config = parser.parse_args(["--objective", "lightning_gfn.objectives.VarGrad"])
    assert type(parser.instantiate(config).objective) is VarGrad
