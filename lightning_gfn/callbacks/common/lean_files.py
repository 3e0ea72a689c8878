"""Theorems and proofs as the text of Lean files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lightning_gfn.lean_types import Theorem

MAX_NAME = 80


def lean_name(name: str) -> str:
    """A name that Lean and every file system take: letters, digits and ``_``, beginning with a letter.

    It never is the name of a theorem of Lean's own, since a number is put behind it (``lean_file``).
    """
    plain = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9]", "_", name)).strip("_")[:MAX_NAME].rstrip("_")
    return plain if plain[:1].isalpha() else f"theorem_{plain}".rstrip("_")


def unique_names(names: Sequence[str]) -> list[str]:
    """``lean_name`` of each, with a letter behind those that would be equal (also in upper and lower case)."""
    taken: set[str] = set()
    chosen = []
    for name in map(lean_name, names):
        candidate, number = name, 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{name}_v{number}"
        taken.add(candidate.lower())
        chosen.append(candidate)
    return chosen


def indented(tactic: str, indent: str = "  ") -> str:
    """A tactic below ``by``; the lines of a longer one keep their distance from one another."""
    lines = tactic.rstrip().split("\n")
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


def comment(text: str) -> str:
    """A block comment that no text can end early."""
    return f"/- {text.replace('/-', '/ -').replace('-/', '- /')} -/"


def lean_proof(name: str, theorem: Theorem, script: Sequence[str]) -> str:
    """One theorem with its proof."""
    statement = theorem.statement.strip()
    return f"theorem {name} {statement} := by\n" + "\n".join(indented(tactic) for tactic in script)


def lean_file(name: str, theorem: Theorem, proofs: Sequence[tuple[Sequence[str], str]], header: str) -> str:
    """A whole file: what it is, imports, context, and every proof as a theorem of its own.

    Args:
        name: of ``lean_name``; the proofs are ``<name>_1``, ``<name>_2``, …
        theorem: what they prove.
        proofs: script of each, and what is to be said of it.
        header: what is to be said of the file.
    """
    parts = [comment(header), "\n".join(f"import {module}" for module in theorem.imports)]
    parts += [command.strip() for command in theorem.context]
    for number, (script, remark) in enumerate(proofs, start=1):
        parts.append(f"{comment(remark)}\n{lean_proof(f'{name}_{number}', theorem, script)}")
    return "\n\n".join(part for part in parts if part) + "\n"
