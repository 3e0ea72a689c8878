"""From a random draw to a theorem whose proofs Lean has accepted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from lightning_gfn.lean_interfaces import BackendFault, LeanBackend
from lightning_gfn.lean_types import NO_GOALS, Theorem
from lightning_gfn.theorem_generation import arithmetic_statements, logic_statements
from lightning_gfn.theorem_generation.breadth_first import merged, replay, search
from lightning_gfn.theorem_generation.proof_scripts import LONGEST_TACTIC, different, wordings
from lightning_gfn.theorem_generation.tactic_candidates import proposals

FAMILIES = ("propositional", "first_order", "nat", "list")
LONGEST_SCRIPT = 6
LONGEST_STATE = 250
Script = tuple[str, ...]
Traced = list[dict[str, str]]


@dataclass(frozen=True)
class Draft:
    """A statement that may become a theorem.

    Args:
        family: what it is about.
        number: of the draw.
        statement: as it follows the theorem's name.
        difficulty: 1 to 4; None if only Lean's search will say.
        scripts: that ought to prove it, the first ones most different from each other; empty if Lean is to search.
    """

    family: str
    number: int
    statement: str
    difficulty: int | None
    scripts: tuple[Script, ...]


def drafts(family: str, seed: int, most: int) -> Iterator[Draft]:
    """The usable draws of a family among the first so many; the same for the same seed."""
    for number in range(most):
        random = Random(f"{seed}/{family}/{number}")
        if family in logic_statements.FAMILIES:
            sequent = logic_statements.FAMILIES[family](random)
            if sequent is not None:
                scripts = wordings(list(sequent.proofs), random, tries=2, longest=LONGEST_SCRIPT)
                level = logic_level(sequent.proofs[0].steps)
                yield Draft(family, number, sequent.statement, level, tuple(different(scripts, 10)))
        else:
            statement = arithmetic_statements.draw(family, random)
            if statement is not None:
                yield Draft(family, number, statement, None, ())


def logic_level(steps: int) -> int:
    """Difficulty of a proof of so many moves."""
    return 1 if steps <= 2 else 2 if steps == 3 else 3 if steps <= 5 else 4


def attempt(backend: LeanBackend, draft: Draft, most: int) -> tuple[int, list[Traced]]:
    """Difficulty and at most so many proofs that Lean accepted step by step and as a whole; no proofs if none held.

    A backend that breaks is asked once more, and then the draft counts as unproved.
    """
    for _ in range(2):
        try:
            return _attempt(backend, draft, most)
        except BackendFault:
            continue
    return 0, []


def _attempt(backend: LeanBackend, draft: Draft, most: int) -> tuple[int, list[Traced]]:
    theorem = Theorem("checked", draft.statement)
    scripts, level = list(draft.scripts), draft.difficulty
    if level is None:
        found = search(backend, theorem, proposals)
        if not found:
            return 0, []
        level = min(4, len(found[0]))
        scripts = different([*dict.fromkeys([*found, *map(merged, found)])], 10)
    kept: list[Traced] = []
    for script in scripts:
        if len(kept) == most:
            break
        traced = trace(backend, theorem, script)
        if traced:
            kept.append(traced)
    return level, kept


def trace(backend: LeanBackend, theorem: Theorem, script: Script) -> Traced:
    """The tactics with the states before and after them; empty if the proof does not hold or is too long to learn."""
    if len(script) > LONGEST_SCRIPT or any(len(tactic) > LONGEST_TACTIC for tactic in script):
        return []
    states = replay(backend, theorem, script)
    if states is None or max(map(len, states)) > LONGEST_STATE or not backend.check(theorem, script).verified:
        return []
    after = [*states[1:], NO_GOALS]
    return [
        {"tactic": tactic, "state_before": one, "state_after": two}
        for tactic, one, two in zip(script, states, after, strict=True)
    ]
