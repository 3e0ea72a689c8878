"""Data sets that are rows of question and solution: reading, splitting, checking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, overload

from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from datamodules.common.base import ProblemDataModule, Split
from datamodules.common.order import keyed_hash
from datamodules.common.rows import BadRow, Row, hub_rows, load_hub, read_rows, written_number
from datamodules.files.columns import ColumnReport, parts_of, usual_columns, value_at, with_conversation
from datamodules.files.locations import SPLIT_NAMES, data_files, find_split, lone_shard, looks_local, require_local
from datamodules.files.messages import answer_text, chat_prompt, conversation, holds_messages
from lightning_gfn.answers import check_style, extract_answer, reference_answer
from lightning_gfn.types import AnswerStyle, Problem

ANSWER_FORMS: Mapping[AnswerStyle, str] = {
    "gsm8k": "a last line '#### ANSWER'",
    "math": "\\boxed{ANSWER}",
    "metamath": "'The answer is: ANSWER'",
    "last_number": "a number",
}
FIELDS = ("question", "solution", "answer", "group", "id")
STATED = ("question", "solution", "answer")


class RowDataModule(ProblemDataModule):
    """Rows from a hub data set, a file or a folder; a subclass names its columns and the style of its answers.

    Where the source has no validation (or test) split of its own, a share of the training questions is set aside: a
    question goes by a hash of its text, the same in every run, and equal questions go together.

    Rows may come in the forms of others: ``messages`` (the assistant's last message is the solution, all before it the
    prompt), prompt and completion as lists of messages, and verl's rows. One line says which columns became what.

    Args:
        path: hub name, one file of training rows (JSON, JSON lines, CSV, Parquet; the former three also as .gz), a
            wildcard pattern, or a folder with ``train``, ``val`` and ``test`` as files, shards or sub-folders.
        val_path: file, folder or pattern of validation rows.
        test_path: the same for test rows.
        hub_config: configuration of a hub data set.
        val_fraction: share of the training questions for validation where there is no validation split.
        test_fraction: share of the training questions for testing where there is no test split.
        columns: names of columns where they differ from the usual ones, keyed by question, solution, answer, group, id,
            or messages (a whole conversation); ``outer.inner`` names a column inside another one.
        answer_style: how completions write their answer, where that is not the way of the data set: ``gsm8k``,
            ``math``, ``metamath``, ``last_number``, or a regular expression with one group such as ``A: (.+)``.
        on_bad_row: stop at a malformed row, or skip and count it.
        settings: arguments of ``ProblemDataModule``.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: an option makes no sense.
    """

    id_prefix: ClassVar[str]
    """Prefix of the problem ids."""
    aliases: ClassVar[Mapping[str, tuple[str, ...]]]
    """Usual column names of question, solution, answer, group and id; the first that a row has is taken."""
    answer_style: AnswerStyle
    """How completions are to write their answer, unless the argument says otherwise."""
    solution_styles: ClassVar[tuple[AnswerStyle, ...]]
    """Ways of writing the answer in reference solutions, tried in this order."""

    def __init__(
        self,
        path: str,
        *,
        val_path: str | None = None,
        test_path: str | None = None,
        hub_config: str | None = None,
        val_fraction: float = 0.05,
        test_fraction: float = 0.0,
        columns: dict[str, str] | None = None,
        answer_style: AnswerStyle | None = None,
        on_bad_row: Literal["error", "skip"] = "error",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        known = (*FIELDS, "messages")
        unknown = set(columns if columns is not None else ()) - set(known)
        if unknown:
            raise ValueError(f"data.columns has the unknown keys {sorted(unknown)}; known are {', '.join(known)}")
        if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
            raise ValueError(
                "data.val_fraction and data.test_fraction must be at least 0 and leave something to train on"
            )
        self.has_own_style = answer_style is not None
        if answer_style is not None:
            check_style(answer_style)
            self.answer_style = answer_style
        self.path = path
        self.hub_config = hub_config
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.columns = columns if columns is not None else {}
        self.on_bad_row = on_bad_row
        self.num_skipped: dict[Split, int] = {}
        self._files: dict[Split, Path] = {}
        self._parsed: dict[Split, dict[Split, list[Problem]]] = {}
        if looks_local(path):
            self._find_files(require_local(path, "path"))
        if val_path is not None:
            self._files["val"] = require_local(val_path, "val_path")
        if test_path is not None:
            self._files["test"] = require_local(test_path, "test_path")

    def _find_files(self, path: Path) -> None:
        if not path.is_dir():
            shards = lone_shard(path)
            if shards is not None:
                rank_zero_warn(
                    f"data.path: {path} is one of {shards} shards; the folder or a pattern would read them all"
                )
            self._files["train"] = path
            return
        found = {split: find_split(path, split) for split in ("train", "val", "test")}
        self._files.update({split: file for split, file in found.items() if file is not None})  # type: ignore[misc]
        if "train" not in self._files:
            files = [file for file in data_files(path) if file not in self._files.values()]
            if len(files) != 1:
                raise FileNotFoundError(
                    f"data.path: {path} has neither train.jsonl (.json, .csv, .parquet), shards train-00000-of-…, nor "
                    "a folder train, and not one single data file "
                    f"(found {[file.name for file in files[:5]]}). Give the file itself as data.path."
                )
            self._files["train"] = files[0]

    @property
    def is_hub(self) -> bool:
        """Whether the training rows come from the hub."""
        return "train" not in self._files

    def prepare_data(self) -> None:
        """Download a hub data set, before any model is loaded."""
        if self.is_hub:
            load_hub(self.path, self.hub_config)

    @cached_property
    def _hub(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        return load_hub(self.path, self.hub_config) if self.is_hub else {}

    def _hub_split(self, split: Split) -> str | None:
        return next((name for name in SPLIT_NAMES[split] if name in self._hub), None)

    def _has_own(self, split: Split) -> bool:
        return split in self._files or self._hub_split(split) is not None

    @property
    def has_test_rows(self) -> bool:
        """Whether there are test problems: rows of their own, or training rows set aside."""
        return self._has_own("test") or self.test_fraction > 0

    def _rows(self, split: Split) -> Iterator[Row | BadRow]:
        if split in self._files:
            return read_rows(self._files[split])
        hub_split = self._hub_split(split)
        if hub_split is None:
            raise FileNotFoundError(
                f"data.path: {self.path} has no {split} split, only {sorted(self._hub)}. Give data.{split}_path."
            )
        return hub_rows(self.path, hub_split, self._hub[hub_split])

    def load_split(self, split: Split) -> list[Problem]:
        """The problems of a split, from its own source or set aside from the training rows.

        Raises:
            ValueError: a row is malformed and ``on_bad_row`` is "error", every row is malformed, or there is no test
                split.
        """
        own = self._has_own(split)
        if split == "test" and not own and not self.test_fraction:
            raise ValueError(
                f"{self.path} has no test split. Set data.test_path, or data.test_fraction to set "
                f"training questions aside."
            )
        source: Split = split if own else "train"
        if source not in self._parsed:
            self._parsed[source] = self._parse(source)
        return self._parsed[source].get(split, [])

    def _parse(self, source: Split) -> dict[Split, list[Problem]]:
        """The problems of a source by the split that each belongs to."""
        problems: dict[Split, list[Problem]] = {}
        bad: list[str] = []
        report = ColumnReport()
        num_rows = 0
        for row in self._rows(source):
            num_rows += 1
            try:
                if isinstance(row, BadRow):
                    raise row
                row = with_conversation(row, self.columns.get("messages"))
                if source == "train" and not self.keep(row):
                    continue
                problem = self.problem(row, source)
                problems.setdefault(self._assign(row) if source == "train" else source, []).append(problem)
                self.places[problem.id] = row.where
                used = self._used_columns(row)
                report.count(used, [name for name in row.fields if name not in used.values()])
            except BadRow as error:
                if self.on_bad_row == "error":
                    raise ValueError(f"{error}. Correct the row, or set data.on_bad_row to skip.") from error
                bad.append(str(error))
        self.num_skipped[source] = len(bad)
        if len(bad) == num_rows:
            raise ValueError(
                f"{self.id_prefix}: no usable row among the {num_rows} of the {source} data. "
                f"{bad[0] if bad else f'{self.path} holds no file with rows.'}"
            )
        if bad:
            rank_zero_warn(
                f"{self.id_prefix}: skipped {len(bad)} of {num_rows} rows of the {source} data. The first: {bad[0]}"
            )
        rank_zero_info(f"{self.path}: {num_rows - len(bad)} {source} rows: {report}")
        self._warn_of_other_style([problem for split in problems.values() for problem in split])
        return problems

    def _used_columns(self, row: Row) -> dict[str, str]:
        """The column that each field is read from, as ``problem`` reads them."""
        used = {field: column for field in STATED if (column := self._column(row, field)) is not None}
        if "solution" in used and self.solution_styles and "answer" not in self.columns:
            used["answer"] = f"{used['solution']} or {used['answer']}" if "answer" in used else used["solution"]
        return used

    def _warn_of_other_style(self, problems: Sequence[Problem]) -> None:
        """Say so if reference solutions do not write their answers in the style that was asked for."""
        solutions = [text for problem in problems for text in getattr(problem, "solutions", ())]
        unread = sum(extract_answer(text, self.answer_style) is None for text in solutions) if self.has_own_style else 0
        if unread:
            rank_zero_warn(
                f"{self.id_prefix}: {unread} of {len(solutions)} reference solutions hold no answer in the style "
                f"{self.answer_style!r} of data.answer_style; a model that is trained on them learns another form."
            )

    def keep(self, row: Row) -> bool:
        """Whether a training row is wanted at all; a subclass may filter."""
        return True

    def clean(self, solution: str) -> str:
        """The solution as completions are to be written; a subclass may rewrite it."""
        return solution

    def problem(self, row: Row, source: Split) -> Problem:
        """The problem of a row.

        Raises:
            BadRow: the question is missing, or there is no final answer.
        """
        question = self._text(row, "question", required=True)
        solution = self._text(row, "solution")
        answer = self._answer(row, solution)
        id_ = self._text(row, "id")
        used = {self._column(row, field) for field in ("question", "solution")}
        return Problem(
            id=f"{self.id_prefix}/{source}/{id_ if id_ is not None else row.key}",
            prompt=self.prompt(question),
            answer=answer,
            solutions=(self._cleaned(row, solution),) if solution is not None else (),
            answer_style=self.answer_style,
            metadata={name: value for name, value in row.fields.items() if name not in used},
        )

    def _cleaned(self, row: Row, solution: str) -> str:
        try:
            return self.clean(solution)
        except ValueError as error:
            raise BadRow(row.where, self._column(row, "solution"), str(error)) from error

    def _answer(self, row: Row, solution: str | None) -> str | None:
        """The final answer: a column named in ``columns``, else from the solution, else the usual answer column."""
        if "answer" not in self.columns and solution is not None:
            for style in self.solution_styles:
                try:
                    answer = reference_answer(solution, style)
                except ValueError as error:
                    raise BadRow(row.where, self._column(row, "solution"), str(error)) from error
                if answer is not None:
                    return answer
        answer = self._text(row, "answer")
        if answer is None:
            column = self._column(row, "solution")
            wanted = " or ".join(ANSWER_FORMS[style] for style in self.solution_styles)
            raise BadRow(row.where, column if column is not None else "solution", f"no final answer: expected {wanted}")
        return answer

    def _assign(self, row: Row) -> Split:
        """The split of a training row, the same for every row of one question."""
        group = self._text(row, "group")
        question = group if group is not None else self._text(row, "question", required=True)
        share = keyed_hash("split", " ".join(question.casefold().split())) / 2**64
        test = 0.0 if self._has_own("test") else self.test_fraction
        val = 0.0 if self._has_own("val") else self.val_fraction
        return "test" if share < test else "val" if share < test + val else "train"

    def _column(self, row: Row, field: str) -> str | None:
        """The column of a row that holds a field; a column given to one field by ``columns`` is no alias of another."""
        if field in self.columns:
            return self.columns[field]
        if "messages" in self.columns and field in ("question", "solution"):
            part = parts_of(self.columns["messages"], field)
            return part if part in row.fields else None
        taken = self.columns.values()
        usual = usual_columns(field, self.aliases.get(field, ()))
        present = (name for name in usual if name not in taken and value_at(row.fields, name) is not None)
        return next(present, None)

    @overload
    def _text(self, row: Row, field: str, *, required: Literal[True]) -> str: ...

    @overload
    def _text(self, row: Row, field: str) -> str | None: ...

    def _text(self, row: Row, field: str, *, required: bool = False) -> str | None:
        """The text of a field, or as a question a conversation; None if the row has no such column or nothing in it.

        Raises:
            BadRow: the column is named in ``columns`` or required and missing, empty, or holds something else than
                text.
        """
        column = self._column(row, field)
        value = value_at(row.fields, column) if column is not None else None
        if column is None or value is None:
            if required or (column is not None and column.partition(".")[0] not in row.fields):
                usual = column if column is not None else " or ".join(self.aliases[field])
                raise BadRow(row.where, usual, f"missing; the row has {', '.join(sorted(map(str, row.fields)))}")
            return None
        if field == "question" and holds_messages(value):
            return chat_prompt(row, column, conversation(row, column, value))
        if field == "solution" and holds_messages(value):
            return answer_text(row, column, value)
        if field in ("answer", "id") and isinstance(value, int | float) and not isinstance(value, bool):
            written = written_number(value)
            if written is None:
                raise BadRow(row.where, column, f"expected a finite number, found {value!r}")
            return written
        if not isinstance(value, str) or not value.strip():
            raise BadRow(row.where, column, f"expected text, found {value!r:.80}")
        return value
