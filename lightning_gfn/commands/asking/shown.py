"""Texts of models as a terminal may show them."""

from __future__ import annotations


def printable(text: str) -> str:
    """A line without characters that would steer a terminal, or that no comment of YAML may hold."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def indented(text: str, margin: str) -> list[str]:
    """The lines of a text, printable, each behind a margin; at least one."""
    return [margin + printable(line) for line in text.split("\n")]


def counted(number: int, noun: str) -> str:
    """``1 sample``, ``2 samples``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
