"""Check proofs afresh in the embedded Lean: .lean files of one theorem, or JSONL rows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.installation.json_lines import json_lines, require_fields

if TYPE_CHECKING:
    from lightning_gfn.environments.embedded import EmbeddedLean
    from lightning_gfn.lean_types import CheckResult, Theorem

FIELDS = ("name", "statement", "proof")


def strings(value: object, where: str) -> tuple[str, ...]:
    """A list of strings.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{where}: expected a list of strings, found {value!r:.60}")
    return tuple(value)


def read_row(row: dict[str, Any], where: str) -> tuple[Theorem, list[str]]:
    """A theorem and its proof from a row.

    Raises:
        ValueError: a field is missing or of another type; names the place.
    """
    from lightning_gfn.lean_types import Theorem

    require_fields(row, FIELDS, where, " and perhaps context, imports")
    context = strings(row.get("context", []), f"{where}: field 'context'")
    imports = strings(row.get("imports", ["Init"]), f"{where}: field 'imports'")
    for name in ("name", "statement"):
        if not isinstance(row[name], str):
            raise ValueError(f"{where}: field {name!r}: expected a string, found {row[name]!r:.60}")
    proof = list(strings(row["proof"], f"{where}: field 'proof'"))
    return Theorem(row["name"], row["statement"], context, imports), proof


def verdicts(lean: EmbeddedLean, path: Path) -> Iterator[tuple[str, CheckResult]]:
    """Place and verdict of each proof of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: a row is wrong.
    """
    from lightning_gfn.lean_types import CheckResult, LeanError

    if path.suffix == ".lean":
        found = lean.read_source(path.read_text(encoding="utf-8"))
        if isinstance(found, LeanError):
            yield str(path), CheckResult(False, found.message)
        else:
            yield f"{path} {found[0].name}", lean.check(*found)
        return
    for where, row in json_lines(path):
        theorem, proof = read_row(row, where)
        yield f"{where} {theorem.name}", lean.check(theorem, proof)


def main(args: list[str]) -> int:
    """Run the command; 0 if every proof holds, 1 if one does not, 2 if a file or Lean cannot be used."""
    parser = argparse.ArgumentParser(
        prog="lightning-gfn lean check",
        description=__doc__,
        epilog='A JSONL row is {"name": …, "statement": ": 1 = 1", "proof": ["rfl"]}, perhaps with "context" and '
        '"imports" (lists of strings).',
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help=".lean or .jsonl")
    parser.add_argument("--heartbeats", metavar="N", type=int, default=200_000, help="of a tactic (default: 200000)")
    options = parser.parse_args(args)
    from lightning_gfn.environments.embedded import EmbeddedLean
    from lightning_gfn.lean_interfaces import BackendFault, BackendUnavailable

    failed = total = 0
    try:
        lean = EmbeddedLean(heartbeats=options.heartbeats, timeout=300, check_timeout=600)
        try:
            for path in options.files:
                for place, verdict in verdicts(lean, path):
                    total += 1
                    failed += not verdict.verified
                    print(f"{'proved' if verdict.verified else 'REFUSED'}  {place}  {reading(verdict)}", flush=True)
        finally:
            lean.close()
    except (OSError, UnicodeDecodeError, ValueError, BackendUnavailable, BackendFault) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{total - failed} of {total} proved")
    return 1 if failed else 0


def reading(verdict: CheckResult) -> str:
    """The axioms of a proof, or what is wrong with it, in one line."""
    if verdict.verified:
        return f"axioms: {', '.join(verdict.axioms) or 'none'}"
    return " ".join(verdict.message.split())[:300]
