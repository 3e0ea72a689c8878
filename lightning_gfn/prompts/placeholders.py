"""Templates whose placeholders are filled with texts that may hold braces themselves."""

from __future__ import annotations

from collections.abc import Mapping


def fill(template: str, values: Mapping[str, str]) -> str:
    """A template with its placeholders filled in one pass, so that nothing in a value is taken for a placeholder.

    Args:
        template: holds placeholders such as ``{problem}``; other braces stay.
        values: text by placeholder, braces included.
    """
    pieces, position = [], 0
    while position < len(template):
        found = next((name for name in values if template.startswith(name, position)), None)
        pieces.append(values[found] if found is not None else template[position])
        position += len(found) if found is not None else 1
    return "".join(pieces)
