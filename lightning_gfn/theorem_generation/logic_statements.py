"""Random theorems of propositional and first-order logic that have a short proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random

from lightning_gfn.theorem_generation.formulas import (
    FALSE,
    TRUE,
    Formula,
    Kind,
    atom,
    holds,
    join,
    quantify,
    size,
    subformulas,
)
from lightning_gfn.theorem_generation.natural_deduction import Goal, Proof, Prover

MOST_STEPS = 7
"""Moves of the longest proof that is looked for; taken together they are at most six tactics."""
LONGEST_STATEMENT = 90


@dataclass(frozen=True)
class Sequent:
    """A theorem with its proofs as trees.

    Args:
        statement: as it follows the theorem's name.
        goal: what is to be proved, from its hypotheses.
        proofs: shortest first.
    """

    statement: str
    goal: Goal
    proofs: tuple[Proof, ...]


def propositional(random: Random) -> Sequent | None:
    """A random propositional theorem, or None if the draw was none."""
    names = sorted(random.sample("pqrs", random.choice((2, 2, 3, 3, 3))))
    hypotheses = [formula(random, names, random.choice((1, 2, 2, 3))) for _ in range(random.choice((0, 1, 1, 2, 2, 3)))]
    target = formula(random, names, random.choice((2, 2, 3, 4)) if not hypotheses else random.choice((1, 1, 2, 2, 3)))
    if not tautology(hypotheses, target, names):
        return None
    for kept in combinations(hypotheses, max(len(hypotheses) - 1, 0)):
        if hypotheses and tautology(kept, target, names):
            return None
    goal = named(hypotheses, target)
    return theorem(goal, (f"({' '.join(names)} : Prop)",), names)


def formula(random: Random, names: Sequence[str], parts: int) -> Formula:
    """A random formula of so many atoms."""
    if parts <= 1:
        if random.random() < 0.04:
            return random.choice((TRUE, FALSE))
        inner = atom(random.choice(names))
        return join("not", inner) if random.random() < 0.15 else inner
    kind: Kind = random.choices(("and", "or", "imp", "iff"), (4, 3, 4, 1))[0]
    cut = random.randint(1, parts - 1)
    one, two = formula(random, names, cut), formula(random, names, parts - cut)
    whole = join(kind, one, two if two != one else atom(random.choice(names)))
    return join("not", whole) if random.random() < 0.08 else whole


def tautology(hypotheses: Sequence[Formula], target: Formula, names: Sequence[str]) -> bool:
    """Whether the target is true wherever the hypotheses are."""
    for number in range(2 ** len(names)):
        true = frozenset(name for place, name in enumerate(names) if number >> place & 1)
        if all(holds(fact, true) for fact in hypotheses) and not holds(target, true):
            return False
    return True


def first_order(random: Random) -> Sequent | None:
    """A random theorem about predicates, or None if the draw has no short proof."""
    predicates = sorted(random.sample("PQR", random.choice((1, 2, 2, 3))))
    elements = tuple(sorted(random.sample("abc", random.choice((0, 1, 1, 2)))))
    hypotheses = [sentence(random, predicates, elements) for _ in range(random.choice((0, 1, 1, 2, 2, 3)))]
    target = sentence(random, predicates, elements)
    if not hypotheses:
        target = join(random.choice(("imp", "iff")), sentence(random, predicates, elements), target)
    quantified = [part for one in (*hypotheses, target) for part in subformulas(one) if part.kind in ("all", "ex")]
    if not quantified or size(target) > 12:
        return None
    goal = named(hypotheses, target, elements)
    used = {part.head for one in (*hypotheses, target) for part in subformulas(one) if part.kind == "atom"}
    objects = {term for one in (*hypotheses, target) for part in subformulas(one) for term in part.terms}
    if used != set(predicates) or not set(elements) <= objects:
        return None
    binders = ["(α : Type)", f"({' '.join(predicates)} : α → Prop)"]
    if elements:
        binders.append(f"({' '.join(elements)} : α)")
    return theorem(goal, tuple(binders), predicates)


def sentence(random: Random, predicates: Sequence[str], elements: Sequence[str]) -> Formula:
    """A sentence as textbooks have them."""
    if elements and random.random() < 0.4:
        element = random.choice(list(elements))
        return said(random, predicates, element)
    variable = random.choice("xxxyz")
    kind: Kind = random.choice(("all", "all", "ex"))
    whole = quantify(kind, variable, said(random, predicates, variable, arrow=kind == "all"))
    return join("not", whole) if random.random() < 0.12 else whole


def said(random: Random, predicates: Sequence[str], term: str, *, arrow: bool = True) -> Formula:
    """A formula that says something of one object."""

    def one() -> Formula:
        inner = atom(random.choice(list(predicates)), term)
        return join("not", inner) if random.random() < 0.12 else inner

    if random.random() < 0.45:
        return one()
    kinds: tuple[Kind, ...] = ("imp", "imp", "and", "or", "iff") if arrow else ("and", "and", "or")
    first, second = one(), one()
    return join(random.choice(kinds), first, second) if first != second else first


def named(hypotheses: Sequence[Formula], target: Formula, elements: tuple[str, ...] = ()) -> Goal:
    """The goal, hypotheses named by their form."""
    goal = Goal((), target, elements)
    for fact in hypotheses:
        goal = Goal(goal.plus((goal.fresh(fact), fact)), target, elements)
    return goal


def theorem(goal: Goal, binders: tuple[str, ...], names: Sequence[str]) -> Sequent | None:
    """The goal as a theorem, if it is short, needs all its hypotheses and has a short proof."""
    facts = tuple(f"({name} : {fact})" for name, fact in goal.facts)
    statement = " ".join((*binders, *facts)) + f" : {goal.target}"
    used = {part.head for part in parts_of(goal)}
    if len(statement) > LONGEST_STATEMENT or not set(names) <= used:
        return None
    if any(goal.known(fact) != name for name, fact in goal.facts) or goal.known(goal.target) is not None:
        return None
    if any(part.kind != "not" and len(part.parts) == 2 and part.parts[0] == part.parts[1] for part in parts_of(goal)):
        return None
    proofs = prove(goal)
    if not proofs:
        return None
    for fact in goal.facts:
        if prove(Goal(tuple(other for other in goal.facts if other is not fact), goal.target, goal.elements)):
            return None
    return Sequent(statement, goal, tuple(proofs))


def parts_of(goal: Goal) -> Iterator[Formula]:
    """Every formula in a goal."""
    for whole in (*(fact for _, fact in goal.facts), goal.target):
        yield from subformulas(whole)


def prove(goal: Goal) -> list[Proof]:
    """Proofs within ``MOST_STEPS``, looked for with growing length; case distinctions only where nothing else helps."""
    for classical in (False, True):
        prover = Prover(classical=classical)
        for steps in range(1, MOST_STEPS + 1):
            proofs = prover.proofs(goal, steps)
            if proofs:
                return prover.proofs(goal, min(steps + 1, MOST_STEPS))
    return []


FAMILIES: dict[str, Callable[[Random], Sequent | None]] = {"propositional": propositional, "first_order": first_order}
