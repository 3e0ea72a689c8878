"""The base class of data sets of judged solutions reads rows into one form and splits them by problem."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from datamodules.common.base import Split
from datamodules.common.row_data import RowDataModule
from datamodules.common.rows import BadRow, Row
from datamodules.files.messages import chat_prompt, conversation
from lightning_gfn.preference_types import JudgedSolution, Preference
from lightning_gfn.prompts.question_template import QUESTION

STEPS, LABELS = "steps", "labels"


class JudgedRows(RowDataModule):
    """Batches of ``list[JudgedSolution]`` in training, validation and test; all rows of a problem in one split.

    Args:
        path: hub name, folder or file of rows.
        val_fraction: share of the problems for validation where there is no validation split.
        test_fraction: share of the problems for testing where there is no test split.
        prompt_template: the prompt, with ``{question}`` where the question (or the row's prompt) stands. Rows whose
            column ``prompt_template`` says that their prompts are made already need ``{question}`` alone.
        settings: further arguments of ``RowDataModule``.
    """

    aliases = {"question": ("question",), "group": ("problem_id",)}
    answer_style = "metamath"
    solution_styles = ()
    separator = "\n"
    """What ends a step."""

    def __init__(
        self,
        path: str,
        *,
        val_fraction: float = 0.05,
        test_fraction: float = 0.05,
        prompt_template: str = "{question}",
        **settings: Any,
    ) -> None:
        if "answer_style" in settings:
            raise ValueError("data.answer_style is not used here: judged solutions are given verdicts, not answers")
        super().__init__(
            path, val_fraction=val_fraction, test_fraction=test_fraction, prompt_template=prompt_template, **settings
        )
        self.row_templates: set[str | None] = set()

    @property
    def row_template(self) -> str | None:
        """The template that the prompts of the rows read so far were made with; None if they do not agree or say."""
        return next(iter(self.row_templates)) if len(self.row_templates) == 1 else None

    @abstractmethod
    def common_form(self, row: Row) -> Mapping[str, Any]:
        """``question`` (and ``problem_id`` if known), ``steps`` and ``labels`` of a row.

        Raises:
            BadRow: it does not have the form of the data set.
        """

    def _rows(self, split: Split) -> Iterator[Row | BadRow]:
        for row in super()._rows(split):
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                yield Row(row.where, row.key, self.common_form(row))
            except BadRow as error:
                yield error

    def keep(self, row: Row) -> bool:
        """Whether anything in the row is labelled."""
        return any(label is not None for label in row.fields[LABELS])

    def problem(self, row: Row, source: Split) -> Any:
        """The judged solution of a row, in the place that other data sets give a problem.

        Raises:
            BadRow: its prompt is made already, and ``prompt_template`` would make it again.
        """
        made_with = row.fields.get("prompt_template")
        if made_with is not None and not isinstance(made_with, str):
            raise BadRow(row.where, "prompt_template", f"expected text, found {made_with!r:.80}")
        if made_with is not None and self.prompt_template != QUESTION:
            raise BadRow(
                row.where,
                "prompt_template",
                f"the prompt was made with {made_with!r} already: set data.prompt_template to {QUESTION!r}",
            )
        self.row_templates.add(made_with)
        return JudgedSolution(
            id=f"{self.id_prefix}/{source}/{row.key}",
            prompt=self.prompt(self._text(row, "question", required=True)),
            steps=tuple(row.fields[STEPS]),
            labels=tuple(row.fields[LABELS]),
        )

    def texts_of(self, stage: str) -> Iterator[tuple[Split, str, str, tuple[str, ...]]]:
        """What a stage reads: split, id, prompt and solutions."""
        for split in self.examined_splits(stage):
            rows: list[Any] = self.problems(split)
            for row in rows:
                pair = isinstance(row, Preference)
                yield split, row.id, row.prompt, (row.chosen, row.rejected) if pair else ("".join(row.steps),)

    def training_texts(self) -> Iterator[str]:
        """Prompt and solution of every training row, for tokenizers trained on the data."""
        rows: list[Any] = self.problems("train")
        for row in rows:
            texts = (row.chosen, row.rejected) if isinstance(row, Preference) else ("".join(row.steps),)
            for text in texts:
                yield row.prompt + text


def text_at(row: Row, field: str) -> str:
    """The text of a column.

    Raises:
        BadRow: it is missing or holds something else than visible text.
    """
    value = row.fields.get(field)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(row.where, field, f"expected text, found {value!r:.80}")
    return value


def prompt_at(row: Row) -> str:
    """The column ``prompt``: a text, or a conversation as a list of messages.

    Raises:
        BadRow: it is missing, or neither.
    """
    value = row.fields.get("prompt")
    return (
        chat_prompt(row, "prompt", conversation(row, "prompt", value))
        if isinstance(value, list)
        else text_at(row, "prompt")
    )


def problem_at(row: Row) -> dict[str, Any]:
    """The columns ``problem_id``, by which rows are split, and ``prompt_template``, where the row has them."""
    return {name: row.fields[name] for name in ("problem_id", "prompt_template") if name in row.fields}


def label_at(row: Row, field: str, value: Any, place: str) -> float | None:
    """A label as a number; None stays None.

    Args:
        row: where it stands.
        field: its column.
        value: what the column holds.
        place: names it in an error.

    Raises:
        BadRow: it is no truth value and no number from 0 to 1.
    """
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise BadRow(row.where, field, f"{place}: expected true, false or a number from 0 to 1, found {value!r:.80}")
    return float(value)
