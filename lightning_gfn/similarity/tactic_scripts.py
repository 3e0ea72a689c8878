"""Tactic scripts in a normal form, so that equal proofs count once."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

Script = tuple[str, ...]

_NAME = r"[^\W\d][\w'!?₀-₉]*"
_WORD = re.compile(rf"(?<![\w'.!?]){_NAME}(?:\.{_NAME})*")
_BINDERS = re.compile(
    r"(?<![\w'.])(?:intros?|rintro|ext|funext|next|rename_i|fun|λ|with|obtain|have|let|set|generalize|by_cases)"
    r"(?![\w'.])"
    r"(?P<names>[^;\n=]*)"
)
_ALTERNATIVE = re.compile(rf"(?:(?<![\w'.])case|\|)\s+{_NAME}\s+(?P<names>[^=;|\n]*)=>")
_PATTERN_WORDS = frozenset({"rfl", "this", "with", "at", "using"})
_BINDER = re.compile(r"[({\[⦃]\s*(?P<names>[^\W\d][^:(){}\[\]]*?)\s*:")
_TAG = re.compile(rf"(?:(?<![\w'.])case|\|)\s+@?{_NAME}")
_NOT_NAMES = re.compile(
    r"Prop|Sort|Type|λ|all_goals|any_goals|apply|assumption|at|by|by_cases|by_contra!?|calc|case|cases'?|change|congr"
    r"|constructor|contradiction|conv|decide|do|else|erw|exact\??|exacts|exfalso|exists|ext|first|from|fun|funext"
    r"|generalize|have'?|if|in|induction'?|injection|intros?|left|let|linarith|match|next|nlinarith|nofun|nomatch"
    r"|norm_cast|norm_num|obtain|omega|on_goal|only|pick_goal|push_cast|push_neg|rcases|refine'?|rename_i|repeat'?"
    r"|replace|revert|rewrite|rfl|right|ring|ring_nf|rintro|rwa?|set|show|simp\??|simp_all|simpa|skip|solve|specialize"
    r"|split|subst|suffices|swap|symm|tauto|then|this|to|trivial|try|unfold|unfold_let|use|using|with|_.*"
)
"""Tactics, key words and sorts of Lean."""
_COMMENT = re.compile(r"--[^\n]*|/-.*?-/", re.DOTALL)


def normal_script(tactics: Iterable[str], *, rename: bool = False) -> Script:
    """A script without differences that mean nothing.

    Comments go, white space becomes one blank, empty lines and a final semicolon go, and a tactic of several lines or
    joined by semicolons becomes several. With ``rename`` the names that tactics introduce (by ``intro``, ``rintro``,
    ``obtain``, ``cases … with``, ``have``, ``by_cases``, ``fun``, ``case`` and the like) become x1, x2, … in the order
    in which they are introduced. That is a reading of the text, not of Lean's: names that Lean itself chooses and
    names shadowed in a pattern over several lines are not followed.

    Args:
        tactics: of one proof, in order.
        rename: make scripts equal that differ in chosen names alone.
    """
    text = "\n".join(_COMMENT.sub(" ", tactic) for tactic in tactics)
    pieces = re.split(r"\n|(?<!<);(?!>)", text)
    lines = [" ".join(piece.split()) for piece in pieces]
    kept = [line for line in lines if line]
    return tuple(_renamed(kept)) if rename else tuple(kept)


def head_words(tactics: Iterable[str]) -> list[str]:
    """The first word of every tactic, for instance ``simp`` of ``simp [h]``; of ``· exact h`` it is ``exact``."""
    heads = []
    for line in normal_script(tactics):
        found = _WORD.search(line)
        heads.append(found.group() if found is not None else line.split()[0])
    return heads


def lemma_names(tactics: Iterable[str], statement: str = "") -> frozenset[str]:
    """The names that a script takes from the library: those of lemmas, constructors and definitions.

    That is a reading of the text, not of Lean's: names that the script introduces, names that stand before a colon in
    the statement's brackets, fields of both (``h.left``), tactics, key words, sorts and tags of cases are left out;
    what is left is taken for a name of the library.

    Args:
        tactics: of one proof, in order.
        statement: of the theorem, whose binders name hypotheses and variables.
    """
    lines = normal_script(tactics)
    local = {name for binder in _BINDER.finditer(statement) for name in binder.group("names").split()}
    local |= {name for line in lines for name in _introduced(line)}
    found = set()
    for line in lines:
        plain = _TAG.sub(" ", line)
        found |= {word.group() for word in _WORD.finditer(plain)} - set(head_words([plain]))
    heads = {name: name.partition(".")[0] for name in found}
    return frozenset(name for name in found if heads[name] not in local and not _NOT_NAMES.fullmatch(heads[name]))


def entropy(items: Iterable[str]) -> float:
    """Entropy of the frequencies of items, nats; 0 for none."""
    counts = Counter(items)
    total = sum(counts.values())
    return -math.fsum(n / total * math.log(n / total) for n in counts.values()) if total else 0.0


def distinct_scripts(scripts: Iterable[Sequence[str]], *, rename: bool = False) -> list[int]:
    """Indices of the scripts that are the first in their normal form."""
    seen: set[Script] = set()
    first = []
    for index, script in enumerate(scripts):
        normal = normal_script(script, rename=rename)
        if normal not in seen:
            seen.add(normal)
            first.append(index)
    return first


def _renamed(lines: Sequence[str]) -> list[str]:
    names: dict[str, str] = {}
    counter = 0
    done = []
    for line in lines:
        introduced = _introduced(line)
        new = {name: f"x{counter + n}" for n, name in enumerate(introduced, start=1)}
        counter += len(introduced)
        done.append(_WORD.sub(lambda found: _substituted(found, names, new, introduced), line))  # noqa: B023
        names |= new
    return done


def _introduced(line: str) -> dict[str, int]:
    """Names that a line introduces, in order, and where each stands first."""
    found: list[tuple[int, str]] = []
    for pattern in (_BINDERS, _ALTERNATIVE):
        for binder in pattern.finditer(line):
            keyword, text = binder.group().split()[0], binder.group("names")
            if keyword == "with" and text.lstrip().startswith("|"):
                continue  # | constructor names => …
            if keyword in ("have", "let", "set", "by_cases", "obtain", "generalize", "fun", "λ"):
                text = re.split(r":=|=>|:", text)[0] if keyword != "by_cases" else _before_colon(text)
            for word in _WORD.finditer(text):
                if word.group() not in _PATTERN_WORDS and "." not in word.group():
                    found.append((binder.start("names") + word.start(), word.group()))
    places: dict[str, int] = {}
    for where, name in sorted(found):
        places.setdefault(name, where)
    return places


def _before_colon(text: str) -> str:
    """The name of ``by_cases h : p``; nothing of ``by_cases p``, which names nothing."""
    name, colon, _ = text.partition(":")
    return name if colon else ""


def _substituted(
    found: re.Match[str], names: Mapping[str, str], new: Mapping[str, str], introduced: Mapping[str, int]
) -> str:
    """A word under the names in force where it stands; ``h.left`` with h renamed keeps its field."""
    head, dot, rest = found.group().partition(".")
    is_new = head in introduced and found.start() >= introduced[head]
    return (new[head] if is_new else names.get(head, head)) + dot + rest
