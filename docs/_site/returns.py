"""Extension of griffe: what follows ``Returns:`` in our docstrings is a sentence, which may hold a colon."""

from __future__ import annotations

import re
from typing import Any

import griffe

RETURNS = re.compile(r"^( *)Returns:\n( +)(?=\S)", re.MULTILINE)


class SentenceReturns(griffe.Extension):
    """Puts the return annotation before the sentence, since griffe takes all before the first colon for a type."""

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        if func.docstring is not None:
            kind = str(func.returns) if func.returns is not None else "object"
            func.docstring.value = RETURNS.sub(rf"\1Returns:\n\2{kind}: ", func.docstring.value, count=1)
