"""Tactics worth trying on a state about numbers or lists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from lightning_gfn.theorem_generation.arithmetic_statements import LIST_RULES, NAT_RULES

HYPOTHESIS = re.compile(r"^([^:⊢]+?) : (.+)$")
SYMBOL_OF = {"+": "+", "*": "*", "++": "++", "::": "::", "length": ".length", "map": "List.map", "reverse": ".reverse"}
ONE_FACT = (
    "Nat.le_of_lt {0}",
    "Nat.succ_le_of_lt {0}",
    "Nat.lt_succ_of_le {0}",
    "Nat.le_of_lt_succ {0}",
    "Nat.le_succ_of_le {0}",
    "Nat.succ_le_succ {0}",
    "Nat.le_of_succ_le_succ {0}",
    "Nat.lt_of_succ_le {0}",
    "Nat.le_of_eq {0}",
    "Nat.le_of_eq {0}.symm",
    "Nat.add_le_add_left {0} _",
    "Nat.add_le_add_right {0} _",
    "Nat.le_trans {0} (Nat.le_add_right _ _)",
    "Nat.le_trans {0} (Nat.le_succ _)",
    "Nat.lt_of_lt_of_le {0} (Nat.le_add_right _ _)",
    "Nat.eq_zero_of_le_zero {0}",
    "Nat.succ.inj {0}",
)
TWO_FACTS = (
    "Nat.le_trans {0} {1}",
    "Nat.lt_trans {0} {1}",
    "Nat.lt_of_lt_of_le {0} {1}",
    "Nat.lt_of_le_of_lt {0} {1}",
    "Nat.le_antisymm {0} {1}",
    "Nat.add_le_add {0} {1}",
    "absurd {0} (Nat.not_lt_of_le {1})",
)
NO_FACT = (
    "Nat.le_add_right _ _",
    "Nat.le_add_left _ _",
    "Nat.zero_le _",
    "Nat.le_refl _",
    "Nat.le_succ _",
    "Nat.succ_pos _",
)
BACKWARD = ("Nat.succ_le_of_lt", "Nat.le_of_lt", "Nat.lt_succ_of_le", "Nat.succ_le_succ", "Nat.le_succ_of_le")
MEMBER = (
    "List.mem_append_left _ {0}",
    "List.mem_append_right _ {0}",
    "List.mem_cons_of_mem _ {0}",
    "List.mem_append.mp {0}",
    "List.mem_append.mpr {0}",
    "{0}.symm",
)


@dataclass(frozen=True)
class GoalReading:
    """A goal taken apart.

    Args:
        facts: name and statement of each hypothesis that is a proposition.
        numbers: variables of type Nat.
        lists: variables that are lists.
        target: what is to be proved.
    """

    facts: tuple[tuple[str, str], ...]
    numbers: tuple[str, ...]
    lists: tuple[str, ...]
    target: str


def read(state: str) -> GoalReading:
    """The first goal of a state."""
    facts: list[tuple[str, str]] = []
    numbers: list[str] = []
    lists: list[str] = []
    target = ""
    for line in state.split("\n\n")[0].replace("\n  ", " ").split("\n"):
        found = HYPOTHESIS.match(line)
        if line.startswith("⊢ "):
            target = line[2:]
        elif found and found[2] == "Nat":
            numbers.extend(found[1].split())
        elif found and found[2].startswith("List"):
            lists.extend(found[1].split())
        elif found and re.search(r"[=≤<∈∨]|∀|^[A-Z] ", found[2]) and "✝" not in found[1]:
            facts.extend((name, found[2]) for name in found[1].split())
    return GoalReading(tuple(facts), tuple(numbers), tuple(lists), target)


def proposals(state: str, depth: int) -> Iterator[str]:
    """Tactics to try on the first goal of a state, the promising first; most of them will fail."""
    goal = read(state)
    if "✝" in state.split("\n\n")[0]:
        yield "rename_i k ih"
        return
    if goal.target.startswith("∀"):
        yield from (f"intro {name}" for name in re.findall(r"^∀ \(?(\w)", goal.target))
    names = [name for name, _ in goal.facts]
    for name, fact in goal.facts:
        yield f"exact {name}"
        if fact.startswith("∀"):
            yield f"apply {name}"
    if " = " in goal.target:
        yield from equalities(goal, depth)
    elif "∈" in state:
        yield from members(goal)
    else:
        yield from orders(goal, names)
    if depth <= 1:
        yield from inductions(goal)


def equalities(goal: GoalReading, depth: int) -> Iterator[str]:
    """For equations."""
    yield "rfl"
    equal = [name for name, fact in goal.facts if " = " in fact]
    plain = [name for name in equal if not dict(goal.facts)[name].startswith("∀")]
    for name in plain:
        yield f"exact {name}.symm"
        if depth == 0:
            yield f"subst {name}"
    for one, two in permutations(plain, 2):
        yield from (f"exact {one}.trans {two}", f"exact ({one}.trans {two}).symm", f"rw [{one}] at {two}")
    for name in equal:
        yield from (f"rw [{name}]", f"rw [← {name}]")
    for lemma, left, _ in (*NAT_RULES, *LIST_RULES[:-1]):
        name = lemma.removeprefix("← ")
        if ("List" in name) != bool(goal.lists) and not name.startswith("Nat.add"):
            continue
        if all(symbol in goal.target for symbol in symbols(left)):
            yield f"rw [{lemma}]"
            if depth == 0 and lemma == name:
                arguments = 1 if name in ("Nat.zero_add", "Nat.mul_one", "List.length_reverse") else 2
                yield f"exact {name}" + " _" * (3 if "assoc" in name else arguments)
    if depth <= 1 and "+" in goal.target:
        yield from (f"rw [Nat.add_comm {name}]" for name in goal.numbers)
    bounds = [name for name, fact in goal.facts if "≤" in fact]
    yield from (f"exact Nat.le_antisymm {one} {two}" for one, two in permutations(bounds, 2))
    yield from (f"exact Nat.eq_zero_of_le_zero {name}" for name in bounds)
    yield from (f"exact Nat.succ.inj {name}" for name in plain if "+ 1" in dict(goal.facts)[name])


def symbols(pattern: object) -> list[str]:
    """What must stand in a goal for a rule to apply."""
    if isinstance(pattern, str):
        return [] if pattern.isupper() else [pattern]
    assert isinstance(pattern, tuple)
    return [SYMBOL_OF[pattern[0]], *(symbol for part in pattern[1:] for symbol in symbols(part))]


def orders(goal: GoalReading, names: list[str]) -> Iterator[str]:
    """For ``≤`` and ``<``, and for predicates."""
    plain = [name for name, fact in goal.facts if not fact.startswith("∀")]
    rules = [name for name in names if name not in plain]
    yield from (f"exact {rule} _ {name}" for rule in rules for name in plain)
    yield from (f"exact {rule} _ ({rule} _ {name})" for rule in rules for name in plain)
    yield from (f"have h2 := {rule} _ {name}" for rule in rules for name in plain if "h2" not in names)
    if not ("≤" in goal.target or "<" in goal.target):
        return
    yield from (f"exact {pattern}" for pattern in NO_FACT)
    yield from (f"exact {pattern.format(name)}" for pattern in ONE_FACT for name in plain)
    yield from (f"exact {pattern.format(*two)}" for pattern in TWO_FACTS for two in permutations(plain, 2))
    equal = [name for name in plain if " = " in dict(goal.facts)[name]]
    yield from (f"rw [{arrow}{name}]" for name in equal for arrow in ("", "← "))
    yield from (f"apply {lemma}" for lemma in BACKWARD)
    yield from (
        f"apply Nat.{lemma} {name}" for name in plain for lemma in ("le_trans", "lt_of_lt_of_le", "lt_of_le_of_lt")
    )
    yield from (f"rw [{lemma}]" for lemma in ("Nat.add_comm", "Nat.zero_add") if "+" in goal.target)


def members(goal: GoalReading) -> Iterator[str]:
    """For membership in lists."""
    for name, fact in goal.facts:
        if fact.startswith("∀"):
            continue
        yield from (f"exact {pattern.format(name)}" for pattern in MEMBER)
        yield f"exact List.mem_append_left _ (List.mem_append_left _ {name})"
        yield f"exact List.mem_append_left _ (List.mem_append_right _ {name})"
        yield f"exact List.mem_cons_of_mem _ (List.mem_append_left _ {name})"
        yield f"exact List.mem_append_right _ (List.mem_cons_of_mem _ {name})"
        if "∨" in fact:
            yield f"rcases {name} with h1 | h1"
        if "++" in fact:
            yield f"rw [List.mem_append] at {name}"
    yield from (f"apply List.{lemma}" for lemma in ("mem_append_left", "mem_append_right", "mem_cons_of_mem"))
    yield from ("rw [List.mem_append]", "apply List.mem_append.mpr") if "++" in goal.target else ()
    yield from ("left", "right") if "∨" in goal.target else ()


def inductions(goal: GoalReading) -> Iterator[str]:
    """One-line inductions, and bare ones that leave two goals."""
    rules = [name for name, fact in goal.facts if fact.startswith("∀")]
    bases = ["rfl", *(f"exact {name}" for name, fact in goal.facts if not fact.startswith("∀"))]
    steps = ["rw [← Nat.add_assoc, ih]", "rw [Nat.mul_succ, ih]", "rw [Nat.succ_mul, ih]", "rw [Nat.add_succ, ih]"]
    if rules:
        steps = [step for rule in rules for step in (f"exact {rule} k ih", f"rw [{rule}, ih]", f"rw [{rule}, ih]; rfl")]
    for name in goal.numbers[-1:] if rules else goal.numbers[:1] if len(goal.numbers) == 1 and not goal.facts else ():
        if re.search(rf"\b{name}\b", goal.target):
            yield from (
                f"induction {name} with | zero => {base} | succ k ih => {step}" for base in bases for step in steps
            )
            if rules:
                yield f"induction {name}"
    if len(goal.lists) == 1 and not goal.facts and "reverse" not in goal.target:
        name = goal.lists[0]
        for step in ("rw [List.cons_append, ih]", "rw [List.length_cons, ih]", "exact congrArg _ ih"):
            yield f"induction {name} with | nil => rfl | cons x xs ih => {step}"
        yield f"cases {name}"
