r"""One notation for answers: Markdown removed, Unicode and layout commands rewritten to short LaTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

_SYMBOLS = {
    **dict.fromkeys("−–—‐‑‒﹣－", "-"),
    **dict.fromkeys("⁄∕", "/"),
    **dict.fromkeys("·⋅∙•", "\\cdot "),
    **dict.fromkeys("°º˚", "^{\\circ}"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
    "×": "\\times ", "✕": "\\times ", "÷": "\\div ", "∞": "\\infty ", "π": "\\pi ", "≤": "\\le ", "⩽": "\\le ",
    "≥": "\\ge ", "⩾": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "≅": "\\approx ", "∪": "\\cup ", "∩": "\\cap ",
    "∈": "\\in ", "∅": "\\emptyset ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "±": "\\pm ",
    "θ": "\\theta ", "α": "\\alpha ", "β": "\\beta ", "λ": "\\lambda ", "φ": "\\phi ", "∖": "\\setminus ",
    "→": "\\to ", "…": "\\ldots ", "’": "'", "℃": "^{\\circ}C", "℉": "^{\\circ}F", "〈": "(", "〉": ")",
}  # fmt: skip
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPT = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED = re.compile("[₀-₉]+")
_ROOT = re.compile(r"([√∛])\s*(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9]+(?:\.[0-9]+)?|\\pi|[A-Za-z]))")
_WORDS = r"\\(?:text|mbox|mathrm|textbf|mathbf|textit|mathit|textrm|textsf|operatorname|boldsymbol|bm|emph|underline)"
_TEXT = re.compile(_WORDS + r"\s*\{([^{}]*)\}")
_BOX = re.compile(r"^\\[fd]?(?:boxed|fbox)\s*\{(.*)\}$", re.DOTALL)
Replacement = str | Callable[[re.Match[str]], str]


def _compiled(rules: Sequence[tuple[str, Replacement]]) -> tuple[tuple[re.Pattern[str], Replacement], ...]:
    return tuple((re.compile(pattern, re.DOTALL), replacement) for pattern, replacement in rules)


_PAIRS = _compiled((
    (r"```(?:[a-z]*\n)?|`", ""),
    (r"(?<![\w)\]}])(\*\*|__|~~)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2"),
    (r"^\s*(?:#{1,6}|>)\s+", ""),
    (r"^\s*(?:\*\*|__)\s*|\s*(?<!\*)(?:\*\*|__)\s*$", ""),
    (r"^\s*([*_])(?=[^\s*_])(.+?)(?<=[^\s*_])\1\s*$", r"\2"),
))  # fmt: skip
_LAYOUT = _compiled((
    (r"(?<!\\)\\[()\[\]]", ""),
    (r"(?<!\\)\\!|(?<=[0-9])\\,(?=[0-9]{3})", ""),
    (r"(?<!\\)\\[,;: ]|~", " "),
    (r"\\(?:quad|qquad|hspace\{[^{}]*\}|displaystyle|textstyle|limits|newline|hfill)(?![A-Za-z])", " "),
    (r"\{,\}", ","),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])\.?", ""),
    (r"\\(?:lvert|rvert|vert)(?![A-Za-z])", "|"),
    (r"\\langle(?![A-Za-z])", "("), (r"\\rangle(?![A-Za-z])", ")"),
    (r"(?<=[0-9])\s*[xX]\s*(?=[0-9])", r"\\times "),
    (r"\\(?:lbrace|rbrace)(?![A-Za-z])", lambda m: "\\{" if "l" in m[0] else "\\}"),
    (r"\\(leq?|geq?)(?:slant|q)?(?![A-Za-z])", lambda m: m[0][:3]),
    (r"\\neq(?![A-Za-z])", r"\\ne"),
    (r"\\(?:lt|gt)(?![A-Za-z])", lambda m: "<" if "l" in m[0] else ">"),
    (r"<=|=<", r"\\le "), (r">=", r"\\ge "), (r"!=", r"\\ne "),
    (r"\\(?:thickapprox|simeq|approxeq)(?![A-Za-z])|(?<![\\A-Za-z])~=", r"\\approx "),
    (r"\\varnothing(?![A-Za-z])", r"\\emptyset "),
    (r"\\(?:dots|cdots|dotsc)(?![A-Za-z])", r"\\ldots "),
    (r"\\(?:colon)(?![A-Za-z])", ":"),
    (r"\\%", "%"), (r"\\&", "&"), (r"\\#", "#"), (r"\\pounds(?![A-Za-z])", "£"), (r"\\euro(?![A-Za-z])", "€"),
    (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z])|\{\s*o\s*\})|\\degree(?![A-Za-z])", r"^{\\circ}"),
    (r"\*\*(?=\s*[0-9A-Za-z({+-])", "^"),
    (r"(?<!\\log)([\^_])\s*(-?[0-9]+)(?![0-9]*\})", r"\1{\2}"),
    (r"([\^_])\s*\(\s*(-?[0-9]+(?:/[0-9]+)?)\s*\)", r"\1{\2}"),
    (r"\\?(?<![A-Za-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"(?<![\\A-Za-z])sqrt(?=\s*[{0-9])", r"\\sqrt"),
    (r"\\sqrt\s*([0-9A-Za-z])", r"\\sqrt{\1}"),
    (r"(?<![\\A-Za-z])(pi)(?![A-Za-z])", r"\\pi "),
    (r"(?<![\\A-Za-z])(?:infinity|infty|inf)(?![A-Za-z])", r"\\infty "),
    (r"\\frac\s*([0-9A-Za-z])\s*([0-9A-Za-z])", r"\\frac{\1}{\2}"),
    (r"\\frac\s*([0-9A-Za-z])\s*\{", r"\\frac{\1}{"),
    (r"(\\frac\s*\{[^{}]*\})\s*([0-9A-Za-z])", r"\1{\2}"),
    (r"(?<=\\frac)\s+(?=\{)|(?<=\})\s+(?=\{)", ""),
    (r"(?<=[{(\[])\s+|\s+(?=[)\]},])", ""),
    (r"(?<=[0-9])\s*\\\s*$|\\\\\s*$", ""),
    (r"\s+", " "),
))  # fmt: skip


def tidy(text: str) -> str:
    r"""Rewrite an answer to one notation without changing what it says.

    Removed: Markdown, boxes, math delimiters (``$…$``, ``\(…\)``, ``\[…\]``), ``\text`` and its like (what they hold
    stays), spacing and sizing commands, a final full stop. Rewritten: other digits to ASCII, Unicode signs, roots,
    powers and fractions to LaTeX, ``**`` and powers without braces to ``^{…}``, synonyms of commands to one of them.
    Spaces that separate words and numbers stay.

    Args:
        text: an answer, LaTeX, Markdown or plain.

    Returns:
        The rewritten text; rewriting it again changes nothing.
    """
    for _ in range(4):
        before, text = text, _tidy_once(text)
        if text == before:
            break
    return text


def is_one_pair(text: str) -> bool:
    """The first character is a bracket that the last one closes."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return place == len(text) - 1
    return False


def _tidy_once(text: str) -> str:
    text = text.strip()
    for pattern, replacement in _PAIRS:
        text = pattern.sub(replacement, text)
    text = _layout(_undollar(_plain_symbols(text).strip()))
    boxed = _BOX.fullmatch(text)
    if boxed is not None and is_one_pair("{" + boxed[1] + "}"):
        text = boxed[1]
    return re.sub(r"(?<![.\\])\s*\.$", "", text.strip()).strip()


def _plain_symbols(text: str) -> str:
    """Unicode to ASCII and LaTeX commands."""
    if text.isascii():
        return text
    text = _ROOT.sub(lambda m: ("\\sqrt{" if m[1] == "√" else "\\sqrt[3]{") + (m[2] or m[3] or m[4] or "") + "}", text)
    text = _RAISED.sub(lambda run: "^{" + run.group().translate(_SUPERSCRIPT) + "}", text)
    text = _LOWERED.sub(lambda run: "_{" + run.group().translate(_SUBSCRIPT) + "}", text)
    return unicodedata.normalize("NFKC", "".join(map(_ascii, text, "\0" + text)))


def _ascii(character: str, before: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", character)
    if "⁄" in plain and len(plain) > 1:
        return (" " if before.isdigit() else "") + plain.replace("⁄", "/")
    return plain


def _undollar(text: str) -> str:
    r"""Without the dollars that delimit formulas: the unescaped ones, if their number is even; ``\$`` becomes ``$``."""
    single = re.sub(r"(?<!\\)\$\$", "$", text)
    bare = re.findall(r"(?<!\\)\$", single)
    if len(bare) % 2 == 0:
        single = re.sub(r"(?<!\\)\$", "", single)
    return single.replace("\\$", "$")


def _layout(text: str) -> str:
    text = _TEXT.sub(lambda words: words[1] if len(words[1].strip()) < 2 else f" {words[1]} ", text)
    for pattern, replacement in _LAYOUT:
        text = pattern.sub(replacement, text)
    return text
