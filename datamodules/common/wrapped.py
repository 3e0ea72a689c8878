"""A data set of problems inside another one, which trains on something else and evaluates on the same problems."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from datamodules.common.base import ProblemDataModule, Split
from datamodules.common.rows import BadRow, Row, read_rows
from datamodules.files.locations import require_local
from lightning_gfn.prompts.chat import prompt_identity, read_prompt
from lightning_gfn.types import Problem


class WrappedProblems(ProblemDataModule):
    """The problems of another data set; a subclass replaces what is trained on.

    Args:
        problems: the data set; its validation and test problems stay as they are.
        batch_size: examples a training batch, counted over all devices; None takes that of ``problems``, like the rest.
        eval_batch_size: problems a batch of each device in validation, test and prediction.
        seed: key of the training order.
        drop_last: leave out the smaller last batch of an epoch.
        predict_split: the split that ``predict`` samples.
    """

    def __init__(
        self,
        problems: ProblemDataModule,
        *,
        batch_size: int | None = None,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        drop_last: bool | None = None,
        predict_split: Split | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size if batch_size is not None else problems.batch_size,
            eval_batch_size=eval_batch_size if eval_batch_size is not None else problems.eval_batch_size,
            seed=seed if seed is not None else problems.seed,
            drop_last=drop_last if drop_last is not None else problems.drop_last,
            predict_split=predict_split if predict_split is not None else problems.predict_split,
        )
        self.source = problems
        self.chat, self.system_prompt, self.places = problems.chat, problems.system_prompt, problems.places
        self.prompt_template, self.proof_prompt = problems.prompt_template, problems.proof_prompt

    def prepare_data(self) -> None:
        """Download what the wrapped data set needs."""
        self.source.prepare_data()

    @property
    def has_test_rows(self) -> bool:
        """Whether the wrapped data set reads test problems from a file."""
        return self.source.has_test_rows

    def drop(self, ids: set[str]) -> None:
        """Leave out these problems from now on, here and in the wrapped data set."""
        super().drop(ids)
        self.source.drop(ids)

    def load_split(self, split: Split) -> list[Problem]:
        """The problems of the wrapped data set."""
        return self.source.problems(split)

    def training_texts(self) -> Iterator[str]:
        """Those of the wrapped data set, so that a tokenizer trained on them does not depend on samples."""
        return self.source.training_texts()

    def training_problem(self, row: Row) -> Problem:
        """The wrapped data set's training problem that a row names.

        Raises:
            BadRow: there is none of this id, or the row's prompt is another one.
        """
        id_ = text_of(row, "problem_id")
        known = self.training_problems.get(id_)
        if known is None:
            raise BadRow(
                row.where,
                "problem_id",
                f"{id_!r} is no training problem of {type(self.source).__name__}: "
                "wrap the data that were sampled, with the same settings",
            )
        prompt = read_prompt(row.fields.get("prompt", known.prompt))
        if prompt is None or prompt_identity(prompt) != prompt_identity(known.prompt):
            raise BadRow(
                row.where,
                "prompt",
                f"differs from that of problem {id_!r}, {known.prompt!r:.80}: the data have changed",
            )
        return known

    @cached_property
    def training_problems(self) -> dict[str, Problem]:
        """The wrapped data set's training problems by id."""
        return {problem.id: problem for problem in self.source.problems("train")}


def rows_of(path: str | None, option: str) -> list[Row]:
    """The rows of a file, folder or pattern that an option names.

    Raises:
        ValueError: no file is named.
        FileNotFoundError: there is no such file; names the option.
        BadRow: a line is no JSON object.
    """
    if path is None:
        raise ValueError(f"data.{option} is missing: name the file of examples")
    rows: list[Row] = []
    for row in read_rows(require_local(path, option)):
        if isinstance(row, BadRow):
            raise row
        rows.append(row)
    if not rows:
        raise ValueError(f"data.{option}: {path} holds no rows")
    return rows


def text_of(row: Row, field: str) -> str:
    """A field that must hold text.

    Raises:
        BadRow: it is missing, empty or something else.
    """
    value: Any = row.fields.get(field)
    if not isinstance(value, str) or not value.strip():
        found = f"found {value!r:.80}" if field in row.fields else f"the row has {', '.join(sorted(row.fields))}"
        raise BadRow(row.where, field, f"expected text, {found}")
    return value
