"""MetaMathQA: GSM8K and MATH training problems, rephrased and answered many times (395,000 rows)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from datamodules.common.row_data import RowDataModule
from datamodules.common.rows import BadRow, Row
from lightning_gfn.answers import extract_answer, reference_answer

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{question}\n\n### Response:"
)


class MetaMath(RowDataModule):
    """MetaMathQA rows, ``{"query", "response", "type", "original_question"}``, split by original question.

    The data set has no test split of its own: give the GSM8K or MATH test file as ``test_path`` (its columns and
    answers are understood), or a ``test_fraction``. Completions are to end in ``The answer is: ANSWER``; a reference
    solution that ends otherwise gets this line.

    Args:
        path: hub name, folder or file of training rows.
        types: keep training rows whose type matches one of these patterns, such as ``GSM_*`` or ``MATH_AnsAug``;
            null for all.
        prompt_template: the prompt, with ``{question}`` where the question stands; by default the one that MetaMath
            models are trained with.
        settings: arguments of ``RowDataModule``.

    Source: Yu et al. 2023, arXiv:2309.12284.
    """

    id_prefix = "metamath"
    aliases = {
        "question": ("query", "question", "problem", "prompt"),
        "solution": ("response", "answer", "solution", "completion"),
        "group": ("original_question",),
    }
    answer_style = "metamath"
    solution_styles = ("metamath", "gsm8k", "math")

    def __init__(
        self,
        path: str = "meta-math/MetaMathQA",
        *,
        types: list[str] | None = None,
        prompt_template: str = ALPACA,
        **settings: Any,
    ) -> None:
        super().__init__(path, prompt_template=prompt_template, **settings)
        self.types = types

    def keep(self, row: Row) -> bool:
        """Whether the type of the row is wanted."""
        if self.types is None:
            return True
        type_ = row.fields.get("type")
        if not isinstance(type_, str):
            raise BadRow(row.where, "type", f"expected text because data.types selects by it, found {type_!r}")
        return any(fnmatchcase(type_, pattern) for pattern in self.types)

    def clean(self, solution: str) -> str:
        """The solution, ending in MetaMath's answer line."""
        if extract_answer(solution, "metamath") is not None:
            return solution
        answer = next(
            (found for style in self.solution_styles if (found := reference_answer(solution, style)) is not None), None
        )
        return solution if answer is None else f"{solution}\nThe answer is: {answer}"
