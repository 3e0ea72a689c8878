"""Which classes of ours a configuration may name, read from the sources without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Family:
    """Classes that take the same place in a configuration.

    Args:
        word: asks for the family: ``--help WORD``.
        package: from which each can be named in short.
        option: sets one.
        bases: what they derive from, by name; every public class of the package if there are none.
        ends: a class from which another one derives is not meant to be chosen itself.
    """

    word: str
    package: str
    option: str
    bases: frozenset[str] = frozenset()
    ends: bool = False

    @property
    def folder(self) -> Path:
        """Where the package lies."""
        return ROOT / Path(*self.package.split("."))


FAMILIES = (
    Family("modules", "lightning_gfn.modules", "--model", frozenset({"LightningModule"}), ends=True),
    Family("data", "datamodules", "--data"),
    Family("policies", "lightning_gfn.policies", "--model.policy", frozenset({"TeachingLM"})),
    Family("objectives", "lightning_gfn.objectives", "--model.objective", frozenset({"Objective"})),
    Family("rewards", "lightning_gfn.rewards", "--model.reward", frozenset({"Reward"})),
    Family(
        "callbacks", "lightning_gfn.callbacks", "--trainer.callbacks+",
        frozenset({"Callback", "EvaluatedStep", "TQDMProgressBar"}),
    ),
)  # fmt: skip
GROUPS = {
    "trainer": "lightning_gfn.lightning_cli.trainer.RunTrainer",
    "checkpoint": "lightning_gfn.tracking.checkpoints.RunCheckpoint",
    "mlflow": "lightning_gfn.tracking.mlflow_logger.MLflowLogger",
}
"""Options of the commands themselves, and the class whose arguments they are."""


def plain(text: str) -> str:
    """Text for a terminal, without the marks of reStructuredText."""
    return text.replace("``", "")


def public_names(stub: Path) -> Iterator[tuple[str, str]]:
    """Name and module, below the package, of everything that a package's stub names."""
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            yield from ((alias.name, str(node.module)) for alias in node.names)


def base_names(node: ast.ClassDef) -> set[str]:
    """The last parts of the names of a class's bases."""
    plain = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return {base.attr if isinstance(base, ast.Attribute) else base.id for base in plain
            if isinstance(base, (ast.Attribute, ast.Name))}  # fmt: skip


@cache
def definitions(folder: Path) -> dict[str, ast.ClassDef]:
    """The public classes of a package, as their files define them."""
    found = {}
    names = list(public_names(folder / "__init__.pyi"))
    for module in dict.fromkeys(module for _, module in names):
        path = folder.joinpath(*module.split(".")).with_suffix(".py")
        wanted = {name for name, place in names if place == module}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in wanted:
                found[node.name] = node
    return found


def choices(family: Family) -> dict[str, str]:
    """The classes of a family, sorted, each with the first line of its docstring."""
    classes = definitions(family.folder)
    bases = {name: base_names(node) for name, node in classes.items()}

    def ancestors(name: str) -> set[str]:
        return bases[name].union(*(ancestors(base) for base in bases[name] if base in bases))

    chosen = [name for name in classes if not family.bases or ancestors(name) & family.bases]
    if family.ends:
        chosen = [name for name in chosen if not any(name in bases[other] for other in chosen)]
    return {name: plain(ast.get_docstring(classes[name]) or "").partition("\n")[0] for name in sorted(chosen)}


def class_paths() -> dict[str, str]:
    """The dotted path of every public class of ours, by its name alone."""
    stubs = [*(ROOT / "lightning_gfn").glob("*/__init__.pyi"), ROOT / "datamodules" / "__init__.pyi"]
    packages = {stub.parent: ".".join(stub.parent.relative_to(ROOT).parts) for stub in stubs}
    return {name: f"{package}.{name}" for folder, package in packages.items() for name, _ in public_names(
        folder / "__init__.pyi") if name[0].isupper()}  # fmt: skip
