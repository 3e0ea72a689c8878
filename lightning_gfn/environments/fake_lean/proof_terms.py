"""Proof terms of propositional logic in Lean's notation, checked by natural deduction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning_gfn.environments.fake_lean.propositional import (
    FALSE,
    NAME,
    TRUE,
    Formula,
    Reader,
    Refused,
    arrow,
    unfolded,
)


@dataclass(frozen=True)
class Term:
    """A proof term: a name applied to terms, a projection, an anonymous constructor or a function.

    Args:
        head: name; ``⟨⟩`` for an anonymous constructor, ``fun`` for a function, ``.`` for a projection, ``@`` for
            the application of a term that is not a name.
        parts: arguments.
        names: bound by a function, or the projections.
    """

    head: str
    parts: tuple[Term, ...] = ()
    names: tuple[str, ...] = ()


def read_term(reader: Reader) -> Term:
    """Remove a proof term from the front.

    Raises:
        Refused: there is none.
    """
    if reader.next == "fun":
        reader.take()
        names = [reader.name()]
        while reader.next != "↦":
            names.append(reader.name())
        reader.take("↦")
        return Term("fun", (read_term(reader),), tuple(names))
    head = _atom(reader)
    arguments = []
    while reader.next in ("(", "⟨") or NAME.fullmatch(reader.next):
        arguments.append(read_term(reader) if reader.next == "fun" else _atom(reader))
    if not arguments:
        return head
    return Term("@", (head, *arguments)) if head.parts else Term(head.head, tuple(arguments))


def _atom(reader: Reader) -> Term:
    if reader.next == "(":
        reader.take()
        term = read_term(reader)
        reader.take(")")
    elif reader.next == "⟨":
        reader.take()
        parts = [read_term(reader)]
        while reader.take("⟩", ",") == ",":
            parts.append(read_term(reader))
        term = Term("⟨⟩", tuple(parts))
    else:
        term = Term(reader.name())
    while reader.next == ".":
        reader.take()
        part = reader.take()
        if not term.parts and f"{term.head}.{part}" in CONSTRUCTORS:
            term = Term(f"{term.head}.{part}")
        else:
            term = Term(".", (term,), (part,))
    return term


CONSTRUCTORS: dict[str, Callable[[Formula], tuple[Formula, ...] | None]] = {
    "And.intro": lambda goal: goal.parts if goal.head == "∧" else None,
    "Or.inl": lambda goal: goal.parts[:1] if goal.head == "∨" else None,
    "Or.inr": lambda goal: goal.parts[1:] if goal.head == "∨" else None,
    "Iff.intro": lambda goal: directions(goal) if goal.head == "↔" else None,
    "True.intro": lambda goal: () if goal == TRUE else None,
    "trivial": lambda goal: () if goal == TRUE else None,
    "False.elim": lambda _: (FALSE,),
}
"""Of each constant the premises that it asks for to prove a goal; None if it cannot."""

PROJECTIONS = {("∧", "1"): 0, ("∧", "left"): 0, ("∧", "2"): 1, ("∧", "right"): 1} | {
    ("↔", "1"): 0, ("↔", "mp"): 0, ("↔", "2"): 1, ("↔", "mpr"): 1,
}  # fmt: skip

Hypotheses = Sequence[tuple[str, Formula]]


def directions(formula: Formula) -> tuple[Formula, Formula]:
    """The two implications of an equivalence."""
    left, right = formula.parts
    return Formula("→", (left, right)), Formula("→", (right, left))


def check_term(term: Term, goal: Formula, hypotheses: Hypotheses) -> None:
    """The term proves the goal from the hypotheses, the last of a name counting.

    Raises:
        Refused: it does not.
    """
    if term.head == "fun":
        inside = list(hypotheses)
        for name in term.names:
            split = arrow(goal)
            if split is None:
                raise Refused(f"function expected to have type\n  {goal}")
            inside.append((name, split[0]))
            goal = split[1]
        check_term(term.parts[0], goal, inside)
        return
    if term.head == "⟨⟩":
        name = {"∧": "And.intro", "↔": "Iff.intro"}.get(goal.head, "")
        if not name:
            raise Refused(f"Invalid `⟨...⟩` notation: the expected type is not a structure\n  {goal}")
        parts = term.parts
        if len(parts) > 2:
            parts = (parts[0], Term("⟨⟩", parts[1:]))
        term = Term(name, parts)
    if term.head in CONSTRUCTORS:
        premises = CONSTRUCTORS[term.head](goal)
        if premises is None or len(premises) != len(term.parts):
            raise Refused(f"Type mismatch: `{term.head}` does not prove\n  {goal}")
        for part, premise in zip(term.parts, premises, strict=True):
            check_term(part, premise, hypotheses)
        return
    found = infer(term, hypotheses)
    if unfolded(found) != unfolded(goal):
        raise Refused(f"Type mismatch\n  {term.head}\nhas type\n  {found}\nbut is expected to have type\n  {goal}")


def infer(term: Term, hypotheses: Hypotheses) -> Formula:
    """Infer the proposition that a term proves which begins with a hypothesis.

    Raises:
        Refused: it is none.
    """
    if term.head == ".":
        formula = infer(term.parts[0], hypotheses)
        index = PROJECTIONS.get((formula.head, term.names[0]))
        if index is None:
            raise Refused(f"Invalid projection `.{term.names[0]}` of\n  {formula}")
        return (directions(formula) if formula.head == "↔" else formula.parts)[index]
    if term.head == "@":
        formula, arguments = infer(term.parts[0], hypotheses), term.parts[1:]
    else:
        arguments = term.parts
        matches = [formula for name, formula in hypotheses if name == term.head]
        if not matches:
            raise Refused(f"Unknown identifier `{term.head}`")
        formula = matches[-1]
    for argument in arguments:
        split = arrow(formula)
        if split is None:
            raise Refused(f"Function expected at\n  {term.head}\nbut this term has type\n  {formula}")
        check_term(argument, split[0], hypotheses)
        formula = split[1]
    return formula
