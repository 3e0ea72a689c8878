"""Whole proofs as Lean source, for backends whose only check is to compile them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from lightning_gfn.environments.rules import FORBIDDEN, tokens
from lightning_gfn.lean_types import CheckResult, LeanError

STANDARD_AXIOMS = frozenset({"propext", "Classical.choice", "Quot.sound"})
COMMANDS = frozenset(
    [
        "abbrev", "builtin_initialize", "class", "declare_syntax_cat", "def", "deriving", "end", "example", "export",
        "import", "include", "inductive", "infix", "infixl", "infixr", "lemma", "mutual", "namespace", "noncomputable",
        "nonrec", "omit", "opaque", "partial", "postfix", "prefix", "private", "protected", "public", "scoped",
        "section", "simproc", "structure", "theorem", "universe", "variable",
    ]
)  # fmt: skip
"""Words that begin a command: a proof that contains one goes on after its end."""
HEARTBEATS = re.compile(r"deterministic\) timeout|maximum number of heartbeats")
AXIOMS = re.compile(r"depends on axioms: \[(?P<axioms>[^\]]*)\]", re.DOTALL)
NO_AXIOMS = "does not depend on any axioms"


def refusal(script: Sequence[str]) -> str | None:
    """Why a script is no proof, before it is compiled: it says more than tactics; None if it does not."""
    for tactic in script:
        for kind, token, _, _ in tokens(tactic):
            if (kind == "word" and token in FORBIDDEN | COMMANDS) or (token.startswith("#") and len(token) > 1):
                return f"'{token}' is not allowed in a proof"
    return None


def source(name: str, statement: str, script: Sequence[str]) -> str:
    """The theorem with its proof."""
    body = textwrap.indent("\n".join(script), "  ")
    return f"theorem {name} {statement} := by\n{body}\n"


def tactic_error(message: str) -> LeanError:
    """Lean's refusal of a tactic; of kind ``timeout`` if it ran out of heartbeats."""
    return LeanError(message, "timeout" if HEARTBEATS.search(message) else "tactic")


def judge_axioms(report: str) -> CheckResult:
    """The verdict on what ``#print axioms`` said."""
    found = AXIOMS.search(report)
    if found is None:
        if NO_AXIOMS in report:
            return CheckResult(True)
        return CheckResult(False, f"Lean does not say which axioms the proof uses: {report or 'no message'}")
    axioms = tuple(sorted(name.strip() for name in found["axioms"].split(",") if name.strip()))
    foreign = [name for name in axioms if name not in STANDARD_AXIOMS]
    if foreign:
        return CheckResult(False, f"the proof rests on {', '.join(foreign)}, which is no axiom of Lean's", axioms)
    return CheckResult(True, "", axioms)
