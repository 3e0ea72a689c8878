"""Proofs in natural deduction: every short tactic proof of a sequent of first-order logic, found without Lean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from lightning_gfn.theorem_generation.formulas import FALSE, Formula, bound, join, subformulas, substitute

MOST_PROOFS = 24
"""Proofs kept of one goal."""
ELEMENTS = ("x", "y", "z", "w", "u", "v")
NUMBERED = ("h", "h1", "h2", "h3", "h4", "h5", "h6", "h7")


@dataclass(frozen=True)
class Goal:
    """A goal is a formula to prove, and the hypotheses to prove it from.

    Args:
        facts: name and formula of each hypothesis.
        target: the formula to prove.
        elements: names of the objects that there are.
    """

    facts: tuple[tuple[str, Formula], ...]
    target: Formula
    elements: tuple[str, ...] = ()

    def key(self) -> tuple[object, ...]:
        """Equal for goals that have the same proofs."""
        return frozenset((name, bound(fact)) for name, fact in self.facts), bound(self.target), self.elements

    def fresh(self, formula: Formula, also: tuple[str, ...] = ()) -> str:
        """A name for a new hypothesis: ``hp`` for a proposition p or predicate P, else the first free of h, h1, …"""
        taken = {name for name, _ in self.facts} | set(also) | set(self.elements)
        named = ("h" + formula.head.lower(),) if formula.kind == "atom" and len(formula.head) == 1 else ()
        return next(name for name in (*named, *NUMBERED) if name not in taken)

    def fresh_element(self, wanted: str) -> str:
        """A name for a new object, the bound variable's own if it is free."""
        taken = {name for name, _ in self.facts} | set(self.elements)
        return next(name for name in (wanted, *ELEMENTS) if name not in taken)

    def known(self, formula: Formula) -> str | None:
        """The hypothesis that says just this."""
        same = bound(formula)
        return next((name for name, fact in self.facts if bound(fact) == same), None)

    def plus(self, *facts: tuple[str, Formula], without: str = "") -> tuple[tuple[str, Formula], ...]:
        """The hypotheses with more of them, and without one."""
        return (*(fact for fact in self.facts if fact[0] != without), *facts)


@dataclass(frozen=True)
class Move:
    """One step of a proof.

    Args:
        kind: which rule; ``proof_scripts.py`` knows the tactics that carry it out.
        words: names and terms that the tactics need.
        goals: what is left to prove.
    """

    kind: str
    words: tuple[str, ...]
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True)
class Proof:
    """A proof as a tree of moves."""

    move: Move
    parts: tuple[Proof, ...] = ()

    @property
    def steps(self) -> int:
        """Moves in it."""
        return 1 + sum(part.steps for part in self.parts)


def closing(goal: Goal) -> Iterator[Move]:
    """Moves that end the goal at once."""
    name = goal.known(goal.target)
    if name is not None:
        yield Move("fact", (name,))
        return
    if goal.target.kind == "true":
        yield Move("true", ())
        return
    for name, fact in goal.facts:
        if fact.kind == "false":
            yield Move("absurd", (name,))
        elif fact.kind == "not" and (denied := goal.known(fact.parts[0])) is not None:
            yield Move("contradiction" if goal.target.kind != "false" else "refute", (name, denied))
        elif fact.kind == "and":
            for place, part in enumerate(fact.parts):
                if bound(part) == bound(goal.target):
                    yield Move("project", (name, str(place + 1)))
        elif fact.kind == "all" and goal.elements:
            for element in goal.elements:
                if bound(substitute(fact.parts[0], fact.head, element)) == bound(goal.target):
                    yield Move("instance", (name, element))


def backward(goal: Goal) -> Iterator[Move]:
    """Moves by the form of the target."""
    target = goal.target
    match target.kind:
        case "and":
            yield Move("split", (), tuple(replace(goal, target=part) for part in target.parts))
        case "iff":
            one, two = target.parts
            directions = (join("imp", one, two), join("imp", two, one))
            yield Move("directions", (), tuple(replace(goal, target=part) for part in directions))
        case "imp" | "not":
            name = goal.fresh(target.parts[0])
            left = target.parts[1] if target.kind == "imp" else FALSE
            yield Move("intro", (name,), (Goal(goal.plus((name, target.parts[0])), left, goal.elements),))
        case "all":
            name = goal.fresh_element(target.head)
            body = substitute(target.parts[0], target.head, name)
            yield Move("intro", (name,), (Goal(goal.facts, body, (*goal.elements, name)),))
        case "or":
            for side, part in zip(("left", "right"), target.parts, strict=True):
                yield Move(side, (), (replace(goal, target=part),))
        case "ex":
            for element in goal.elements:
                body = substitute(target.parts[0], target.head, element)
                yield Move("witness", (element,), (replace(goal, target=body),))


def elimination(goal: Goal) -> Iterator[Move]:
    """Moves that take a hypothesis apart."""
    for name, fact in goal.facts:
        if fact.kind == "and":
            one, two = fact.parts
            first = goal.fresh(one)
            second = goal.fresh(two, (first,))
            facts = goal.plus((first, one), (second, two), without=name)
            yield Move("pair", (name, first, second), (replace(goal, facts=facts),))
        elif fact.kind == "or":
            names = tuple(goal.fresh(part) for part in fact.parts)
            cases = tuple(
                replace(goal, facts=goal.plus((new, part), without=name))
                for new, part in zip(names, fact.parts, strict=True)
            )
            yield Move("cases", (name, *names), cases)
        elif fact.kind == "ex":
            element = goal.fresh_element(fact.head)
            body = substitute(fact.parts[0], fact.head, element)
            new = goal.fresh(body, (element,))
            facts = goal.plus((new, body), without=name)
            yield Move("pair", (name, element, new), (Goal(facts, goal.target, (*goal.elements, element)),))


def conclusions(fact: Formula, elements: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[Formula], Formula]]:
    """The conclusions of a hypothesis used as a function: objects put in, premises, conclusion."""
    variables = []
    while fact.kind == "all":
        variables.append(fact.head)
        fact = fact.parts[0]
    for chosen in product(elements, repeat=len(variables)):
        body = fact
        for variable, element in zip(variables, chosen, strict=True):
            body = substitute(body, variable, element)
        premises: list[Formula] = []
        while body.kind in ("imp", "not"):
            premises.append(body.parts[0])
            body = body.parts[1] if body.kind == "imp" else FALSE
            yield chosen, list(premises), body


def application(goal: Goal) -> Iterator[Move]:
    """Moves that use a hypothesis as a function: on the target, or on another hypothesis."""
    wanted = bound(goal.target)
    for name, fact in goal.facts:
        if fact.kind == "iff":
            one, two = fact.parts
            for way, premise, result in (("mp", one, two), ("mpr", two, one)):
                if bound(result) == wanted:
                    yield Move("apply", (f"{name}.{way}",), (replace(goal, target=premise),))
                elif (known := goal.known(premise)) is not None and goal.known(result) is None:
                    new = goal.fresh(result)
                    yield Move("have", (new, f"{name}.{way} {known}"), (replace(goal, facts=goal.plus((new, result))),))
        if fact.kind not in ("imp", "not", "all"):
            continue
        for chosen, premises, result in conclusions(fact, goal.elements):
            if bound(result) == wanted:
                yield Move("apply", (name, *chosen), tuple(replace(goal, target=premise) for premise in premises))
            elif len(premises) == 1 and (known := goal.known(premises[0])) is not None and goal.known(result) is None:
                if result.kind == "false":
                    continue
                new = goal.fresh(result)
                call = " ".join((name, *chosen, known))
                yield Move("have", (new, call), (replace(goal, facts=goal.plus((new, result))),))


def other(goal: Goal, *, classical: bool) -> Iterator[Move]:
    """Moves that change the subject: to absurdity, to a case distinction."""
    if goal.target.kind != "false" and any(fact.kind == "not" for _, fact in goal.facts):
        yield Move("exfalso", (), (replace(goal, target=FALSE),))
    if classical and goal.target.kind != "false":
        everything = [goal.target, *(fact for _, fact in goal.facts)]
        free = {part for formula in everything for part in subformulas(formula) if part.kind == "atom"}
        for part in sorted(free, key=str):
            if set(part.terms) <= set(goal.elements) and goal.known(part) is None:
                name = goal.fresh(part)
                denied = join("not", part)
                if goal.known(denied) is None:
                    goals = tuple(replace(goal, facts=goal.plus((name, formula))) for formula in (part, denied))
                    yield Move("by_cases", (name, str(part)), goals)


class Prover:
    """Searches all proofs of at most so many steps, shortest first; one prover remembers what it has searched.

    Args:
        classical: allow case distinctions on whether an atom holds.
    """

    def __init__(self, *, classical: bool = False) -> None:
        self.classical = classical
        self._memory: dict[tuple[object, int], list[Proof]] = {}
        self.work = 0

    def proofs(self, goal: Goal, steps: int) -> list[Proof]:
        """At most ``MOST_PROOFS`` proofs within so many steps."""
        if steps < 1:
            return []
        key = (goal.key(), steps)
        if key in self._memory:
            return self._memory[key]
        self.work += 1
        found = [Proof(move) for move in closing(goal)]
        direct = any(proof.move.kind in ("fact", "true") for proof in found)
        if not direct and steps > 1:
            for move in self._moves(goal):
                found.extend(self._fill(move, steps - 1))
        found.sort(key=lambda proof: proof.steps)
        self._memory[key] = found[:MOST_PROOFS]
        return self._memory[key]

    def _moves(self, goal: Goal) -> Iterator[Move]:
        yield from backward(goal)
        yield from elimination(goal)
        yield from application(goal)
        yield from other(goal, classical=self.classical)

    def _fill(self, move: Move, steps: int) -> Iterator[Proof]:
        """Proofs that begin with a move, a few for each of its goals."""
        if not move.goals:
            return
        choices: list[tuple[Proof, ...]] = [()]
        left = len(move.goals)
        for goal in move.goals:
            left -= 1
            extended = []
            for chosen in choices:
                spent = sum(part.steps for part in chosen)
                for part in self.proofs(goal, steps - spent - left)[:6]:
                    extended.append((*chosen, part))
            choices = sorted(extended, key=lambda parts: sum(part.steps for part in parts))[:12]
        for parts in choices:
            yield Proof(move, parts)
