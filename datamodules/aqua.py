"""AQuA-RAT: algebra questions with five options and a worked rationale (97,467 for training, 254 each to check)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from datamodules.common.base import Split
from datamodules.common.row_data import RowDataModule
from datamodules.common.rows import BadRow, Row
from lightning_gfn.answers import extract_answer
from lightning_gfn.types import Problem

OPTION = re.compile(r"\s*\(?([A-E])\s*\)\s*(.*?)\s*", re.DOTALL)


class Aqua(RowDataModule):
    """AQuA-RAT rows, ``{"question", "options", "rationale", "correct"}``; the prompt shows the options.

    The reference answer is ``LETTER) TEXT`` of the right option. Completions are to end in ``The answer is: ANSWER``,
    and the letter, the text of the option or both count as right (``answers.is_equivalent``). A rationale that ends
    otherwise gets this line.

    Args:
        path: hub name, folder with train, dev and test files, or one file of training rows.
        prompt_template: the prompt, with ``{question}`` where question and options stand.
        hub_config: configuration of the hub data set.
        settings: arguments of ``RowDataModule``.

    Source: Ling et al. 2017, arXiv:1705.04146.
    """

    id_prefix = "aqua"
    aliases = {
        "question": ("question",),
        "solution": ("rationale", "solution"),
        "answer": ("correct", "answer"),
    }
    answer_style = "metamath"
    solution_styles = ()

    def __init__(
        self,
        path: str = "deepmind/aqua_rat",
        *,
        prompt_template: str = "Question: {question}\nAnswer:\n",
        hub_config: str | None = "raw",
        **settings: Any,
    ) -> None:
        super().__init__(path, prompt_template=prompt_template, hub_config=hub_config, **settings)

    def problem(self, row: Row, source: Split) -> Problem:
        """The problem of a row.

        Raises:
            BadRow: question or options are missing, or the letter is not among the options.
        """
        options = self._options(row)
        letter = self._text(row, "answer", required=True).strip().upper()
        if letter not in options:
            known = ", ".join(options)
            raise BadRow(row.where, self._column(row, "answer"), f"{letter!r} is none of the options {known}")
        listed = " ".join(f"{name}) {text}" for name, text in options.items())
        answer = f"{letter}) {options[letter]}"
        written = {
            "question": f"{self._text(row, 'question', required=True)}\nOptions: {listed}",
            "answer": answer,
        }
        solution = self._text(row, "solution")
        if solution is not None:
            has_line = extract_answer(solution, "metamath") is not None
            written["solution"] = solution if has_line else f"{solution}\nThe answer is: {answer}"
        fields = dict(row.fields)
        for field, text in written.items():
            fields[str(self._column(row, field))] = text
        problem = super().problem(replace(row, fields=fields), source)
        return replace(problem, metadata={name: row.fields[name] for name in problem.metadata})

    def _options(self, row: Row) -> dict[str, str]:
        """Texts of the options by letter."""
        values = row.fields.get("options")
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise BadRow(row.where, "options", f"expected a list of texts such as 'A)21', found {values!r:.80}")
        options = {}
        for value in values:
            found = OPTION.fullmatch(value)
            if found is None or not found[2]:
                raise BadRow(row.where, "options", f"expected a text such as 'A)21', found {value!r:.80}")
            options[found[1]] = found[2]
        return options
