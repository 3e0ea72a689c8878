"""Random theorems about natural numbers and lists: walks from term to term by known lemmas, and small inductions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from random import Random

Term = tuple["str | Term", ...] | str
"""A variable or constant, or an operator with its arguments; upper-case letters stand for anything in a rule."""
Rule = tuple[str, Term, Term]

NAT_RULES: tuple[Rule, ...] = (
    ("Nat.add_comm", ("+", "A", "B"), ("+", "B", "A")),
    ("Nat.add_assoc", ("+", ("+", "A", "B"), "C"), ("+", "A", ("+", "B", "C"))),
    ("← Nat.add_assoc", ("+", "A", ("+", "B", "C")), ("+", ("+", "A", "B"), "C")),
    ("Nat.add_right_comm", ("+", ("+", "A", "B"), "C"), ("+", ("+", "A", "C"), "B")),
    ("Nat.zero_add", ("+", "0", "A"), "A"),
    ("Nat.add_zero", ("+", "A", "0"), "A"),
    ("Nat.mul_comm", ("*", "A", "B"), ("*", "B", "A")),
    ("Nat.mul_one", ("*", "A", "1"), "A"),
    ("Nat.one_mul", ("*", "1", "A"), "A"),
    ("Nat.mul_zero", ("*", "A", "0"), "0"),
    ("Nat.zero_mul", ("*", "0", "A"), "0"),
    ("Nat.mul_add", ("*", "A", ("+", "B", "C")), ("+", ("*", "A", "B"), ("*", "A", "C"))),
    ("Nat.add_mul", ("*", ("+", "A", "B"), "C"), ("+", ("*", "A", "C"), ("*", "B", "C"))),
)
LIST_RULES: tuple[Rule, ...] = (
    ("List.nil_append", ("++", "[]", "A"), "A"),
    ("List.append_nil", ("++", "A", "[]"), "A"),
    ("List.append_assoc", ("++", ("++", "A", "B"), "C"), ("++", "A", ("++", "B", "C"))),
    ("← List.append_assoc", ("++", "A", ("++", "B", "C")), ("++", ("++", "A", "B"), "C")),
    ("List.reverse_reverse", ("reverse", ("reverse", "A")), "A"),
    ("List.reverse_append", ("reverse", ("++", "A", "B")), ("++", ("reverse", "B"), ("reverse", "A"))),
    ("List.map_append", ("map", ("++", "A", "B")), ("++", ("map", "A"), ("map", "B"))),
    ("List.length_append", ("length", ("++", "A", "B")), ("+", ("length", "A"), ("length", "B"))),
    ("List.length_map", ("length", ("map", "A")), ("length", "A")),
    ("List.length_reverse", ("length", ("reverse", "A")), ("length", "A")),
    ("List.length_cons", ("length", ("::", "A", "B")), ("+", ("length", "B"), "1")),
    ("List.cons_append", ("++", ("::", "A", "B"), "C"), ("::", "A", ("++", "B", "C"))),
    ("Nat.add_comm", ("+", "A", "B"), ("+", "B", "A")),
)
STRENGTH = {"+": 65, "*": 70, "++": 65, "::": 67}


def write(term: Term, above: int = 0) -> str:
    """The term in Lean's notation."""
    if isinstance(term, str):
        return term
    head, *parts = term
    if head in ("reverse", "length"):
        return f"{write(parts[0], 1024)}.{head}"
    if head == "map":
        text = f"List.map f {write(parts[0], 1024)}"
        return f"({text})" if above == 1024 else text
    own = STRENGTH[str(head)]
    left, right = (own + 1, own) if head == "::" else (own, own + 1)
    text = f"{write(parts[0], left)} {head} {write(parts[1], right)}"
    return f"({text})" if own < above else text


def match(pattern: Term, term: Term, found: dict[str, Term]) -> bool:
    """Whether the term has the form of the pattern; fills in what the upper-case letters stand for."""
    if isinstance(pattern, str):
        if pattern.isupper():
            return found.setdefault(pattern, term) == term
        return pattern == term
    return (
        not isinstance(term, str)
        and len(pattern) == len(term)
        and pattern[0] == term[0]
        and all(match(one, two, found) for one, two in zip(pattern[1:], term[1:], strict=True))
    )


def fill(pattern: Term, found: Mapping[str, Term]) -> Term:
    """The pattern with what its letters stand for."""
    if isinstance(pattern, str):
        return found.get(pattern, pattern)
    return (pattern[0], *(fill(part, found) for part in pattern[1:]))


def rewrites(term: Term, rules: tuple[Rule, ...]) -> Iterator[tuple[str, Term]]:
    """Every term that one use of one rule makes of this one."""
    for name, left, right in rules:
        found: dict[str, Term] = {}
        if match(left, term, found):
            yield name, fill(right, found)
    if not isinstance(term, str):
        for place in range(1, len(term)):
            for name, part in rewrites(term[place], rules):
                yield name, (*term[:place], part, *term[place + 1 :])


def walk(random: Random, start: Term, rules: tuple[Rule, ...], steps: int) -> Term:
    """Rewrite a term at random so many times; a rule is drawn first, so that rare ones are not drowned."""
    for _ in range(steps):
        ways: dict[str, list[Term]] = {}
        for name, term in rewrites(start, rules):
            ways.setdefault(name, []).append(term)
        if ways:
            start = random.choice(ways[random.choice(list(ways))])
    return start


def sum_term(random: Random, names: list[str]) -> Term:
    """A random sum or product in which the names stand, with a few zeros and ones."""
    leaves: list[Term] = [*names]
    if random.random() < 0.45:
        leaves.append(random.choice("001"))
    random.shuffle(leaves)
    while len(leaves) > 1:
        place = random.randrange(len(leaves) - 1)
        leaves[place : place + 2] = [(random.choice("+++*"), leaves[place], leaves[place + 1])]
    return leaves[0]


def nat_equation(random: Random) -> str | None:
    """An equation of sums and products, perhaps under an equation of two variables."""
    names = sorted(random.sample("abcmnk", random.choice((1, 2, 2, 3))))
    left = sum_term(random, names)
    right = walk(random, left, NAT_RULES, random.choice((1, 1, 2, 2, 3)))
    fact = ""
    if len(names) > 1 and random.random() < 0.4:
        one, two = random.sample(names, 2)
        right = fill_variable(right, one, two)
        fact = f" (h : {one} = {two})" if random.random() < 0.7 else f" (h : {two} = {one})"
    if left == right:
        return None
    if random.random() < 0.3:
        left, right = right, left
    return f"({' '.join(names)} : Nat){fact} : {write(left)} = {write(right)}"


def fill_variable(term: Term, name: str, by: str) -> Term:
    """The term with one variable for another."""
    if isinstance(term, str):
        return by if term == name else term
    return (term[0], *(fill_variable(part, name, by) for part in term[1:]))


def nat_order(random: Random) -> str | None:
    """A fact about ``≤``, ``<``, ``=`` that follows from others; tried on small numbers first."""
    names = sorted(random.sample("abcmnk", random.choice((1, 2, 2, 3))))

    def side() -> str:
        name = random.choice(names)
        return random.choice((name, name, name, f"{name} + 1", f"{name} + {random.choice(names)}", "0"))

    def fact() -> str:
        return f"{side()} {random.choice(('≤', '≤', '<', '='))} {side()}"

    facts = [fact() for _ in range(random.choice((0, 1, 1, 2, 2, 2)))]
    goal = fact()
    sides = [tuple(one.split(f" {sign} ")) for one in (*facts, goal) for sign in "≤<=" if f" {sign} " in one]
    if any(left == right for left, right in sides) or len({*facts, goal}) <= len(facts):
        return None
    if not all(any(name in one.split() for one in (*facts, goal)) for name in names) or not follows(facts, goal, names):
        return None
    if any(follows([other for other in facts if other != one], goal, names) for one in facts):
        return None
    named = " ".join(f"({name} : {one})" for name, one in zip(("h", "h1", "h2"), facts, strict=False))
    return f"({' '.join(names)} : Nat) {named} : {goal}".replace("  ", " ")


def follows(facts: list[str], goal: str, names: list[str]) -> bool:
    """Whether the goal is true for all small numbers for which the facts are, and the facts are for some."""

    def value(text: str, numbers: Mapping[str, int]) -> int:
        return sum(numbers[part] if part in numbers else int(part) for part in text.split(" + "))

    def true(text: str, numbers: Mapping[str, int]) -> bool:
        sign = next(sign for sign in "≤<=" if f" {sign} " in text)
        one, two = (value(side, numbers) for side in text.split(f" {sign} "))
        return {"≤": one <= two, "<": one < two, "=": one == two}[sign]

    cases = [dict(zip(names, chosen, strict=True)) for chosen in product(range(5), repeat=len(names))]
    open_cases = [numbers for numbers in cases if all(true(fact, numbers) for fact in facts)]
    return bool(open_cases) and all(true(goal, numbers) for numbers in open_cases)


def nat_induction(random: Random) -> str | None:
    """A predicate or function known at 0 and from each number to the next."""
    name, step = random.choice("PQR"), random.choice("nmk")
    kind = random.choice(("every", "some", "some", "function", "value"))
    if kind in ("every", "some"):
        base = random.choice((0, 0, 1, 2)) if kind == "some" else 0
        wanted = f"∀ {step}, {name} {step}" if kind == "every" else f"{name} {base + random.choice((1, 2, 3))}"
        return f"({name} : Nat → Prop) (h : {name} {base}) (h1 : ∀ n, {name} n → {name} (n + 1)) : {wanted}"
    function, start = random.choice("fg"), random.choice(("0", "1", "a", "b"))
    extra = f" ({start} : Nat)" if start.isalpha() else ""
    rule, closed = random.choice(((f"{function} n", start), (f"{function} n + 1", f"{start} + {{0}}")))
    if kind == "value":
        number = random.choice((1, 2, 3))
        closed = closed.format(number)
        wanted = f"{function} {number} = {closed}"
    else:
        closed = closed.format(step)
        wanted = f"∀ {step}, {function} {step} = {closed}"
    binders = f"({function} : Nat → Nat){extra}"
    return f"{binders} (h : {function} 0 = {start}) (h1 : ∀ n, {function} (n + 1) = {rule}) : {wanted}"


def list_equation(random: Random) -> str | None:
    """An equation of lists or of their lengths, perhaps under an equation of two lists."""
    lists = sorted(random.sample(("xs", "ys", "zs"), random.choice((1, 2, 2, 3))))
    leaves: list[Term] = [*lists]
    if random.random() < 0.35:
        leaves.append("[]")
    random.shuffle(leaves)
    while len(leaves) > 1:
        place = random.randrange(len(leaves) - 1)
        leaves[place : place + 2] = [("++", leaves[place], leaves[place + 1])]
    left = leaves[0]
    if random.random() < 0.3:
        left = ("::", "a", left) if random.random() < 0.5 else ("++", ("::", "a", lists[0]), left)
    for head, share in (("map", 0.25), ("reverse", 0.35), ("reverse", 0.1), ("length", 0.4)):
        if random.random() < share:
            left = (head, left)
    right = walk(random, left, LIST_RULES, random.choice((1, 1, 2, 2, 3)))
    fact = ""
    if len(lists) > 1 and random.random() < 0.3:
        one, two = random.sample(lists, 2)
        right = fill_variable(right, one, two)
        fact = f" (h : {one} = {two})" if random.random() < 0.7 else f" (h : {two} = {one})"
    if left == right:
        return None
    texts = [write(left), write(right)]
    if random.random() < 0.2:
        texts.reverse()
    whole = " = ".join(texts)
    binders = ["(α : Type)"] + ["(f : α → α)"] * ("List.map f" in whole) + ["(a : α)"] * ("a ::" in whole)
    return f"{' '.join(binders)} ({' '.join(lists)} : List α){fact} : {whole}"


def list_member(random: Random) -> str | None:
    """Membership in lists made of others."""
    lists = sorted(random.sample(("xs", "ys", "zs"), random.choice((2, 2, 3))))
    first, second = random.sample(lists, 2)
    facts = random.choice((f"a ∈ {first}", f"a ∈ {first}", f"a ∈ {first} ∨ a ∈ {second}", f"a ∈ {first} ++ {second}"))
    goals = [f"a ∈ {first} ++ {second}", f"a ∈ {second} ++ {first}", f"a ∈ b :: {first}", f"a ∈ {first} ∨ a ∈ {second}"]
    goals += [f"a ∈ b :: ({first} ++ {second})", f"a ∈ {first} ++ b :: {second}", f"a ∈ {second} ∨ a ∈ {first}"]
    goal = random.choice([*goals, *(f"a ∈ {first} ++ {second} ++ {other}" for other in lists)])
    if goal == facts:
        return None
    used = [name for name in lists if name in f"{facts} {goal}"]
    objects = "a b" if "b ::" in goal else "a"
    return f"(α : Type) ({objects} : α) ({' '.join(used)} : List α) (h : {facts}) : {goal}"


Draw = Callable[[Random], "str | None"]
FAMILIES: dict[str, tuple[tuple[Draw, float], ...]] = {
    "nat": ((nat_equation, 0.45), (nat_order, 0.4), (nat_induction, 0.15)),
    "list": ((list_equation, 0.8), (list_member, 0.2)),
}


def draw(family: str, random: Random) -> str | None:
    """A random statement of a family, or None if the draw was none; whether it can be proved is Lean's to say."""
    draws, weights = zip(*FAMILIES[family], strict=True)
    chosen: Draw = random.choices(draws, weights)[0]
    statement = chosen(random)
    return statement if statement is not None and len(statement) <= 100 else None
