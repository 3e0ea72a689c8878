"""Rules on the text of tactics: which of them count as the policy's own work, and what none may say.

A help and a policy, not a guard: no backend rests its verdict on them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field


def _words(text: str) -> list[str]:
    return text.split()


AUTOMATION = _words(
    "abel ac_rfl aesop apply? bv_decide bv_omega cc decide exact? field_simp fin_cases grind group hint "
    "interval_cases linarith nlinarith norm_num omega polyrith positivity ring ring_nf rw? simp simp_all "
    "simp_all_arith simp_arith simpa solve_by_elim tauto try?"
)
FORBIDDEN = frozenset(
    _words(
        "admit attribute axiom by_elab dbg_trace elab elab_rules implemented_by include_str initialize instance macro "
        "macro_rules native_decide notation open run_elab run_meta run_tac set_option sleep sorry sorryAx stop syntax "
        "unsafe"
    )
)
_LETTER = r"[^\W\d]|[₀-₉]"
_PART = rf"(?:(?:{_LETTER})(?:\w|[₀-₉'!?])*|«[^»\n]*»)"
_TOKEN = re.compile(
    rf"(?P<string>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\\n]|\\.)')|(?P<word>{_PART}(?:\.{_PART})*)|(?P<number>\d[\d.]*)"
    r"|(?P<symbol><;>|=>|:=|#\w+|.)",
    re.DOTALL,
)
_OPENING, _CLOSING = "([{⟨⦃", ")]}⟩⦄"
_PREFIXES = frozenset(
    _words("all_goals any_goals checkpoint fail_if_success first focus iterate repeat repeat' repeat1' solve try")
)
_ARROWS = frozenset(_words("case case' cases conv conv_lhs conv_rhs conv' induction match next on_goal rcases"))


@dataclass
class _Level:
    """Inside one pair of brackets: the tactics that have begun there, and how many ``fun`` wait for their arrow."""

    heads: set[str] = field(default_factory=set)
    last: str = ""
    functions: int = 0
    columns: list[int] = field(default_factory=list)


def without_comments(text: str) -> str:
    """The text with comments, which nest, turned into spaces."""
    kept, depth, at = [], 0, 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|/-|-/|--[^\n]*', text, re.DOTALL):
        sign = match.group()
        kept.append(_blank(text[at : match.start()]) if depth else text[at : match.start()])
        at = match.end()
        if sign == "/-":
            depth += 1
        if sign == "-/" and depth:
            depth -= 1
            kept.append("  ")
        else:
            kept.append(_blank(sign) if depth or sign.startswith("--") else sign)
    kept.append(_blank(text[at:]) if depth else text[at:])
    return "".join(kept)


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def tokens(text: str) -> Iterator[tuple[str, str, int, bool]]:
    """Kind, text, column and whether it is the first of its line, of every token."""
    plain, line_start, first = without_comments(text), 0, True
    for match in _TOKEN.finditer(plain):
        token = match.group()
        if token == "\n":
            line_start, first = match.end(), True
        elif not token.isspace():
            yield match.lastgroup or "symbol", token, match.start() - line_start, first
            first = False


def tactic_words(text: str) -> tuple[list[str], list[str]]:
    """The words that stand where a tactic begins, and those that only may do so.

    A tactic begins the text, a line that is not the continuation of a term, and what follows ``;``, ``<;>``, ``by``,
    a bullet, a parenthesis around tactics, a combinator such as ``try`` and the arrow of a case. A word that begins a
    continued line may be a tactic or an argument.
    """
    heads: list[str] = []
    possible: list[str] = []
    levels = [_Level()]
    expecting = opening = True
    for kind, token, column, first in tokens(text):
        level = levels[-1]
        if first and not expecting:
            expecting = any(column == known for other in levels for known in other.columns)
            if not expecting and kind == "word":
                possible.append(token)
        if expecting and opening:
            level.columns.append(column)
        opening = False
        if kind == "word":
            was_head, expecting = expecting, False
            if was_head:
                heads.append(token)
                level.last = token
                level.heads.add(token)
                expecting = token in _PREFIXES
            if token == "by" or (token in ("then", "else") and "if" in level.heads):
                expecting = opening = True
            level.functions += token in ("fun", "λ")
        elif token in _OPENING and len(token) == 1:
            inner = expecting and token in "({"
            levels.append(_Level())
            expecting = opening = inner
        elif token in _CLOSING and len(token) == 1:
            if len(levels) > 1:
                levels.pop()
            expecting = False
        elif token in (";", "<;>"):
            expecting = True
        elif token == "=>":
            expecting = opening = level.functions == 0 and bool(level.heads & _ARROWS)
            level.functions -= level.functions > 0
        elif token == "|":
            expecting = bool(level.heads & {"first", "solve"})
        elif token in ("·", ".") and expecting:
            opening = True
        elif not (kind == "number" and expecting and level.last == "iterate"):
            level.functions += token == "λ"
            expecting = False
    return heads, possible


@dataclass(frozen=True)
class TacticRules:
    """Tactic rules decide which tactics may be tried.

    Args:
        allowed: words a tactic may begin with; all that are not barred if None.
        barred: words a tactic may not begin with, also with ``?`` or ``!`` behind them; automation by default, since
            one tactic would close most theorems.
        max_chars: a longer text is refused.

    Raises:
        ValueError: ``max_chars`` is not positive, or a word is both allowed and barred.
    """

    allowed: list[str] | None = None
    barred: list[str] = field(default_factory=lambda: list(AUTOMATION))
    max_chars: int = 200

    def __post_init__(self) -> None:
        if self.max_chars < 1:
            raise ValueError(f"rules.max_chars={self.max_chars} must be at least 1")
        both = sorted(set(self.allowed or ()) & set(self.barred))
        if both:
            raise ValueError(f"rules: {', '.join(both)} both in allowed and in barred; take them out of one list")

    def refusal(self, tactic: str) -> str | None:
        """Why a tactic is refused; None if it may be tried."""
        if len(tactic) > self.max_chars:
            return f"the tactic has {len(tactic)} characters, more than {self.max_chars}"
        for kind, token, _, _ in tokens(tactic):
            if kind == "word" and token in FORBIDDEN or token.startswith("#") and len(token) > 1:
                return f"'{token}' is not allowed in a proof"
        heads, possible = tactic_words(tactic)
        if not heads:
            return "no tactic in the text"
        for word in heads + possible:
            if word in self.barred or word.rstrip("?!") in self.barred:
                return f"the tactic '{word}' is barred"
        if self.allowed is not None:
            free = {*self.allowed, *_PREFIXES, "case", "case'", "next"}
            for word in heads:
                if word not in free:
                    return f"the tactic '{word}' is not among the allowed ones"
        return None
