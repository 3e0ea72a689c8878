"""Sentence continuation: one to three sentences, after which a language model writes the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datamodules.common.row_data import RowDataModule
from datamodules.common.rows import Row

SHIPPED = Path(__file__).parents[1] / "continuation_prompts" / "train.json.gz"


class SentenceContinuation(RowDataModule):
    """Prompts without answers: a continuation is judged by how likely it is.

    Without a path these are 1,000 prompts from OpenWebText that come with the suite, as many as the paper used.
    Repeated prompts are left out, and 5% of the others set aside for testing, by a hash of their text, so that every
    run is tested on the same.

    Args:
        path: text file with a prompt a line, or rows as ``RowDataModule`` reads them (file, folder, pattern, hub name)
            with a column ``prompt`` or ``text``; None for the shipped prompts.
        keep_space: keep white space at the end of a prompt. Tokenizers that put the space before a word into its token
            then cannot begin the next sentence as they usually do; the paper's own prompts end in a space.
        prompt_template: the prompt, with ``{question}`` where the sentences stand.
        test_fraction: share of the prompts set aside for testing.
        val_fraction: share of the prompts set aside for validation.
        settings: arguments of ``RowDataModule``.

    Raises:
        FileNotFoundError: the path does not exist.

    Source: Hu et al. 2024, arXiv:2310.04363, section 4.1; prompts of its code, MIT licence.
    """

    id_prefix = "continuation"
    aliases = {
        "question": ("prompt", "text", "question"),
        "solution": ("continuation", "completion", "next_sentence"),
        "id": ("id",),
    }
    answer_style = "last_number"
    solution_styles = ()

    def __init__(
        self,
        path: str | None = None,
        *,
        keep_space: bool = False,
        prompt_template: str = "{question}",
        test_fraction: float = 0.05,
        val_fraction: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(
            path if path is not None else str(SHIPPED),
            prompt_template=prompt_template,
            test_fraction=test_fraction,
            val_fraction=val_fraction,
            **settings,
        )
        self.keep_space = keep_space
        self._seen: set[str] = set()

    def keep(self, row: Row) -> bool:
        """Whether no earlier row has the same prompt, up to white space and case."""
        known = " ".join(self._text(row, "question", required=True).casefold().split())
        is_new = known not in self._seen
        self._seen.add(known)
        return is_new

    def prompt(self, question: str) -> str:
        """The prompt, without white space at the end unless that is to stay; conversations stay as they are."""
        plain = type(question) is str and not self.keep_space
        return super().prompt(question.rstrip() if plain else question)

    def _answer(self, row: Row, solution: str | None) -> None:
        """There is none."""
