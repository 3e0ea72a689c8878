"""From proof trees to scripts of tactics: the same proof in several wordings."""

from __future__ import annotations

from random import Random

from lightning_gfn.theorem_generation.natural_deduction import Proof

LONGEST_TACTIC = 60
LONGEST_TERM = 36
WORDINGS: dict[str, tuple[str, ...]] = {
    "fact": ("exact {0}", "exact {0}", "exact {0}", "assumption"),
    "true": ("trivial", "exact True.intro"),
    "absurd": ("exact {0}.elim", "contradiction"),
    "contradiction": ("exact absurd {1} {0}", "contradiction"),
    "refute": ("exact {0} {1}", "contradiction"),
    "instance": ("exact {0} {1}",),
    "split": ("constructor", "constructor", "apply And.intro", "refine ⟨?_, ?_⟩"),
    "directions": ("constructor", "constructor", "apply Iff.intro"),
    "left": ("left", "left", "apply Or.inl"),
    "right": ("right", "right", "apply Or.inr"),
    "witness": ("refine ⟨{0}, ?_⟩", "exists {0}", "apply Exists.intro {0}"),
    "pair": ("obtain ⟨{1}, {2}⟩ := {0}", "rcases {0} with ⟨{1}, {2}⟩"),
    "cases": ("rcases {0} with {1} | {2}", "obtain {1} | {2} := {0}"),
    "have": ("have {0} := {1}",),
    "exfalso": ("exfalso", "apply False.elim"),
    "by_cases": ("by_cases {0} : {1}",),
}
SIDES = {"1": "left", "2": "right"}


def term(proof: Proof) -> str | None:
    """The proof as a term; None where it has none that is short to write."""
    move = proof.move
    if move.kind in ("pair", "have", "by_cases"):
        return None
    parts = [term(part) for part in proof.parts]
    if any(part is None for part in parts):
        return None
    texts = [part for part in parts if part is not None]
    wrapped = [wrap(text) for text in texts]
    match move.kind:
        case "fact":
            return move.words[0]
        case "true":
            return "True.intro"
        case "absurd":
            return f"{move.words[0]}.elim"
        case "contradiction":
            return f"absurd {move.words[1]} {move.words[0]}"
        case "refute" | "instance":
            return " ".join(move.words)
        case "project":
            return f"{move.words[0]}.{move.words[1]}"
        case "split" | "directions":
            return f"⟨{texts[0]}, {texts[1]}⟩"
        case "witness":
            return f"⟨{move.words[0]}, {texts[0]}⟩"
        case "intro":
            inner = texts[0].removeprefix("fun ") if texts[0].startswith("fun ") else f"=> {texts[0]}"
            return f"fun {move.words[0]} {inner}"
        case "left" | "right":
            return f"Or.in{move.kind[0]} {wrapped[0]}"
        case "apply":
            return " ".join((*move.words, *wrapped))
        case "cases":
            name, one, two = move.words
            return f"{name}.elim (fun {one} => {texts[0]}) (fun {two} => {texts[1]})"
        case "exfalso":
            return f"False.elim {wrapped[0]}"
    raise ValueError(f"no term is known for the move {move.kind}")


def wrap(text: str) -> str:
    """A term as an argument."""
    return f"({text})" if " " in text and not text.startswith("⟨") else text


def script(proof: Proof, random: Random, folded: float) -> list[str]:
    """A wording of the proof.

    Args:
        proof: the tree.
        random: draws the wording.
        folded: probability that a part which is a term becomes one ``exact``.
    """
    move = proof.move
    if proof.parts and random.random() < folded:
        whole = term(proof)
        if whole is not None and len(whole) <= LONGEST_TERM:
            return [f"exact {whole}"]
    parts = [script(part, random, folded) for part in proof.parts]
    rest = [tactic for part in parts for tactic in part]
    if move.kind == "project":
        place = random.choice((move.words[1], SIDES[move.words[1]]))
        return [f"exact {move.words[0]}.{place}"]
    if move.kind == "intro":
        return introduced(move.words[0], rest, random)
    if move.kind == "apply":
        words = move.words if random.random() < 0.5 else move.words[:1]
        return ["apply " + " ".join(words), *rest]
    if move.kind == "witness" and proof.parts[0].move.kind == "fact" and random.random() < 0.5:
        return [f"exists {move.words[0]}"]
    if move.kind == "split" and len(parts[0]) == 1 and parts[0][0].startswith("exact ") and random.random() < 0.25:
        return [f"refine ⟨{parts[0][0].removeprefix('exact ')}, ?_⟩", *parts[1]]
    if move.kind == "cases" and len(rest) == 2 and random.random() < 0.3:
        name, one, two = move.words
        return [f"cases {name} with | inl {one} => {rest[0]} | inr {two} => {rest[1]}"]
    return [random.choice(WORDINGS[move.kind]).format(*move.words), *rest]


def introduced(name: str, rest: list[str], random: Random) -> list[str]:
    """``intro``, taken together with what follows it where that is possible."""
    if rest[0].startswith("intro ") and random.random() < 0.7:
        return [f"intro {name} {rest[0].removeprefix('intro ')}", *rest[1:]]
    pattern = "obtain ⟨"
    if rest[0].startswith(pattern) and rest[0].endswith(f"⟩ := {name}") and random.random() < 0.4:
        return [f"intro {rest[0].removeprefix('obtain ').removesuffix(f' := {name}')}", *rest[1:]]
    return [f"intro {name}", *rest]


def wordings(proofs: list[Proof], random: Random, *, tries: int, longest: int) -> list[tuple[str, ...]]:
    """Different scripts of these proofs, at most so many tactics long, those of short proofs first."""
    found: dict[tuple[str, ...], None] = {}
    for proof in proofs:
        for folded in (0.0, 1.0, *(0.4 for _ in range(tries))):
            tactics = tuple(script(proof, random, folded))
            if len(tactics) <= longest and max(map(len, tactics)) <= LONGEST_TACTIC:
                found[tactics] = None
    return list(found)


def different(scripts: list[tuple[str, ...]], most: int) -> list[tuple[str, ...]]:
    """At most so many of the scripts, each chosen to share as few tactics as it can with those before it."""
    chosen: list[tuple[str, ...]] = []
    left = list(scripts)
    while left and len(chosen) < most:
        used = {tactic for tactics in chosen for tactic in tactics}
        best = min(left, key=lambda tactics: (sum(tactic in used for tactic in tactics) / len(tactics), len(tactics)))
        chosen.append(best)
        left.remove(best)
    return chosen
