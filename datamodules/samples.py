"""Solutions sampled from a model in place of a data set's own: what RFT and STaR train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

from datamodules.common.base import ProblemDataModule, Split
from datamodules.common.order import EvalLoader
from datamodules.common.rows import BadRow, Row
from datamodules.common.wrapped import WrappedProblems, rows_of, text_of
from lightning_gfn.prompts.chat import edited
from lightning_gfn.types import Problem

PLACES = ("{prompt}", "{answer}")


class SampledSolutions(WrappedProblems):
    """The problems of a data set with solutions from a file; training problems without any are left out.

    Rows: ``{"problem_id": str, "completions": [str, …]}``, a ``prompt`` is compared with the problem's; ``copies``, a
    whole number a completion, lets some count several times; further fields are ignored. A row without ``problem_id``
    stands for itself, under its own ``prompt``: a tactic, whose prompt is a state of a proof. ``lightning-gfn rft`` and
    ``star`` write such files. ``predict`` with ``predict_split: train`` samples all training problems of the wrapped
    data set, or those of ``retry_path`` with their answer as a hint.

    Args:
        problems: the data set whose problems were sampled.
        path: file of rows; ``predict`` does not need it.
        item: an epoch visits each problem once, with one of its completions drawn (``problem``), or each completion
            once (``completion``).
        keep_references: also keep the data set's own solutions of the problems that have completions.
        retry_path: file of rows ``{"problem_id": str}``; ``predict`` samples only these, with a hint.
        hint_template: the prompt with a hint, with ``{prompt}`` and ``{answer}`` in their places.
        settings: further arguments of ``WrappedProblems``.

    Raises:
        ValueError: the template lacks one of its places.

    Source: Yuan et al. 2023, arXiv:2308.01825 (RFT); Zelikman et al. 2022, arXiv:2203.14465, section 3.2 (hints).
    """

    def __init__(
        self,
        problems: ProblemDataModule,
        *,
        path: str | None = None,
        item: Literal["problem", "completion"] = "problem",
        keep_references: bool = False,
        retry_path: str | None = None,
        hint_template: str = "Hint: the answer is {answer}.\n{prompt}",
        **settings: Any,
    ) -> None:
        super().__init__(problems, **settings)
        for place in PLACES:
            if hint_template.count(place) != 1:
                raise ValueError(f"data.hint_template must hold {place} exactly once, got {hint_template!r}")
        self.path = path
        self.item = item
        self.keep_references = keep_references
        self.retry_path = retry_path
        self.hint_template = hint_template

    def load_split(self, split: Split) -> list[Problem]:
        """The wrapped problems; those of the training split with their completions in place of their solutions."""
        problems = super().load_split(split)
        if split != "train":
            return problems
        found: dict[str, Counter[str]] = {}
        own: list[Problem] = []
        for row in rows_of(self.path, "path"):
            if "problem_id" not in row.fields and "prompt" in row.fields:
                problem = Problem(id=f"row/{row.key}", prompt=text_of(row, "prompt"))
                own.append(problem)
            else:
                problem = self.training_problem(row)
            found[problem.id] = found.get(problem.id, Counter()) | copies_of(row)
        return [
            item
            for problem in [*problems, *own]
            if problem.id in found
            for item in self.items(problem, found[problem.id])
        ]

    def items(self, problem: Problem, completions: Counter[str]) -> list[Problem]:
        """The items of a problem that an epoch visits."""
        references = Counter(set(problem.solutions) if self.keep_references else ())
        order = [*(problem.solutions if self.keep_references else ()), *completions]
        copies = references | completions
        texts = [text for text in dict.fromkeys(order) for _ in range(copies[text])]
        if self.item == "problem":
            return [replace(problem, solutions=tuple(texts))]
        return [replace(problem, id=f"{problem.id}#{i}", solutions=(text,)) for i, text in enumerate(texts)]

    def to_sample(self) -> list[Problem]:
        """The problems that ``predict`` samples."""
        if self.retry_path is not None:
            hinted = [self.hinted(self.training_problem(row)) for row in rows_of(self.retry_path, "retry_path")]
            return self._without_dropped("train", hinted)
        return self.source.problems(self.predict_split)

    def hinted(self, problem: Problem) -> Problem:
        """The problem with its answer in the prompt.

        Raises:
            ValueError: the problem has no answer.
        """
        if problem.answer is None:
            raise ValueError(f"problem {problem.id!r} has no answer to give as a hint")
        before, after = self.hint_template.split("{prompt}")
        parts = [part.replace("{answer}", problem.answer) for part in (before, after)]
        return replace(problem, prompt=edited(problem.prompt, lambda text: text.join(parts)))

    def setup(self, stage: str) -> None:
        """Load what a stage needs; sampling needs no completions."""
        if stage == "predict":
            self.predict_dataloader()
        else:
            super().setup(stage)

    def texts_of(self, stage: str) -> Iterator[tuple[Split, str, str, tuple[str, ...]]]:
        """What a stage reads; prediction needs no completions."""
        if stage != "predict":
            yield from super().texts_of(stage)
            return
        for problem in self.to_sample():
            if problem.theorem is None:
                yield self.predict_split, problem.id, problem.prompt, ()

    def predict_dataloader(self) -> EvalLoader:
        """Batches of the problems to be sampled."""
        rank, world_size = self._ranks()
        return EvalLoader(self.to_sample(), batch_size=self.eval_batch_size, rank=rank, world_size=world_size)


def copies_of(row: Row) -> Counter[str]:
    """How often each completion of a row counts: once, or as ``copies`` says.

    Raises:
        BadRow: completions or copies are not what they should be.
    """
    texts = completions_of(row)
    copies = row.fields.get("copies", [1] * len(texts))
    if not isinstance(copies, list) or len(copies) != len(texts) or not all(type(n) is int and n > 0 for n in copies):
        raise BadRow(row.where, "copies", f"expected a whole number above 0 for each completion, found {copies!r:.80}")
    return Counter(dict(zip(texts, copies, strict=True)))


def completions_of(row: Row) -> list[str]:
    """The completions of a row.

    Raises:
        BadRow: they are missing, none, or not all texts.
    """
    values = row.fields.get("completions")
    if not isinstance(values, list) or not values:
        raise BadRow(row.where, "completions", f"expected a list of texts, found {values!r:.80}")
    for number, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise BadRow(row.where, "completions", f"expected texts, found {value!r:.80} at place {number}")
    return values
