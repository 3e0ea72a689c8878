"""Say which Lean backends work on this machine, and what the others lack."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Any

BACKENDS = {
    "embedded": "lightning_gfn.environments.embedded.EmbeddedLean",
    "leandojo": "lightning_gfn.environments.leandojo.LeanDojoBackend",
    "lean-interact": "lightning_gfn.environments.interact.LeanInteractBackend",
}
STATES_THEOREMS = ("embedded", "lean-interact")
"""Backends that take any statement; LeanDojo proves theorems of traced repositories alone."""


@dataclass(frozen=True)
class Finding:
    """A finding says whether one backend works here, and what it lacks."""

    name: str
    works: bool
    version: str
    detail: str


def examine(name: str, path: str, live: bool) -> Finding:
    """Ask a backend whether it is available, and have it prove something."""
    module, _, attribute = path.rpartition(".")
    try:
        backend: Any = getattr(import_module(module), attribute)
        reason = backend.unavailable()
    except ImportError as error:
        return Finding(name, False, "", f"cannot be imported: {error}")
    if reason is not None:
        return Finding(name, False, "", reason)
    if not live or name not in STATES_THEOREMS:
        return Finding(name, True, "", "available (not tried)")
    return prove(name, backend)


def prove(name: str, backend: Any) -> Finding:
    """A proof that must succeed and one that must not."""
    from lightning_gfn.lean_types import Theorem

    started, lean = time.monotonic(), None
    try:
        lean = backend()
        theorem = Theorem("doctor", "(p q : Prop) (hp : p) (hq : q) : p ∧ q")
        version = lean.version
        good = lean.check(theorem, ["constructor", "exact hp", "exact hq"])
        bad = lean.check(theorem, ["sorry"])
        memory = lean.resident_bytes()
    except Exception as error:  # whatever is wrong is what the doctor is asked about
        return Finding(name, False, "", f"{type(error).__name__}: {error}")
    finally:
        if lean is not None:
            lean.close()
    if not good.verified or bad.verified:
        return Finding(name, False, version, f"judges wrongly: {good.message or 'it accepted sorry'}")
    size = f", {memory / 2**30:.1f} GiB" if memory else ""
    return Finding(name, True, version, f"proved a theorem, refused sorry ({time.monotonic() - started:.0f} s{size})")


def table(findings: list[Finding]) -> str:
    """One row a backend."""
    rows = [("backend", "works", "Lean", "")]
    rows += [(f.name, "yes" if f.works else "no", f.version.split(",")[0] or "-", f.detail) for f in findings]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]).rstrip() for row in rows]
    return "\n".join(lines)


def main(args: list[str]) -> int:
    """Run the command; 0 if at least one backend works."""
    parser = argparse.ArgumentParser(prog="lightning-gfn lean doctor", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only look, do not start any Lean")
    parser.add_argument("--backend", choices=tuple(BACKENDS), action="append", help="only this one (may be repeated)")
    options = parser.parse_args(args)
    chosen = {name: path for name, path in BACKENDS.items() if not options.backend or name in options.backend}
    findings = [examine(name, path, not options.quick) for name, path in chosen.items()]
    print(table(findings))
    return 0 if any(finding.works for finding in findings) else 1
