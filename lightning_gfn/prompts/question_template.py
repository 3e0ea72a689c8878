"""The prompt of a question, as data sets and reward networks name it."""

from __future__ import annotations

QUESTION = "{question}"


def known_template(data: object) -> str | None:
    """The template that prompts of a datamodule were made with, where that is known.

    Not known where rows hold whole prompts, that is where the template is ``{question}`` alone, unless the rows name
    theirs (``row_template``); and none where problems are theorems.

    Args:
        data: a datamodule, or None.
    """
    if getattr(data, "proof_prompt", None) is not None:
        return None
    template = getattr(data, "prompt_template", None)
    return getattr(data, "row_template", None) if template == QUESTION else template
