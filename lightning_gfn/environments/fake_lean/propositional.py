"""Propositional formulas and statements in Lean's notation, read and printed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


class Refused(Exception):
    """The text says nothing in this fragment; the message is what Lean would say of it."""


@dataclass(frozen=True)
class Formula:
    """A formula, whose head is a variable, ``True``, ``False``, ``¬``, ``∧``, ``∨``, ``→`` or ``↔``.

    Args:
        head: of the formula.
        parts: its arguments.
    """

    head: str
    parts: tuple[Formula, ...] = ()

    def __str__(self) -> str:
        return show(self)


TRUE, FALSE = Formula("True"), Formula("False")
LEVELS = {"↔": 20, "→": 25, "∨": 30, "∧": 35, "¬": 40}
SPELLINGS = {"->": "→", "<->": "↔", "/\\": "∧", "\\/": "∨", "=>": "↦", "λ": "fun"}
TOKEN = re.compile(r"\s+|(<->|->|=>|/\\|\\/|:=|[()⟨⟩{},:|.¬∧∨→↔λ·]|[^\W\d][\w'₀-₉]*|\d+)")
NAME = re.compile(r"[^\W\d][\w'₀-₉]*")


def show(formula: Formula, level: int = 0) -> str:
    """The formula as Lean prints it, in brackets where its surroundings bind tighter than ``level``."""
    if not formula.parts:
        return formula.head
    own = LEVELS[formula.head]
    if formula.head == "¬":
        text = f"¬{show(formula.parts[0], own)}"
    else:
        left, right = formula.parts
        # All but ↔ associate to the right.
        text = f"{show(left, own + 1)} {formula.head} {show(right, own + 1 if formula.head == '↔' else own)}"
    return f"({text})" if own < level else text


def unfolded(formula: Formula) -> Formula:
    """The formula with ``¬a`` written as ``a → False`` throughout; two formulas are the same if these are equal."""
    parts = tuple(unfolded(part) for part in formula.parts)
    return Formula("→", (*parts, FALSE)) if formula.head == "¬" else Formula(formula.head, parts)


def arrow(formula: Formula) -> tuple[Formula, Formula] | None:
    """Premise and conclusion of an implication or a negation."""
    if formula.head == "→":
        return formula.parts[0], formula.parts[1]
    return (formula.parts[0], FALSE) if formula.head == "¬" else None


def variables(formula: Formula) -> set[str]:
    """The names of the variables in a formula."""
    if formula.parts:
        return set().union(*(variables(part) for part in formula.parts))
    return set() if formula in (TRUE, FALSE) else {formula.head}


class Reader:
    """Tokens of a text, taken one after the other.

    Raises:
        Refused: a character that no formula and no term has.
    """

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        position = 0
        while position < len(text):
            match = TOKEN.match(text, position)
            if match is None:
                raise Refused(f"unexpected token '{text[position]}'")
            if match[1]:
                self.tokens.append(SPELLINGS.get(match[1], match[1]))
            position = match.end()
        self.tokens.reverse()

    @property
    def next(self) -> str:
        """The next token; empty at the end."""
        return self.tokens[-1] if self.tokens else ""

    def take(self, *wanted: str) -> str:
        """Remove the next token, which must be one of the wanted."""
        if wanted and self.next not in wanted:
            raise Refused(f"unexpected {self.next or 'end of input'}; expected {' or '.join(map(repr, wanted))}")
        return self.tokens.pop() if self.tokens else ""

    def name(self) -> str:
        """Remove the next token, which must be a name."""
        if not NAME.fullmatch(self.next):
            raise Refused(f"unexpected {self.next or 'end of input'}; expected identifier")
        return self.take()

    def end(self) -> None:
        """There is nothing left."""
        if self.tokens:
            raise Refused(f"unexpected {self.next}; expected end of input")

    def formula(self, level: int = 0) -> Formula:
        """Remove a formula from the front."""
        if self.next == "¬":
            self.take()
            left = Formula("¬", (self.formula(LEVELS["¬"]),))
        elif self.next == "(":
            self.take()
            left = self.formula()
            self.take(")")
        else:
            left = Formula(self.name())
        while self.next in LEVELS and self.next != "¬" and LEVELS[self.next] >= level:
            head = self.take()
            left = Formula(head, (left, self.formula(LEVELS[head] + (head == "↔"))))
        return left


@dataclass(frozen=True)
class Sequent:
    """A sequent is a statement as data: propositions, hypotheses in order, and the goal.

    Args:
        propositions: names of the variables.
        hypotheses: name and formula of each.
        goal: to be proved.
    """

    propositions: tuple[str, ...]
    hypotheses: tuple[tuple[str, Formula], ...]
    goal: Formula


def read_statement(statement: str, context: Sequence[str] = ()) -> Sequent:
    """A statement such as ``(p q : Prop) (hp : p) : p ∨ q``, after commands of the form ``variable (p q : Prop)``.

    Raises:
        Refused: it is not of this fragment.
    """
    declared: list[str] = []
    for command in context:
        reader = Reader(command)
        reader.take("variable")
        propositions, _ = _binders(reader, declared)
        declared += propositions
        reader.end()
    reader = Reader(statement)
    propositions, hypotheses = _binders(reader, declared)
    reader.take(":")
    goal = reader.formula()
    reader.end()
    used = variables(goal).union(*(variables(formula) for _, formula in hypotheses))
    known = [name for name in declared if name in used] + propositions
    if missing := sorted(used - set(known)):
        raise Refused(f"Unknown identifier `{missing[0]}`")
    return Sequent(tuple(known), tuple(hypotheses), goal)


def _binders(reader: Reader, declared: Sequence[str]) -> tuple[list[str], list[tuple[str, Formula]]]:
    propositions: list[str] = []
    hypotheses: list[tuple[str, Formula]] = []
    while reader.next in ("(", "{"):
        close = {"(": ")", "{": "}"}[reader.take()]
        names = [reader.name()]
        while reader.next != ":":
            names.append(reader.name())
        reader.take(":")
        formula = reader.formula()
        reader.take(close)
        if formula == Formula("Prop"):
            propositions += names
        else:
            if missing := sorted(variables(formula) - {*declared, *propositions}):
                raise Refused(f"Unknown identifier `{missing[0]}`")
            hypotheses += [(name, formula) for name in names]
    return propositions, hypotheses
