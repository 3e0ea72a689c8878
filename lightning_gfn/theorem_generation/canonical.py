"""Statements up to the names in them: what must not stand on both sides of a split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import permutations, product
from math import factorial, prod

TOKEN = re.compile(r"[^\W\d][\w.']*|\d+|\S")
BINDER = re.compile(r"([∀∃]) \(?(\w+)(?: : [^,)]+\)?)?,")
MOST_ORDERS = 5000
"""Orders of the variables that are compared; with more variables only the order of their declaration counts."""


def take_apart(statement: str) -> tuple[list[tuple[str, str]], str]:
    """Each name with its type, in order, and the goal.

    Raises:
        ValueError: the statement is not ``(names : type) … : goal`` with round brackets.
    """
    named: list[tuple[str, str]] = []
    rest = statement.strip()
    while rest.startswith("("):
        end = closing_bracket(rest)
        names, colon, kind = rest[1:end].partition(" : ")
        if not colon:
            raise ValueError(f"binder without a type in the statement {statement!r}")
        named.extend((name, kind) for name in names.split())
        rest = rest[end + 1 :].strip()
    if not rest.startswith(":"):
        raise ValueError(f"no goal in the statement {statement!r}: expected ': goal' behind the binders")
    return named, rest[1:].strip()


def closing_bracket(text: str) -> int:
    """Where the bracket that the text begins with closes; its last place if nowhere."""
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if not depth:
            return place
    return len(text) - 1


def names_in(text: str) -> set[str]:
    """Every word, also the parts of ``xs.length``."""
    return {part for token in TOKEN.findall(text) for part in token.split(".")}


def rename(text: str, names: Mapping[str, str]) -> str:
    """The text with other names; spaces are regular afterwards."""
    tokens = (".".join(names.get(part, part) for part in token.split(".")) for token in TOKEN.findall(text))
    return " ".join(tokens)


def numbered_binders(text: str) -> str:
    """The text with the variables of its quantifiers numbered in order."""
    for number in range(text.count("∀") + text.count("∃")):
        found = next((found for found in BINDER.finditer(text) if not found[2].startswith("_")), None)
        if found is None:
            break
        inside = text[found.end() :]
        new = f"_{number}"
        inside = re.sub(rf"\b{re.escape(found[2])}\b", new, inside)
        text = f"{text[: found.start()]}{found[1]} {new},{inside}"
    return text


def outermost(text: str) -> tuple[str, str, str] | None:
    """Left side, sign and right side of the outermost ``→``, or of a single ``=``; None if it is something else."""
    depth, arrow, equals = 0, -1, []
    for place, sign in enumerate(text):
        depth += (sign in "(⟨[") - (sign in ")⟩]")
        if depth:
            continue
        if sign in "∀∃":
            break
        if sign == "↔":
            return None
        if sign == "→" and arrow < 0:
            arrow = place
        if sign == "=":
            equals.append(place)
    if arrow >= 0:
        return text[:arrow].strip(), "→", text[arrow + 1 :].strip()
    if len(equals) == 1 and not re.search("[∧∨¬∀∃]", text):
        return text[: equals[0]].strip(), "=", text[equals[0] + 1 :].strip()
    return None


def stripped(text: str) -> str:
    """The text without brackets around the whole of it."""
    while text.startswith("(") and closing_bracket(text) == len(text) - 1:
        text = text[1:-1].strip()
    return text


def canonical(statement: str) -> str:
    """A text that statements share if they differ in names and in the order of variables or hypotheses only."""
    named, goal = take_apart(statement)
    return _least(named, goal, sides=False)


def group(statement: str) -> str:
    """The same, blind also to what is a premise and what a hypothesis (``p → q`` and ``(hp : p) : q``), ``¬ p`` and
    ``p → False``, and the two sides of equations: statements of one group belong in one split."""
    named, goal = take_apart(statement)
    goal = stripped(goal)
    while True:
        apart = outermost(goal)
        if apart is not None and apart[1] == "→":
            named.append((f"_premise{len(named)}", stripped(apart[0])))
            goal = stripped(apart[2])
        elif re.fullmatch(r"¬(\w+|\(.*\))", goal) and stripped(goal[1:]) != goal[1:] or re.fullmatch(r"¬\w+", goal):
            named.append((f"_premise{len(named)}", stripped(goal[1:])))
            goal = "False"
        else:
            return _least(named, goal, sides=True)


def _least(named: Sequence[tuple[str, str]], goal: str, *, sides: bool) -> str:
    """The least text over all orders of the variables of one type."""
    used = names_in(goal).union(*(names_in(kind) for _, kind in named)) if named else names_in(goal)
    variables = [(name, kind) for name, kind in named if name in used]
    facts = [numbered_binders(kind) for name, kind in named if name not in used]
    goal = numbered_binders(goal)
    best = ""
    for names in _namings(variables):
        kinds = sorted(f"{names[name]} : {rename(kind, names)}" for name, kind in variables)
        said = sorted(_ordered(rename(fact, names), sides) for fact in facts)
        text = " ; ".join([*kinds, *said]) + " ⊢ " + _ordered(rename(goal, names), sides)
        best = min(best, text) if best else text
    return best


def _ordered(text: str, sides: bool) -> str:
    """The text, its two sides in order if it is an equation and that is wanted."""
    apart = outermost(text) if sides else None
    return " = ".join(sorted((apart[0], apart[2]))) if apart is not None and apart[1] == "=" else text


def _namings(variables: Sequence[tuple[str, str]]) -> Iterator[dict[str, str]]:
    """New names for the variables, in every order within a type."""
    types = list(dict.fromkeys(kind for _, kind in variables))
    groups = [[name for name, kind in variables if kind == one] for one in types]
    many = prod(factorial(len(names)) for names in groups) > MOST_ORDERS
    orders: Iterable[tuple[tuple[str, ...], ...]]
    orders = [tuple(tuple(names) for names in groups)] if many else product(*(permutations(names) for names in groups))
    for order in orders:
        yield {name: f"v{i}_{j}" for i, names in enumerate(order) for j, name in enumerate(names)}


def clashes(splits: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Pairs of statements of one group that stand in different splits."""
    first: dict[str, tuple[str, str]] = {}
    found = []
    for split, statements in splits.items():
        for statement in statements:
            known = first.setdefault(group(statement), (split, statement))
            if known[0] != split:
                found.append((known[1], statement))
    return found
