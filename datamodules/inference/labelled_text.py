"""Texts with labels as problems: the label follows a latent rationale, or is the completion itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from datamodules.common.base import Chat, Split
from datamodules.common.order import keyed_hash
from datamodules.common.row_data import RowDataModule
from datamodules.common.rows import BadRow, Row
from lightning_gfn.answers import check_style
from lightning_gfn.prompts.chat import ChatPrompt, Message
from lightning_gfn.types import CLASSIFIED, Problem

LABEL = "{label}"
Rationale = Literal["latent", "none"]


class LabelledText(RowDataModule):
    """Rows ``{"text", "label"}``: x is the text in a prompt, z a rationale, y the label in words.

        latent:  prompt  z  statement(y)          the policy writes z; ``Problem.evidence`` is the statement of y
        none:    prompt  bare_statement(y)        the completion is the statement; it is what SFT trains on

    The posterior p(z | x, y) ∝ p(z | x) p(y | x, z) of the former is what a GFlowNet with ``JointLikelihood`` samples.

    Args:
        path: hub name, file, wildcard pattern or folder, as ``RowDataModule`` reads them.
        labels: the word of each label by what its column holds, a number as text: ``{"0": "objective", …}``. Several
            values may share a word.
        prompt_template: the request, with ``{question}`` where the text stands.
        opening: the words that completions continue; with ``chat: on`` the assistant begins with them.
        statement: text behind a rationale, with ``{label}``; a policy whose ``end_tokens`` are its first token writes
            rationales that end where it begins.
        bare_statement: the same right behind ``opening``.
        rationale: whether labels follow a rationale.
        shots: training rows shown with their labels before each validation and test prompt, chosen by ``seed``, as
            equally from the labels as can be.
        label_noise: share of the training rows whose label is another one, chosen by ``seed``; rows of a smaller share
            are among those of a larger one.
        columns: names of columns, keyed by question (the text), answer (the label), solution (a reference rationale),
            id or group.
        val_fraction: share of the training texts for validation where there is no validation split.
        chat: as for every data set, but off unless asked for: what follows continues a sentence.
        settings: arguments of ``RowDataModule``.

    Raises:
        ValueError: a setting makes no sense; names it.

    Source: Hu et al. 2024, arXiv:2310.04363, section 4.3.
    """

    id_prefix = "labelled"
    aliases = {
        "question": ("text", "sentence", "review", "content", "question"),
        "answer": ("label_text", "label", "answer"),
        "solution": ("rationale", "explanation"),
        "id": ("id",),
    }
    answer_style = "last_number"  # replaced by a pattern of the labels
    solution_styles = ()

    def __init__(
        self,
        path: str,
        *,
        labels: dict[str, str],
        prompt_template: str = "{question}\n",
        opening: str = "This text is",
        statement: str = ", so it is {label}",
        bare_statement: str = " {label}",
        rationale: Rationale = "latent",
        shots: int = 0,
        label_noise: float = 0.0,
        columns: dict[str, str] | None = None,
        val_fraction: float = 0.0,
        chat: Chat = "off",
        **settings: Any,
    ) -> None:
        super().__init__(
            path, columns=columns, val_fraction=val_fraction, prompt_template=prompt_template, chat=chat, **settings
        )
        if rationale not in ("latent", "none"):
            raise ValueError(f"data.rationale is {rationale!r}, expected latent or none")
        if shots < 0:
            raise ValueError(f"data.shots is {shots}, expected at least 0")
        if not 0.0 <= label_noise <= 1.0:
            raise ValueError(f"data.label_noise is {label_noise}, expected a share in [0, 1]")
        if shots and rationale == "latent":
            raise ValueError("data.shots shows labels alone: set data.rationale to none, or data.shots to 0")
        self.labels = {str(value): str(word) for value, word in labels.items()}
        self.words = list(dict.fromkeys(self.labels.values()))
        self.opening, self.shots, self.label_noise = opening, shots, label_noise
        self.rationale: Rationale = rationale
        self.texts = label_texts(self.words, statement if rationale == "latent" else bare_statement)
        longest_first = sorted(self.words, key=len, reverse=True)
        self.answer_style = f"({'|'.join(map(re.escape, longest_first))})"
        check_style(self.answer_style)

    def prompt(self, question: str) -> str:
        """The request and the opening."""
        asked = super().prompt(question)
        if isinstance(asked, ChatPrompt):
            return ChatPrompt([*asked.messages, Message("assistant", self.opening)]) if self.opening else asked
        return asked + self.opening

    def problem(self, row: Row, source: Split) -> Problem:
        """The problem of a row.

        Raises:
            BadRow: text or label are missing, or the label is none of ``labels``.
        """
        text = self._text(row, "question", required=True)
        value = self._text(row, "answer", required=True).strip()
        if value not in self.labels:
            known = ", ".join(self.labels)
            raise BadRow(row.where, self._column(row, "answer"), f"{value!r} is no label of data.labels, only {known}")
        given, id_ = self._text(row, "solution"), self._text(row, "id")
        used = {self._column(row, field) for field in ("question", "solution")}
        further = {name: value for name, value in row.fields.items() if name not in used}
        problem = Problem(
            id=f"{self.id_prefix}/{source}/{id_ if id_ is not None else row.key}",
            prompt=self.prompt(text),
            solutions=(given if given[:1].isspace() else f" {given}",) if given is not None else (),
            labels=self.texts,
            answer_style=self.answer_style,
            metadata={**further, CLASSIFIED: str(text)},
        )
        return self.with_label(problem, self.labels[value])

    def with_label(self, problem: Problem, word: str) -> Problem:
        """The problem with this label as the right one."""
        if self.rationale == "latent":
            return replace(problem, answer=word, evidence=self.texts[word])
        return replace(problem, answer=word, solutions=(self.texts[word],))

    def problems(self, split: Split) -> list[Problem]:
        """The problems of a split: training labels after noise, the others with examples before them."""
        if split in self._loaded:
            return self._loaded[split]
        found = super().problems(split)
        if split == "train" and self.label_noise:
            found = self.with_noise(found)
        elif split != "train" and self.shots and found:
            found = self.with_examples(found, self.examples())
        self._loaded[split] = found
        return found

    def with_noise(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems, the share ``label_noise`` of them with another label."""
        ranked = sorted(problems, key=lambda p: keyed_hash("label noise", str(self.seed), p.id))
        flipped = {problem.id for problem in ranked[: round(self.label_noise * len(problems))]}
        return [self.with_label(p, self._another(p)) if p.id in flipped else p for p in problems]

    def _another(self, problem: Problem) -> str:
        others = [word for word in self.words if word != problem.answer]
        return others[keyed_hash("wrong label", str(self.seed), problem.id) % len(others)]

    def examples(self) -> list[Problem]:
        """The training problems that are shown, in an order without pattern.

        Raises:
            ValueError: there are too few.
        """
        train = self.problems("train")
        if len(train) < self.shots:
            raise ValueError(f"data.shots is {self.shots}, but there are only {len(train)} training rows to show")
        ranked = sorted(train, key=lambda p: keyed_hash("shots", str(self.seed), p.id))
        queues = {word: [p for p in ranked if p.answer == word] for word in self.words}
        chosen: list[Problem] = []
        while len(chosen) < self.shots:
            for queue in queues.values():
                chosen += [queue.pop(0)] if queue and len(chosen) < self.shots else []
        return sorted(chosen, key=lambda p: keyed_hash("order of shots", str(self.seed), p.id))

    def with_examples(self, problems: Sequence[Problem], examples: Sequence[Problem]) -> list[Problem]:
        """The problems with examples before their prompts."""
        shown: list[Message] = []
        for example in examples:
            prompt, text = example.prompt, self.texts[example.answer or ""]
            if isinstance(prompt, ChatPrompt):
                *before, last = prompt.messages
                begun = last.content if last.role == "assistant" else ""
                turns = [turn for turn in (*before, *(() if begun else (last,))) if turn.role != "system"]
                shown += [*turns, Message("assistant", (begun + text).strip())]
        plain = "".join(f"{example.prompt}{self.texts[example.answer or '']}\n\n" for example in examples)
        return [replace(problem, prompt=behind(problem.prompt, plain, shown)) for problem in problems]


def behind(prompt: str, text: str, turns: Sequence[Message]) -> str:
    """A prompt with a text before it, or of a conversation with turns before its first one of the user."""
    if not isinstance(prompt, ChatPrompt):
        return text + prompt
    first = next(i for i, turn in enumerate(prompt.messages) if turn.role == "user")
    return ChatPrompt([*prompt.messages[:first], *turns, *prompt.messages[first:]])


def label_texts(words: Sequence[str], statement: str) -> dict[str, str]:
    """The text that states each label.

    Raises:
        ValueError: there are fewer than two labels, one is blank, the statement does not hold ``{label}`` once, or one
            text begins another.
    """
    if len(words) < 2 or not all(word.strip() for word in words):
        raise ValueError(f"data.labels must give two different words or more, got {list(words)}")
    if statement.count(LABEL) != 1:
        raise ValueError(f"data.statement and data.bare_statement must hold {LABEL} exactly once, got {statement!r}")
    texts = {word: statement.replace(LABEL, word) for word in words}
    for word, text in texts.items():
        for other, longer in texts.items():
            if word != other and longer.startswith(text):
                raise ValueError(
                    f"data.labels: {text!r} begins {longer!r}, so that the first is never ruled out: let the statement "
                    "end in a full stop"
                )
    return texts
