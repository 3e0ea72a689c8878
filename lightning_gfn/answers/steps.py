"""Solutions in steps: the text up to and with each separator."""

from __future__ import annotations


def split_steps(text: str, separator: str = "\n") -> list[str]:
    """The steps of a solution, each with the separator that ends it; joined they are the text again.

    A piece without visible text is no step of its own: it belongs to the step before it, or, at the start, to the
    first one.

    Args:
        text: a completion.
        separator: what ends a step; the last one need not have it.

    Returns:
        the steps; none if the text has no visible text.

    Raises:
        ValueError: the separator is empty.
    """
    if not separator:
        raise ValueError("the separator of steps is empty: give a text such as '\\n'")
    pieces = text.split(separator)
    ended = [piece + separator for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
    steps: list[str] = []
    lead = ""
    for piece in ended:
        if piece.strip():
            steps.append(lead + piece)
            lead = ""
        elif steps:
            steps[-1] += piece
        else:
            lead += piece
    return steps
