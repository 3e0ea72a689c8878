"""Judged solutions: Math-Shepherd, TRL's stepwise form, PRM800K, whole solutions, and pairs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from datamodules.common.base import Split
from datamodules.common.judged import JudgedRows, label_at, problem_at, prompt_at, text_at
from datamodules.common.rows import BadRow, Row
from datamodules.files.messages import answer_text
from datamodules.gsm8k import ANNOTATION
from datamodules.preference import split_prompt
from lightning_gfn.answers.steps import split_steps
from lightning_gfn.preference_types import Preference

TAG = "ки"
FIRST_STEP = re.compile(r"[Ss]tep 1:")
NUMBERING = re.compile(r"^[Ss]tep \d+:\s*")


class MathShepherd(JudgedRows):
    """Math-Shepherd rows, ``{"input", "label", "task"}``: ``ки`` in ``input`` stands where ``label`` has + or -.

    Tags are found by position. Known faults are understood: a tag inside the question is dropped, ``step 1:`` counts
    as ``Step 1:``, and where neither stands the question ends with the last ``?`` before the first tag.

    Args:
        path: hub name, folder or file of rows.
        numbering: keep ``Step 1: ``, … at the start of steps.
        strip_calculator: remove the calculator annotations ``<<48/2=24>>``.
        prompt_template: the prompt, with ``{question}`` where the question stands.
        settings: arguments of ``JudgedRows``.

    Source: Wang et al. 2023, arXiv:2312.08935.
    """

    id_prefix = "math_shepherd"

    def __init__(
        self,
        path: str = "peiyi9979/Math-Shepherd",
        *,
        numbering: bool = False,
        strip_calculator: bool = True,
        prompt_template: str = "Question: {question}\nAnswer:\n",
        **settings: Any,
    ) -> None:
        super().__init__(path, prompt_template=prompt_template, **settings)
        self.numbering = numbering
        self.strip_calculator = strip_calculator

    def common_form(self, row: Row) -> Mapping[str, Any]:
        """Question, steps and labels of a row."""
        text = text_at(row, "input")
        marks = tag_labels(row, text, text_at(row, "label"))
        begin = question_end(row, text, marks[0][0])
        question, start = text[:begin].replace(TAG, "").strip(), begin
        steps, labels = [], []
        for position, label in marks:
            if position < begin:
                continue
            steps.append(text[start:position])
            labels.append(label)
            start = position + len(TAG)
        if text[start:].strip():
            steps.append(text[start:])
            labels.append(None)
        return {"question": question, "steps": self.cleaned(row, steps), "labels": labels}

    def cleaned(self, row: Row, steps: list[str]) -> list[str]:
        """Steps as completions have them, one a line; ``BadRow`` if one is empty."""
        cleaned = []
        for number, step in enumerate(steps):
            body = step.strip() if self.numbering else NUMBERING.sub("", step.strip())
            body = ANNOTATION.sub("", body) if self.strip_calculator else body
            if not body:
                raise BadRow(row.where, "input", f"step {number + 1} is empty")
            cleaned.append(body if number + 1 == len(steps) else f"{body}\n")
        return cleaned


def tag_labels(row: Row, text: str, labelled: str) -> list[tuple[int, float | None]]:
    """Position of each tag in the input, and its label.

    Raises:
        BadRow: input and label do not line up, or there is no tag.
    """
    positions = [found.start() for found in re.finditer(TAG, text)]
    if not positions:
        raise BadRow(row.where, "input", f"no tag {TAG!r}: there is no labelled step")
    pieces, place = text.split(TAG), 0
    marks: list[tuple[int, float | None]] = []
    for number, piece in enumerate(pieces):
        if labelled[place : place + len(piece)] != piece:
            raise BadRow(row.where, "label", f"differs from input between tags {number} and {number + 1}")
        place += len(piece)
        if number == len(positions):
            break
        if labelled[place : place + 1] not in ("+", "-"):
            found = labelled[place : place + 1]
            raise BadRow(row.where, "label", f"tag {number + 1}: expected + or - at character {place}, found {found!r}")
        marks.append((positions[number], float(labelled[place] == "+")))
        place += 1
    if place != len(labelled):
        raise BadRow(row.where, "label", f"has {len(labelled) - place} characters more than input")
    return marks


def question_end(row: Row, text: str, first_tag: int) -> int:
    """Where the first step begins.

    Raises:
        BadRow: nothing says so.
    """
    found = FIRST_STEP.search(text)
    if found is not None:
        return found.start()
    end = text.rfind("?", 0, first_tag)
    if end < 0:
        raise BadRow(
            row.where, "input", "where the question ends is unknown: no 'Step 1:', and no '?' before the first tag"
        )
    return end + 1


class StepwiseRows(JudgedRows):
    """Rows in TRL's stepwise form, ``{"prompt": str, "completions": [str, …], "labels": [bool, …]}``.

    ``lightning-gfn step_labels`` writes such files, with ``problem_id`` (by which they are split) and
    ``soft_labels`` beside them.

    Args:
        path: hub name, folder or file of rows.
        separator: put behind a step that does not end in white space, but not behind the last one.
        labels: the column to learn: ``labels``, or ``soft_labels`` for the share of completions that succeeded.
        settings: arguments of ``JudgedRows``.
    """

    id_prefix = "steps"

    def __init__(self, path: str, *, separator: str = "\n", labels: str = "labels", **settings: Any) -> None:
        super().__init__(path, **settings)
        self.separator = separator
        self.labels = labels

    def common_form(self, row: Row) -> Mapping[str, Any]:
        """Prompt, steps and labels of a row."""
        steps, labels = (row.fields.get(name) for name in ("completions", self.labels))
        for name, value in (("completions", steps), (self.labels, labels)):
            if not isinstance(value, list) or not value:
                raise BadRow(row.where, name, f"expected a list with an entry for each step, found {value!r:.80}")
        assert isinstance(steps, list) and isinstance(labels, list)
        if len(steps) != len(labels):
            raise BadRow(row.where, self.labels, f"has {len(labels)} entries for {len(steps)} completions")
        for number, step in enumerate(steps):
            if not isinstance(step, str) or not step.strip():
                raise BadRow(row.where, "completions", f"entry {number + 1}: expected text, found {step!r:.80}")
        ended = [step if step[-1].isspace() else step + self.separator for step in steps[:-1]]
        return {
            "question": prompt_at(row),
            **problem_at(row),
            "steps": [*ended, steps[-1]],
            "labels": [label_at(row, self.labels, label, f"entry {i + 1}") for i, label in enumerate(labels)],
        }


class PRM800K(JudgedRows):
    """PRM800K rows: at each step the person's own text or the completion that was chosen, with its rating.

    Where nothing was chosen (the solution ended in an error), the first completion is the last step. A person's own
    text has no rating and no label.

    Args:
        path: folder or file of rows.
        neutral: label of the rating 0; null leaves such steps without one.
        prompt_template: the prompt, with ``{question}`` where the problem stands.
        settings: arguments of ``JudgedRows``.

    Source: Lightman et al. 2023, arXiv:2305.20050.
    """

    id_prefix = "prm800k"

    def __init__(
        self,
        path: str,
        *,
        neutral: float | None = 1.0,
        prompt_template: str = "Problem: {question}\nSolution:\n",
        **settings: Any,
    ) -> None:
        super().__init__(path, prompt_template=prompt_template, **settings)
        self.ratings: Mapping[Any, float | None] = {-1: 0.0, 0: neutral, 1: 1.0, None: None}

    def common_form(self, row: Row) -> Mapping[str, Any]:
        """Problem, steps and labels of a row."""
        question, label = row.fields.get("question"), row.fields.get("label")
        if not isinstance(question, dict) or not isinstance(question.get("problem"), str):
            raise BadRow(row.where, "question", "expected an object with the text 'problem'")
        if not isinstance(label, dict) or not isinstance(label.get("steps"), list):
            raise BadRow(row.where, "label", "expected an object with the list 'steps'")
        taken = [self.chosen(row, number, step) for number, step in enumerate(label["steps"])]
        last = len(taken) - 1
        return {
            "question": question["problem"],
            "steps": [text if number == last else f"{text.rstrip()}\n" for number, (text, _) in enumerate(taken)],
            "labels": [rating for _, rating in taken],
        }

    def chosen(self, row: Row, number: int, step: Any) -> tuple[str, float | None]:
        """Text and label of one step; ``BadRow`` if it is malformed."""
        place = f"label.steps[{number}]"
        if not isinstance(step, dict):
            raise BadRow(row.where, place, f"expected an object, found {step!r:.80}")
        index, completions = step.get("chosen_completion"), step.get("completions")
        taken = step.get("human_completion")
        if index is not None or taken is None:
            options = completions if isinstance(completions, list) else []
            if not 0 <= (index if isinstance(index, int) else 0) < len(options):
                raise BadRow(row.where, place, f"chosen_completion {index!r} is not among {len(options)} completions")
            taken = options[index if isinstance(index, int) else 0]
        text, rating = (taken.get("text"), taken.get("rating")) if isinstance(taken, dict) else (taken, None)
        if not isinstance(text, str) or not text.strip():
            raise BadRow(row.where, place, f"expected text, found {text!r:.80}")
        if rating not in self.ratings:
            raise BadRow(row.where, place, f"expected a rating of -1, 0 or 1, found {rating!r:.80}")
        return text, self.ratings[rating]


class OutcomeRows(JudgedRows):
    """Whole solutions and whether they are right: ``{"prompt", "completion", "label": bool}``.

    ``predictions/predictions.jsonl`` of a run can be read as it is: its column ``correct`` is the label.

    Args:
        path: hub name, folder or file of rows.
        separator: what ends a step; only the last step is labelled.
        settings: arguments of ``JudgedRows``.
    """

    id_prefix = "outcome"

    def __init__(self, path: str, *, separator: str = "\n", **settings: Any) -> None:
        super().__init__(path, **settings)
        self.separator = separator

    def common_form(self, row: Row) -> Mapping[str, Any]:
        """Prompt, steps and the one label of a row; a completion without visible text has no label."""
        completion, field = row.fields.get("completion"), "label" if "label" in row.fields else "correct"
        if not isinstance(completion, str):
            raise BadRow(row.where, "completion", f"expected text, found {completion!r:.80}")
        label = label_at(row, field, row.fields.get(field), "the label")
        if label is None:
            raise BadRow(row.where, "label", "missing: expected a column label (or correct), true or false")
        steps = split_steps(completion, self.separator)
        return {
            "question": prompt_at(row),
            **problem_at(row),
            "steps": steps,
            "labels": [None] * (len(steps) - 1) + [label] * bool(steps),
        }


class PairRows(JudgedRows):
    """Pairs of completions, ``{"prompt", "chosen", "rejected"}``, as ``list[Preference]`` in every split.

    The prompt may be left out and messages may stand for texts, as in ``datamodules.preference``.

    Args:
        path: hub name, folder or file of rows.
        settings: arguments of ``JudgedRows``.
    """

    id_prefix = "pair"

    def common_form(self, row: Row) -> Mapping[str, Any]:
        """Prompt and both completions of a row."""
        chosen, rejected = row.fields.get("chosen"), row.fields.get("rejected")
        if row.fields.get("prompt") is None:
            prompt, chosen, rejected = split_prompt(row)
        else:
            prompt = prompt_at(row)
        texts = [answer_text(row, name, text) for name, text in (("chosen", chosen), ("rejected", rejected))]
        if texts[0] == texts[1]:
            raise BadRow(row.where, "rejected", "is the same text as chosen")
        return {
            "question": prompt,
            **problem_at(row),
            "steps": texts,
            "labels": [1.0, 0.0],
        }

    def problem(self, row: Row, source: Split) -> Any:
        """The ``Preference`` of a row."""
        judged = super().problem(row, source)
        return Preference(judged.id, judged.prompt, *judged.steps)
