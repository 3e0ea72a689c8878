"""The answers that the samples of an evaluation give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_gfn.answers.extraction import extract_answer

if TYPE_CHECKING:
    from lightning_gfn.types import EvalRecord


def answers_of(record: EvalRecord) -> list[str | None]:
    """The answer of each sample: the most probable label behind a rationale, else what its text gives.

    Args:
        record: samples of one problem.
    """
    problem = record.problem
    if problem.labels is None:
        return [extract_answer(text, problem.answer_style) for text in record.completions]
    names = list(problem.labels)
    if problem.evidence is not None:
        scored = [names[max(range(len(names)), key=row.__getitem__)] for row in record.label_log_probs]
        return [*scored, *[None] * (len(record.completions) - len(scored))]
    by_text = {text: name for name, text in problem.labels.items()}
    return [by_text.get(text) for text in record.completions]
