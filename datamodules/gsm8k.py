"""GSM8K: grade-school word problems with worked solutions (7,473 for training, 1,319 for testing)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from datamodules.common.base import Split
from datamodules.common.row_data import RowDataModule
from datamodules.common.rows import Row
from lightning_gfn.types import Problem

ANNOTATION = re.compile(r"<<[^<>]*>>")


class GSM8K(RowDataModule):
    """GSM8K rows, ``{"question", "answer"}``, the answer after ``####``; the test split is the published one, whole.

    ``metadata["steps"]`` counts the lines of the reference solution before its answer, by which reports stratify.

    Args:
        path: hub name, folder with train.jsonl and test.jsonl, or one file of training rows.
        strip_calculator: remove the calculator annotations ``<<48/2=24>>`` from the solutions.
        prompt_template: the prompt, with ``{question}`` where the question stands.
        hub_config: configuration of the hub data set.
        settings: arguments of ``RowDataModule``.

    Source: Cobbe et al. 2021, arXiv:2110.14168.
    """

    id_prefix = "gsm8k"
    aliases = {
        "question": ("question", "query", "prompt"),
        "solution": ("answer", "response", "completion", "solution"),
    }
    answer_style = "gsm8k"
    solution_styles = ("gsm8k",)

    def __init__(
        self,
        path: str = "openai/gsm8k",
        *,
        strip_calculator: bool = True,
        prompt_template: str = "Question: {question}\nAnswer:\n",
        hub_config: str | None = "main",
        **settings: Any,
    ) -> None:
        super().__init__(path, prompt_template=prompt_template, hub_config=hub_config, **settings)
        self.strip_calculator = strip_calculator

    def problem(self, row: Row, source: Split) -> Problem:
        """The problem of a row, with the number of steps of its reference solution."""
        problem = super().problem(row, source)
        if not problem.solutions:
            return problem
        lines = [line for line in problem.solutions[0].splitlines() if line.strip()]
        steps = sum(not line.lstrip().startswith("####") for line in lines)
        return replace(problem, metadata={"steps": steps, **problem.metadata})

    def clean(self, solution: str) -> str:
        """The solution without calculator annotations, if so configured."""
        return ANNOTATION.sub("", solution) if self.strip_calculator else solution
