"""Theorems of a command line or of a Lean file, taken apart without Lean: statement, and what stands before it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lightning_gfn.environments.embedded import split_imports
from lightning_gfn.environments.rules import without_comments
from lightning_gfn.lean_types import Theorem

NAME = r"[^\s:({\[⦃]+"
PREFIX = r"(?:@\[[^\]]*\]\s*)?(?:(?:private|protected|noncomputable|nonrec|scoped|local)\s+)*"
COMMANDS = (
    "theorem|lemma|example|def|abbrev|instance|structure|inductive|class|namespace|section|end|variable|open|universe|"
    r"set_option|attribute|axiom|opaque|macro|syntax|notation|infix[lr]?|prefix|postfix|deriving|mutual|export|#\w+"
)
COMMAND = re.compile(rf"(?m)^{PREFIX}(?P<word>{COMMANDS})(?![\w'])")
DECLARATION = re.compile(rf"\s*{PREFIX}(?P<word>theorem|lemma|example)(?![\w'])\s*(?P<name>{NAME})?")
OPEN, CLOSE = "([{⟨⦃", ")]}⟩⦄"
UNPROVED = re.compile(r"\s*(?:by\s+)?sorry\s*")


@dataclass(frozen=True)
class WrittenTheorem:
    """A theorem as a file has it.

    Args:
        theorem: what is to be proved.
        is_open: its proof is ``sorry``, or there is none.
    """

    theorem: Theorem
    is_open: bool


def read_theorem(text: str) -> Theorem:
    """The theorem of a command line: with or without keyword, name and proof.

    Raises:
        ValueError: there is no statement.
    """
    if DECLARATION.match(text) is None and not COMMAND.search(text):
        text = f"theorem {text.strip()}" if re.match(rf"\s*{NAME}\s*[:({{\[]", text) else f"example {text.strip()}"
    found = theorems_of(text)
    if not found:
        raise ValueError(f'{text[:60]!r} states no theorem; write "theorem name (p : Prop) (hp : p) : p"')
    return found[-1].theorem


def theorems_to_prove(source: str) -> list[Theorem]:
    """The theorems of a file that are left open by ``sorry``, or where there are none the last one.

    Raises:
        ValueError: the file states no theorem.
    """
    found = theorems_of(source)
    if not found:
        raise ValueError("states no theorem (theorem, lemma or example at the beginning of a line)")
    still_open = [one.theorem for one in found if one.is_open]
    return still_open if still_open else [found[-1].theorem]


def theorems_of(source: str) -> list[WrittenTheorem]:
    """Every theorem of a text, each with the commands before it, the open theorems left out, as its context.

    Raises:
        ValueError: a theorem has no statement.
    """
    imports, body = split_imports(without_comments(source))
    context: list[str] = []
    found: list[WrittenTheorem] = []
    for chunk in commands(body):
        declared = DECLARATION.match(chunk)
        if declared is None:
            context.append(chunk)
            continue
        statement, proof = statement_and_proof(chunk, declared)
        name = declared["name"] if declared["name"] and declared["word"] != "example" else "asked"
        is_open = proof is None or UNPROVED.fullmatch(proof) is not None
        found.append(WrittenTheorem(Theorem(name, statement, tuple(context), imports), is_open))
        if not is_open:
            context.append(chunk)
    return found


def commands(body: str) -> Iterator[str]:
    """The top-level commands of a text; what stands before the first keyword is one too."""
    starts = [match.start() for match in COMMAND.finditer(body)]
    edges = [*([0] if not starts or body[: starts[0]].strip() else []), *starts, len(body)]
    for start, end in zip(edges, edges[1:], strict=False):
        if chunk := body[start:end].rstrip():
            yield chunk


def statement_and_proof(chunk: str, declared: re.Match[str]) -> tuple[str, str | None]:
    """What follows the name up to ``:=``, and what follows that.

    Raises:
        ValueError: there is no statement.
    """
    start = declared.end("word") if declared["word"] == "example" else declared.end()
    depth, end = 0, len(chunk)
    for position in range(start, len(chunk)):
        depth += (chunk[position] in OPEN) - (chunk[position] in CLOSE)
        if depth == 0 and chunk.startswith(":=", position):
            end = position
            break
    statement = chunk[start:end].strip()
    if ":" not in statement:
        raise ValueError(f"{chunk[:60]!r} has no statement: write name, binders, a colon and what is to be proved")
    return statement, chunk[end + 2 :] if end < len(chunk) else None


def lean_text(theorem: Theorem, script: Sequence[str]) -> str:
    """The theorem with a proof, as Lean reads it."""
    lines = [line for tactic in script for line in tactic.splitlines()]
    return "\n".join([f"theorem {theorem.name} {theorem.statement} := by", *(f"  {line}" for line in lines)])
