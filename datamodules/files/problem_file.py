"""A data set in one's own files, whatever its columns are called."""

from __future__ import annotations

from typing import Any

from datamodules.common.row_data import RowDataModule
from datamodules.common.rows import BadRow, Row
from lightning_gfn.answers import reference_answer


class ProblemFile(RowDataModule):
    """Rows of one's own: a question or messages; a solution, a final answer, both or neither.

    Neither is enough where a reward function judges completions by the row's other columns; nothing counts as correct
    then. A solution without a final answer is a target of SFT all the same.

    Args:
        path: hub name, file, wildcard pattern or folder, as ``RowDataModule`` reads them.
        prompt_template: the prompt, with ``{question}`` where the question stands.
        name: prefix of the problem ids.
        settings: arguments of ``RowDataModule``; ``answer_style`` (``metamath`` if None) also says how solutions write
            the final answer, which is read from them where no column holds it.
    """

    id_prefix = "own"
    aliases = {
        "question": ("question", "problem", "query", "instruction", "prompt"),
        "solution": ("solution", "response", "completion", "output"),
        "answer": ("answer", "final_answer", "ground_truth"),
        "id": ("id", "unique_id"),
    }
    answer_style = "metamath"
    solution_styles = ()

    def __init__(
        self,
        path: str,
        *,
        prompt_template: str = "{question}\n",
        name: str = "own",
        **settings: Any,
    ) -> None:
        super().__init__(path, prompt_template=prompt_template, **settings)
        self.id_prefix = name  # type: ignore[misc]

    def _answer(self, row: Row, solution: str | None) -> str | None:
        """The final answer: its column, else that of the solution, else None."""
        answer = self._text(row, "answer")
        if answer is not None or solution is None:
            return answer
        try:
            return reference_answer(solution, self.answer_style)
        except ValueError as error:
            raise BadRow(row.where, self._column(row, "solution"), str(error)) from error
