"""SUBJ: sentences of film reviews (subjective) and of plot summaries (objective), 8,000 and 2,000 for testing."""

from __future__ import annotations

from typing import Any

from datamodules.inference.labelled_text import LabelledText

WORDS = {"0": "objective", "1": "subjective", "objective": "objective", "subjective": "subjective"}


class Subjectivity(LabelledText):
    """SUBJ rows, ``{"text", "label", "label_text"}``, as classifications with a latent rationale.

    Args:
        path: hub name, folder with train.jsonl and test.jsonl, or one file of training rows; ``max_train`` takes the
            first few by their ids.
        labels: the word of each label.
        prompt_template: the request, with ``{question}`` where the sentence stands.
        opening: the words that rationales continue.
        settings: arguments of ``LabelledText``.

    Source: Pang and Lee 2004, arXiv:cs/0409058; Hu et al. 2024, arXiv:2310.04363, section 4.3.
    """

    id_prefix = "subj"

    def __init__(
        self,
        path: str = "SetFit/subj",
        *,
        labels: dict[str, str] | None = None,
        prompt_template: str = 'Classify this movie review as objective or subjective: "{question}"\n',
        opening: str = "This review is",
        **settings: Any,
    ) -> None:
        words = labels if labels is not None else WORDS
        super().__init__(path, labels=words, prompt_template=prompt_template, opening=opening, **settings)
