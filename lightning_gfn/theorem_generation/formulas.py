"""Formulas of first-order logic as plain data, and how Lean writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["atom", "true", "false", "not", "and", "or", "imp", "iff", "all", "ex"]
SYMBOLS: dict[Kind, str] = {"and": "∧", "or": "∨", "imp": "→", "iff": "↔", "not": "¬", "all": "∀", "ex": "∃"}
BINDING: dict[Kind, int] = {"iff": 1, "imp": 2, "or": 3, "and": 4, "not": 5, "all": 0, "ex": 0}


@dataclass(frozen=True)
class Formula:
    """A formula.

    Args:
        kind: the outermost connective; ``atom`` for a proposition or a predicate of terms.
        parts: the formulas that it joins.
        head: name of the proposition or predicate of an atom, of the bound variable of a quantifier.
        terms: names of the variables that a predicate is said of.
    """

    kind: Kind
    parts: tuple[Formula, ...] = ()
    head: str = ""
    terms: tuple[str, ...] = ()

    def __str__(self) -> str:
        return write(self)


TRUE, FALSE = Formula("true"), Formula("false")


def atom(head: str, *terms: str) -> Formula:
    """A proposition, or a predicate of terms."""
    return Formula("atom", (), head, terms)


def join(kind: Kind, *parts: Formula) -> Formula:
    """A connective."""
    return Formula(kind, parts)


def quantify(kind: Kind, variable: str, body: Formula) -> Formula:
    """A quantifier."""
    return Formula(kind, (body,), variable)


def write(formula: Formula, above: int = 0, *, left: bool = False) -> str:
    """Lean's notation, with as few parentheses as its precedences allow.

    Args:
        formula: what to write.
        above: how strongly what stands around it binds.
        left: it is the left operand of what stands around it.
    """
    kind = formula.kind
    if kind == "atom":
        text = " ".join((formula.head, *formula.terms))
        return text
    if kind in ("true", "false"):
        return kind.capitalize()
    own = BINDING[kind]
    if kind in ("all", "ex"):
        text = f"{SYMBOLS[kind]} {formula.head}, {write(formula.parts[0])}"
        return f"({text})" if above else text
    if kind == "not":
        inner = write(formula.parts[0], own)
        return f"¬{inner}"
    one, two = formula.parts
    text = f"{write(one, own, left=True)} {SYMBOLS[kind]} {write(two, own)}"
    tight = own < above or (own == above and (left or kind == "iff"))
    return f"({text})" if tight else text


def substitute(formula: Formula, variable: str, term: str) -> Formula:
    """The formula with a term for the free occurrences of a variable; the term must not be bound in it."""
    if formula.kind == "atom":
        return atom(formula.head, *(term if name == variable else name for name in formula.terms))
    if formula.kind in ("all", "ex") and formula.head == variable:
        return formula
    parts = tuple(substitute(part, variable, term) for part in formula.parts)
    return Formula(formula.kind, parts, formula.head, formula.terms)


def bound(formula: Formula) -> Formula:
    """The formula with bound variables numbered by depth: two formulas that differ in their names become equal."""

    def number(inner: Formula, depth: int) -> Formula:
        if inner.kind in ("all", "ex"):
            name = f"_{depth}"
            return quantify(inner.kind, name, number(substitute(inner.parts[0], inner.head, name), depth + 1))
        return Formula(inner.kind, tuple(number(part, depth) for part in inner.parts), inner.head, inner.terms)

    return number(formula, 0)


def subformulas(formula: Formula) -> Iterator[Formula]:
    """The formula and all that it is made of."""
    yield formula
    for part in formula.parts:
        yield from subformulas(part)


def size(formula: Formula) -> int:
    """Connectives, quantifiers and atoms."""
    return sum(1 for _ in subformulas(formula))


def holds(formula: Formula, true: frozenset[str]) -> bool:
    """The truth value of a propositional formula where exactly these propositions are true."""
    kind, parts = formula.kind, formula.parts
    if kind == "atom":
        return formula.head in true
    if kind in ("true", "false"):
        return kind == "true"
    values = [holds(part, true) for part in parts]
    match kind:
        case "not":
            return not values[0]
        case "and":
            return all(values)
        case "or":
            return any(values)
        case "imp":
            return not values[0] or values[1]
        case "iff":
            return values[0] == values[1]
    raise ValueError(f"{formula} has a quantifier, so it has no truth table")
