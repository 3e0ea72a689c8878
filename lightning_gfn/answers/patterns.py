"""Answer patterns of one's own: regular expressions with one group, checked when they are set and timed when used."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

GROUP = "answer"
PROBE_SECONDS = 0.2
"""A pattern that needs longer on one of the probes below is refused."""
MATCH_SECONDS = 1.0
"""A text on which a pattern needs longer has no answer."""
_PROBE_LENGTH = 3000
_PROBES = ("a", "1", " ", "\n", "1 ", "a ", "1.", "*", "A: ", "The answer is ", "(1)", "-1", "1,", "\\boxed{")


def is_pattern(style: str) -> bool:
    """Whether a style is a regular expression rather than a name: it has a group, so a bracket."""
    return "(" in style


@lru_cache(maxsize=64)
def compiled(pattern: str) -> Any:
    """A checked pattern.

    Args:
        pattern: a regular expression whose one group, or whose group named ``answer``, is the answer.

    Returns:
        The compiled expression.

    Raises:
        ValueError: it does not compile, has no group or several, or takes too long on a text of 3,000 characters.
    """
    import regex

    try:
        expression = regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"answer_style: {pattern!r} is no regular expression: {error}") from error
    if GROUP not in expression.groupindex and expression.groups != 1:
        raise ValueError(
            f"answer_style: {pattern!r} has {expression.groups} groups; give it exactly one, the answer, or name it "
            f"(?P<{GROUP}>…) and write the others as (?:…)"
        )
    for probe in (*_PROBES, pattern):
        for end in ("", "\n!"):
            text = (probe * _PROBE_LENGTH)[:_PROBE_LENGTH] + end
            try:
                for _ in expression.finditer(text, timeout=PROBE_SECONDS):
                    pass
            except TimeoutError:
                raise ValueError(
                    f"answer_style: {pattern!r} takes more than {PROBE_SECONDS} s on {_PROBE_LENGTH} characters such "
                    f"as {text[:12]!r}: it backtracks. Avoid quantifiers within or next to each other that match the "
                    "same characters, such as (\\w+)* or .*.*"
                ) from None
    return expression


class Found(NamedTuple):
    """An answer that a pattern finds, and where the match, the answer and its end stand in the text."""

    answer: str
    match: int
    start: int
    end: int


def matches(pattern: str, text: str) -> Iterator[Found]:
    """The answers that a pattern finds in a text, in order; none if it takes too long on it (a warning says so, once).

    Args:
        pattern: a regular expression, see ``compiled``.
        text: a completion.
    """
    expression = compiled(pattern)
    group: str | int = GROUP if GROUP in expression.groupindex else 1
    try:
        found = [
            Found(match.group(group), match.start(), *match.span(group))
            for match in expression.finditer(text, timeout=MATCH_SECONDS)
        ]
    except TimeoutError:
        _warn_of_time(pattern)
        return
    yield from (one for one in found if one.answer is not None)


@lru_cache(maxsize=64)
def _warn_of_time(pattern: str) -> None:
    warnings.warn(
        f"answer_style: {pattern!r} took more than {MATCH_SECONDS} s on a completion, which counts as one without an "
        "answer; make the pattern stricter",
        RuntimeWarning,
        stacklevel=3,
    )
