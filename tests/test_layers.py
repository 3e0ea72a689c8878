"""The walls of the house: which package may import which, and who may import what is heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GROUND = {
    "stop_requests",
    "lean_types",
    "contracts",
    "types",
    "preference_types",
    "prompts",
    "interfaces",
    "teacher_interfaces",
    "tools",
    "lean_interfaces",
    "module_interfaces",
    "answers",
    "installation",
    "pretrained",
    "finite",
    "whole_files",
    "cluster",
    "endpoints",
    "user_functions",
}
SIMILARITY = {"similarity"}
L1 = {"objectives", "metrics", "policies", "environments", "rewards", "feedback", "buffers", "theorem_generation"}
CLASSES = {"solution_classes"}
MECHANISM = {"mechanism"}
L2 = {"rollouts"}
SHARED = GROUND | {"sharding", "padding"}
L3 = {"modules", "callbacks", "reports", "studies", "commands", "tracking"}
ALLOWED: dict[str, set[str]] = {
    "lean_types": set(),
    "contracts": set(),
    "types": {"lean_types", "contracts"},
    "preference_types": set(),
    "lean_interfaces": {"lean_types"},
    "interfaces": {"types", "contracts"},
    "teacher_interfaces": {"types", "interfaces"},
    "tools": set(),
    "endgames": set(),
    "module_interfaces": {"interfaces", "lean_interfaces", "prompts"},
    "answers": {"types", "interfaces"},
    "prompts": {"lean_types", "types", "answers"},
    "pretrained": {"installation"},
    "sharding": {"finite"},
    "padding": {"types"},
    "endpoints": set(),
    "user_functions": {"types"},
    "similarity": {"pretrained"},
    "solution_classes": GROUND | SIMILARITY,
    "mechanism": {"prompts", "endpoints"},
    **{name: set(SHARED) for name in L1},
    "metrics": SHARED | SIMILARITY | CLASSES,
    "rewards": SHARED | CLASSES | MECHANISM,
    "rollouts": GROUND | {"padding"} | L1,
    "modules": SHARED | CLASSES | L1 | L2,
    "callbacks": GROUND | {"padding", "endgames"} | SIMILARITY | L1 | L2,
    "reports": {"types", "similarity", "metrics"},
    "studies": GROUND | SIMILARITY | CLASSES | L1 | L2 | {"tracking"},
    "commands": SHARED | SIMILARITY | CLASSES | MECHANISM | L1 | L2 | {"reports", "studies", "tracking"},
    "tracking": {"types", "interfaces", "finite", "whole_files", "sharding"},
    "installation": set(),
    "stop_requests": set(),
    "finite": set(),
    "whole_files": set(),
    "cluster": set(),
    "cli": {"lightning_cli", "commands", "installation", "stop_requests"},
    "__main__": {"cli"},
    "stage_worker": {"cli", "studies", "stop_requests"},
    "lightning_cli": SHARED | L3 | {"installation"},
}
DATAMODULES_MAY = {"lean_types", "types", "endgames", "preference_types", "prompts", "answers"}
OWNERS: dict[str, set[str]] = {
    "lean_dojo": {"environments"},
    "lean_interact": {"environments"},
    "mlflow": {"tracking"},
    "matplotlib": {"reports"},
    "jsonargparse": {"lightning_cli"},
    "peft": {"policies"},
    "gguf": {"pretrained"},
    "math_verify": {"answers"},
    "datasets": {"datamodules"},
    "trl": set(),
    "scipy": set(),
    "packaging": {"commands"},
    "pettingzoo": {"mechanism"},
    "ray": {"cluster"},
    "chess": {"datamodules"},
    "vllm": {"policies"},
}
ROOMS: dict[str, list[set[str]]] = {
    "policies": [
        {"numerics"},
        {"models", "text", "heads", "passes"},
        {"action_space"},
        {"scoring", "sampling"},
        {"fused", "vllm"},
        {"decoder_factory"},
        {"teacher_forcing"},
        {"setting_checks"},
        {"language_model"},
        {"language_policy", "critic"},
        {"text_likelihood"},
        {"teacher"},
        {"causal_lm", "seq2seq_lm"},
        {"reward_models"},
    ],
    "rollouts": [{"*"}, {"proofs", "labels", "reasoning"}, {"search", "make_sampler"}, {"asynchronous"}],
}
"""Inside a package: a file or folder imports those of the lines above it alone; ``*`` are the files not named."""
LIGHT = {"cli", "installation", "commands", "studies", *GROUND}
HEAVY = {"torch", "lightning", "transformers", "mlflow", "matplotlib", "numpy", "scipy", "sympy", "pandas"}


def sources() -> list[Path]:
    return sorted([*ROOT.glob("lightning_gfn/**/*.py"), *ROOT.glob("datamodules/**/*.py")])


def unit_of(path: Path) -> str:
    """The row of the table that a file belongs to."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "datamodules":
        return "datamodules"
    return parts[1] if len(parts) > 1 else ""


def imports(tree: ast.AST) -> Iterator[tuple[str, int, bool]]:
    """Dotted name, line and whether it runs at import time, of every import in a file."""
    deferred = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_type_checking(node)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) not in deferred
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = "." * node.level + (node.module or "") + "." + alias.name
                yield name, node.lineno, id(node) not in deferred


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def faults(unit: str, source: str) -> list[str]:
    """What a file of a unit imports against the tables."""
    found = []
    for name, line, at_import in imports(ast.parse(source)):
        top, *rest = name.split(".")
        if top == "":
            found.append(f"line {line}: relative import {name}")
        elif top == "datamodules" and unit != "datamodules":
            found.append(f"line {line}: {unit} imports datamodules")
        elif top == "lightning_gfn" and rest and not rest[0].startswith("__"):
            allowed = DATAMODULES_MAY if unit == "datamodules" else ALLOWED[unit] | {unit}
            if rest[0] not in allowed:
                found.append(f"line {line}: {unit} imports lightning_gfn.{rest[0]}")
        if unit not in OWNERS.get(top, {unit}):
            found.append(f"line {line}: {unit} imports {top}")
        if at_import and top in HEAVY and unit in LIGHT:
            found.append(f"line {line}: {unit} imports {top} at import time")
    return found


def room_of(package: str, name: str) -> str:
    """The entry of ``ROOMS`` that a file or folder of a package belongs to."""
    return name if any(name in line for line in ROOMS[package]) else "*"


def room_faults(package: str, name: str, source: str) -> list[str]:
    """What a file or folder of a package imports of that package against ``ROOMS``."""
    height = {room: number for number, line in enumerate(ROOMS[package]) for room in line}
    room, found = room_of(package, name), []
    if room not in height:
        return [f"{package}/{name} is not in ROOMS"]
    for imported, line, _ in imports(ast.parse(source)):
        parts = imported.split(".")
        if parts[:2] == ["lightning_gfn", package] and len(parts) > 2:
            other = room_of(package, parts[2])
            if other != room and height.get(other, len(height)) >= height[room]:
                found.append(f"line {line}: {package}/{room} imports {package}/{parts[2]}")
    return found


def test_every_package_is_in_the_table() -> None:
    units = {unit_of(path) for path in sources()} - {"datamodules", "__init__"}
    assert len(units) >= 10 and units <= set(ALLOWED), units - set(ALLOWED)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_layers(path: Path) -> None:
    unit = unit_of(path)
    if unit == "__init__":
        assert list(imports(ast.parse(path.read_text()))) == [], "lightning_gfn/__init__.py must stay free to import"
    else:
        assert faults(unit, path.read_text()) == []


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if unit_of(path) in ROOMS and path.name != "__init__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_imports_keep_to_the_rooms(path: Path) -> None:
    package, name, *_ = path.relative_to(ROOT / "lightning_gfn").with_suffix("").parts
    assert room_faults(package, name, path.read_text()) == []


def test_rooms_exist() -> None:
    for package, lines in ROOMS.items():
        folder = ROOT / "lightning_gfn" / package
        for room in set().union(*lines) - {"*"}:
            assert (folder / room).is_dir() or (folder / f"{room}.py").is_file(), f"{package}/{room}"


@pytest.mark.parametrize(
    ("package", "name", "source"),
    [
        ("policies", "language_policy", "from lightning_gfn.policies.teacher import TeachingLM"),
        ("policies", "models", "from lightning_gfn.policies.scoring.candidates import candidate_scores"),
        ("policies", "scoring", "from lightning_gfn.policies.sampling import generation"),
        ("policies", "sampling", "if TYPE_CHECKING:\n    from lightning_gfn.policies import decoder_factory"),
        ("policies", "fused", "def f():\n    import lightning_gfn.policies.language_model"),
        ("policies", "causal_lm", "from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork"),
        ("policies", "new_file", "import torch"),
        ("policies", "critic", "from lightning_gfn.policies.new_file import x"),
        ("rollouts", "evaluation", "from lightning_gfn.rollouts.proofs.proving import Proving"),
        ("rollouts", "group_sampler", "from lightning_gfn.rollouts.make_sampler import make_sampler"),
        ("rollouts", "proofs", "from lightning_gfn.rollouts.search.search_behaviour import SearchBehaviour"),
    ],
)
def test_planted_violations_of_rooms_are_caught(package: str, name: str, source: str) -> None:
    assert len(room_faults(package, name, source)) == 1


def test_allowed_imports_between_rooms_pass() -> None:
    assert room_faults("policies", "fused", "from lightning_gfn.policies.fused.operations import x") == []
    assert room_faults("policies", "teacher", "from lightning_gfn.policies.language_policy import LanguagePolicy") == []
    assert room_faults("rollouts", "evaluation", "from lightning_gfn.rollouts.keyed_random import x") == []
    assert room_faults("rollouts", "make_sampler", "from lightning_gfn.rollouts.proofs.proving import Proving") == []


def test_packages_export_nothing() -> None:
    """Short names are loaded when they are used (test_public_names.py); ``answers`` is light and exports at once."""
    files = [path for path in sources() if path.name == "__init__.py" and path.parent.name != "answers"]
    assert len(files) >= 10
    for path in files:
        assert {name for name, _, _ in imports(ast.parse(path.read_text()))} <= {"lazy_loader"}, path


def test_the_table_has_no_circles() -> None:
    done: set[str] = set()
    while len(done) < len(ALLOWED):
        free = {unit for unit, allowed in ALLOWED.items() if unit not in done and allowed <= done}
        assert free, f"a circle among {set(ALLOWED) - done}"
        done |= free


@pytest.mark.parametrize(
    ("unit", "source"),
    [
        ("objectives", "from lightning_gfn.policies.causal_lm import CausalLM"),
        ("objectives", "import lightning_gfn.rollouts.completion_sampler"),
        ("policies", "from lightning_gfn.rewards import likelihood"),
        ("modules", "def f():\n    from lightning_gfn.callbacks.tables import SampleTable"),
        ("callbacks", "from lightning_gfn.modules.policy_module import PolicyModule"),
        ("module_interfaces", "from lightning_gfn.rollouts.proofs.proving import Proving"),
        ("callbacks", "from lightning_gfn.tracking.keys import check_metric_key"),
        ("types", "from lightning_gfn.interfaces import Policy"),
        ("rollouts", "from lightning_gfn.modules.policy_module import PolicyModule"),
        ("rewards", "import datamodules.common.base"),
        ("datamodules", "from lightning_gfn.policies.text.tokenizers import x"),
        ("datamodules", "if TYPE_CHECKING:\n    from lightning_gfn.interfaces import Policy"),
        ("rewards", "from . import schedules"),
        ("policies", "import lean_dojo"),
        ("callbacks", "def f():\n    import mlflow"),
        ("cli", "import torch"),
        ("types", "from torch import Tensor"),
    ],
)
def test_planted_violations_are_caught(unit: str, source: str) -> None:
    assert len(faults(unit, source)) == 1


def test_allowed_imports_pass() -> None:
    assert faults("types", "if TYPE_CHECKING:\n    from torch import Tensor") == []
    assert faults("commands", "def f():\n    from lightning_gfn.reports.files import x\n    import torch") == []
    assert faults("modules", "from lightning_gfn.objectives.subtb import x\nimport lightning_gfn.types") == []


def test_lean_dojo_has_one_importer() -> None:
    importers = [
        path
        for path in sources()
        if any(name.split(".")[0] == "lean_dojo" for name, _, _ in imports(ast.parse(path.read_text())))
    ]
    assert len(importers) <= 1, importers


def test_importing_the_package_is_free() -> None:
    code = "import sys, lightning_gfn\nprint(sorted({m.split('.')[0] for m in sys.modules} - before))"
    code = "import sys\nbefore = {m.split('.')[0] for m in sys.modules}\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "['lightning_gfn']"
