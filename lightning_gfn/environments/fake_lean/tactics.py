"""Goals of propositional logic and the tactics that change them, as Lean does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lightning_gfn.environments.fake_lean.proof_terms import check_term, directions, infer, read_term
from lightning_gfn.environments.fake_lean.propositional import (
    FALSE,
    TRUE,
    Formula,
    Reader,
    Refused,
    Sequent,
    arrow,
    unfolded,
)

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Goal:
    """One goal.

    Args:
        sequent: what is given and what is to be proved. A hypothesis whose name ends with ``✝`` cannot be named.
        tag: its case; empty if it has none.
    """

    sequent: Sequent
    tag: str = ""

    def named(self) -> tuple[tuple[str, Formula], ...]:
        """The hypotheses as they are printed: what is hidden or cannot be named carries a dagger."""
        shown: list[tuple[str, Formula]] = []
        counts: dict[str, int] = {}
        taken: set[str] = set()
        for name, formula in reversed(self.sequent.hypotheses):
            plain = name.rstrip("✝")
            if name == plain and name not in taken:
                taken.add(name)
            else:
                count = counts.get(plain, 0)
                counts[plain] = count + 1
                name = f"{plain}✝{str(count).translate(SUPERSCRIPTS) if count else ''}"
            shown.append((name, formula))
        return tuple(reversed(shown))

    def __str__(self) -> str:
        lines = [f"case {self.tag}"] if self.tag else []
        if self.sequent.propositions:
            lines.append(f"{' '.join(self.sequent.propositions)} : Prop")
        groups: list[tuple[list[str], Formula]] = []
        for name, formula in self.named():
            if groups and groups[-1][1] == formula:
                groups[-1][0].append(name)
            else:
                groups.append(([name], formula))
        lines += [f"{' '.join(names)} : {formula}" for names, formula in groups]
        return "\n".join([*lines, f"⊢ {self.sequent.goal}"])

    def to_prove(self, formula: Formula, tag: str = "") -> Goal:
        """The goal with another conclusion, its tag extended."""
        return Goal(replace(self.sequent, goal=formula), self.extended(tag))

    def extended(self, tag: str) -> str:
        """The tag of a goal that comes from this one."""
        return ".".join(part for part in (self.tag, tag) if part)

    def given(self, *new: tuple[str, Formula], without: int | None = None, tag: str = "") -> Goal:
        """The goal with more hypotheses, perhaps without one."""
        kept = [one for index, one in enumerate(self.sequent.hypotheses) if index != without]
        for name, _ in new:
            if name in self.sequent.propositions:
                raise Refused(f"`{name}` is a proposition here; choose another name")
        return Goal(replace(self.sequent, hypotheses=(*kept, *new)), self.extended(tag))


def run(goals: tuple[Goal, ...], tactic: str) -> tuple[Goal, ...]:
    """The goals after a tactic on the first one.

    Raises:
        Refused: the tactic fails, or is none of this fragment.
    """
    word, _, rest = tactic.strip().partition(" ")
    if word not in TACTICS:
        raise Refused(f"<input>:1:1: unknown tactic `{word}`")
    reader = Reader(rest)
    new = TACTICS[word](goals[0], reader)
    reader.end()
    return (*new, *goals[1:])


def _intro(goal: Goal, reader: Reader) -> list[Goal]:
    names = [reader.name()] if reader.next else ["a✝"]
    while reader.next:
        names.append(reader.name())
    for name in names:
        split = arrow(goal.sequent.goal)
        if split is None:
            raise Refused("Tactic `introN` failed: There are no additional binders or `let` bindings to introduce")
        goal = goal.given(("a✝" if name == "_" else name, split[0])).to_prove(split[1])
    return [goal]


def _exact(goal: Goal, reader: Reader) -> list[Goal]:
    check_term(read_term(reader), goal.sequent.goal, goal.sequent.hypotheses)
    return []


def _apply(goal: Goal, reader: Reader) -> list[Goal]:
    term = read_term(reader)
    if not term.parts and term.head in ("And.intro", "Iff.intro"):
        return _constructor(goal, reader)
    if not term.parts and term.head in ("Or.inl", "Or.inr"):
        return (_left if term.head == "Or.inl" else _right)(goal, reader)
    if not term.parts and term.head == "False.elim":
        return _exfalso(goal, reader)
    conclusion = whole = infer(term, goal.sequent.hypotheses)
    premises: list[Formula] = []
    while unfolded(conclusion) != unfolded(goal.sequent.goal):
        split = arrow(conclusion)
        if split is None:
            raise Refused(
                f"Tactic `apply` failed: could not unify the type of `{term.head}`\n  {whole}\nwith the goal\n"
                f"  {goal.sequent.goal}"
            )
        premises.append(split[0])
        conclusion = split[1]
    return [goal.to_prove(premise, "a" if len(premises) > 1 else "") for premise in premises]


def _constructor(goal: Goal, reader: Reader) -> list[Goal]:
    formula = goal.sequent.goal
    if formula == TRUE:
        return []
    if formula.head == "∧":
        return [goal.to_prove(part, tag) for part, tag in zip(formula.parts, ("left", "right"), strict=True)]
    if formula.head == "↔":
        return [goal.to_prove(part, tag) for part, tag in zip(directions(formula), ("mp", "mpr"), strict=True)]
    if formula.head == "∨":
        return _left(goal, reader)
    raise Refused("Tactic `constructor` failed: target is not an inductive datatype")


def _side(goal: Goal, name: str, index: int) -> list[Goal]:
    formula = goal.sequent.goal
    if formula.head != "∨":
        raise Refused(f"Tactic `{name}` failed: target is not an inductive datatype with two constructors")
    return [goal.to_prove(formula.parts[index], "h")]


def _left(goal: Goal, _: Reader) -> list[Goal]:
    return _side(goal, "left", 0)


def _right(goal: Goal, _: Reader) -> list[Goal]:
    return _side(goal, "right", 1)


def _find(goal: Goal, name: str) -> tuple[int, Formula]:
    for index in reversed(range(len(goal.sequent.hypotheses))):
        if goal.sequent.hypotheses[index][0] == name:
            return index, goal.sequent.hypotheses[index][1]
    raise Refused(f"Unknown identifier `{name}`")


def _split(goal: Goal, name: str, names: tuple[str, ...] = ()) -> list[Goal]:
    """The cases of a hypothesis."""
    index, formula = _find(goal, name)
    if formula == FALSE:
        return []
    if formula == TRUE:
        return [goal.given(without=index, tag="intro")]
    if formula.head == "∨":
        first, second = names or ("h✝", "h✝")
        cases = zip(formula.parts, ((first, "inl"), (second, "inr")), strict=True)
        return [goal.given((new, part), without=index, tag=tag) for part, (new, tag) in cases]
    if formula.head in ("∧", "↔"):
        fields, parts = ("left✝", "right✝"), formula.parts
        if formula.head == "↔":
            fields, parts = ("mp✝", "mpr✝"), directions(formula)
        return [goal.given(*zip(names or fields, parts, strict=True), without=index, tag="intro")]
    raise Refused(f"Tactic `cases` failed: `{name}` is not of an inductive datatype\n  {formula}")


def _cases(goal: Goal, reader: Reader) -> list[Goal]:
    return _split(goal, reader.name())


def _rcases(goal: Goal, reader: Reader) -> list[Goal]:
    """``rcases h with a | b`` and ``rcases h with ⟨a, b⟩``."""
    name = reader.name()
    reader.take("with")
    return _split_by(goal, name, *_pattern(reader))


def _obtain(goal: Goal, reader: Reader) -> list[Goal]:
    """``obtain a | b := h`` and ``obtain ⟨a, b⟩ := h``."""
    divider, names = _pattern(reader)
    reader.take(":=")
    return _split_by(goal, reader.name(), divider, names)


def _pattern(reader: Reader) -> tuple[str, tuple[str, str]]:
    structure = reader.next == "⟨"
    if structure:
        reader.take()
    first = reader.name()
    divider = reader.take("," if structure else "|")
    names = (first, reader.name())
    if structure:
        reader.take("⟩")
    return divider, names


def _split_by(goal: Goal, name: str, divider: str, names: tuple[str, str]) -> list[Goal]:
    formula = _find(goal, name)[1]
    if (divider == "|") != (formula.head == "∨") or formula.head not in ("∨", "∧", "↔"):
        raise Refused(f"Tactic `rcases` failed: the pattern does not fit `{name}`\n  {formula}")
    return _split(goal, name, names)


def _assumption(goal: Goal, _: Reader) -> list[Goal]:
    wanted = unfolded(goal.sequent.goal)
    if any(unfolded(formula) == wanted for _, formula in goal.sequent.hypotheses):
        return []
    raise Refused(f"Tactic `assumption` failed\n\n{goal}")


def _contradiction(goal: Goal, _: Reader) -> list[Goal]:
    known = {unfolded(formula) for _, formula in goal.sequent.hypotheses}
    if FALSE in known or any(Formula("→", (formula, FALSE)) in known for formula in known):
        return []
    raise Refused(f"Tactic `contradiction` failed\n\n{goal}")


def _trivial(goal: Goal, reader: Reader) -> list[Goal]:
    for tactic in (_assumption, _contradiction):
        try:
            return tactic(goal, reader)
        except Refused:
            continue
    if goal.sequent.goal == TRUE:
        return []
    raise Refused(f"Tactic `trivial` failed\n\n{goal}")


def _exfalso(goal: Goal, _: Reader) -> list[Goal]:
    return [goal.to_prove(FALSE)]


TACTICS: dict[str, Callable[[Goal, Reader], list[Goal]]] = {
    "intro": _intro,
    "exact": _exact,
    "apply": _apply,
    "constructor": _constructor,
    "left": _left,
    "right": _right,
    "cases": _cases,
    "rcases": _rcases,
    "obtain": _obtain,
    "assumption": _assumption,
    "contradiction": _contradiction,
    "trivial": _trivial,
    "exfalso": _exfalso,
}
