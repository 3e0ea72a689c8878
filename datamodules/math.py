"""MATH: competition problems with LaTeX solutions (7,500 for training, 5,000 for testing)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from datamodules.common.base import Split
from datamodules.common.row_data import RowDataModule
from datamodules.common.rows import Row
from lightning_gfn.types import Problem


class Math(RowDataModule):
    """MATH rows, ``{"problem", "solution", "level", "type"}``, as JSON lines or one file a problem.

    The answer is the last ``\\boxed{}`` of the solution; rows without a solution may give it in a column ``answer``.
    Re-packed copies that say ``subject`` for ``type`` or add ``unique_id`` are understood.

    Args:
        path: hub name, folder with train and test (files, or a folder a subject), or one file of training rows.
        prompt_template: the prompt, with ``{question}`` where the problem stands.
        settings: arguments of ``RowDataModule``.

    Source: Hendrycks et al. 2021, arXiv:2103.03874.
    """

    id_prefix = "math"
    aliases = {
        "question": ("problem", "question", "instruction", "prompt"),
        "solution": ("solution", "output", "completion", "response"),
        "answer": ("answer",),
        "id": ("unique_id",),
    }
    answer_style = "math"
    solution_styles = ("math",)

    def __init__(
        self, path: str, *, prompt_template: str = "Problem: {question}\nSolution:\n", **settings: Any
    ) -> None:
        super().__init__(path, prompt_template=prompt_template, **settings)

    def problem(self, row: Row, source: Split) -> Problem:
        """The problem of a row; its subject is the metadatum ``type`` whatever the column is called."""
        problem = super().problem(row, source)
        if "type" in problem.metadata or "subject" not in problem.metadata:
            return problem
        return replace(problem, metadata={**problem.metadata, "type": problem.metadata["subject"]})
