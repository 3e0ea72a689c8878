"""What a user installs: the wheel, its metadata, and the tools of the clone."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import lightning_gfn

ROOT = Path(__file__).resolve().parents[1]
PLAIN = {
    "lightning",
    "torch",
    "transformers",
    "peft",
    "lean-dojo",
    "torchmetrics",
    "mlflow",
    "rouge-score",
    "jsonargparse",
}


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line.strip()]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normal(name): version for name, version in pairs}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_wheel_holds_both_packages_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            (source / name).write_bytes((ROOT / name).read_bytes())
    for package in ("lightning_gfn", "datamodules", "experiments"):
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                target = source / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    (source / "tests").mkdir()
    (source / "tests" / "__init__.py").touch()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
        scripts = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"lightning_gfn", "datamodules"}
    kinds = ("*.py", "*.html", "*.css", "*.js", "*.lean")
    expected = {str(path.relative_to(ROOT)) for kind in kinds for path in (ROOT / "lightning_gfn").rglob(kind)}
    assert "lightning_gfn/reports/rendering/templates/page.js" in expected
    assert "lightning_gfn/environments/embedded_lean/lean_files/proof.lean" in expected
    assert expected and expected <= set(names)
    carried = {f"lightning_gfn/{path.relative_to(ROOT)}" for path in (ROOT / "experiments").rglob("*.yaml")}
    assert len(carried) > 100 and carried <= set(names)
    assert {"lightning_gfn/objectives/__init__.pyi", "datamodules/__init__.pyi"} <= set(names)
    assert "datamodules/lean_theorems/train.json.gz" in names
    assert f"Version: {lightning_gfn.__version__}" in metadata and "License-Expression: Apache-2.0" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "lightning-gfn = lightning_gfn.cli:main" in scripts


def test_dependencies_admit_the_promised_and_the_pinned_versions(setup_cfg: configparser.ConfigParser) -> None:
    plain = requirements(setup_cfg["options"]["install_requires"])
    by_name = {normal(requirement.name): requirement for requirement in plain}
    assert by_name.keys() >= PLAIN
    assert Version("2.11") in by_name["torch"].specifier and Version("5.17") in by_name["transformers"].specifier
    pinned = pins()
    extras = [item for text in dict(setup_cfg["options.extras_require"]).values() for item in requirements(text)]
    assert set(setup_cfg["options.extras_require"]) >= {"lean", "lean-embedded", "gpu", "dev"}
    for requirement in [*plain, *extras]:
        name = normal(requirement.name)
        if name in pinned:
            assert Version(pinned[name]) in requirement.specifier, f"constraints.txt pins {name} outside {requirement}"
    assert {normal(requirement.name) for requirement in plain} <= pinned.keys()


def test_constraints_are_exact_and_portable() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 100
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.]+", line), f"not an exact public version: {line}"


def test_installed_names_are_ours() -> None:
    if "lightning-gfn" not in {name for names in packages_distributions().values() for name in names}:
        pytest.skip("lightning-gfn is not installed here")
    assert set(packages_distributions()["datamodules"]) == {"lightning-gfn"}
    (script,) = entry_points(group="console_scripts", name="lightning-gfn")
    assert script.value == "lightning_gfn.cli:main"


def test_make_help_names_every_target() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("help", "quickstart", "models", "test", "test-ddp", "lean", "test-lean", "lint", "mlflow", "bench"):
        assert re.search(rf"^\s*make {target}\s+\w", done.stdout, re.MULTILINE), target


def test_make_refuses_an_old_python_clearly(tmp_path: Path) -> None:
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1"\nexit 1\n')
    fake.chmod(0o755)
    for name in ("Makefile", "setup.cfg", "setup.py", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    command = ["make", f"PYTHON={fake}", "test"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and "Python 3.9.1" in done.stderr and "make PYTHON=" in done.stderr


def test_continuous_integration_script_is_runnable() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 and "make lint models test test-lean" in script.read_text()


def test_markers_and_defaults(setup_cfg: configparser.ConfigParser) -> None:
    section = setup_cfg["tool:pytest"]
    assert "--import-mode=importlib" in section["addopts"] and "not slow" in section["addopts"]
    for marker in ("slow", "gpu", "lean", "ddp", "pretrained"):
        assert f"{marker}:" in section["markers"]
