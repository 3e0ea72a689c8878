"""Predicted samples as commands read, filter and write them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lightning_gfn.answers.noise import check_probability, noisy_verdict
from lightning_gfn.installation.json_lines import JsonLinesError, json_lines
from lightning_gfn.prompts.chat import read_prompt, written_prompt
from lightning_gfn.solution_classes.base import SolutionClasses
from lightning_gfn.types import AnswerStyle, Problem

Distinct = Literal["none", "rouge", "equations"]
ANSWER_STYLES: tuple[AnswerStyle, ...] = ("metamath", "gsm8k", "math")
"""Tried on samples that do not say how they write their answer."""
FIELDS: Mapping[str, type] = {"problem_id": str, "completion": str, "correct": bool}


class SampleError(ValueError):
    """Samples that cannot be used; the message names file, line and field, or the option, and the remedy."""


@dataclass(frozen=True)
class Sample:
    """One predicted completion.

    Args:
        problem_id: the problem that it attempts.
        prompt: what it follows.
        completion: its text.
        correct: the verdict.
        truncated: True where the maximum length cut it.
        answer_style: how it writes its answer; None if the file does not say.
        is_step: the completion is one step of a longer attempt (a tactic), its prompt the state before it.
    """

    problem_id: str
    prompt: str
    completion: str
    correct: bool
    truncated: bool
    is_step: bool = False
    answer_style: AnswerStyle | None = None

    @property
    def group(self) -> str:
        """What it is compared within: its problem, or for a step the state before it."""
        return f"{self.problem_id}\n{self.prompt}" if self.is_step else self.problem_id

    @property
    def origin(self) -> dict[str, Any]:
        """The columns that name its prompt; a step's prompt belongs to no problem of the data."""
        prompt = {"prompt": written_prompt(self.prompt)}
        return prompt if self.is_step else {"problem_id": self.problem_id, **prompt}


def read_samples(path: Path, *, flip_probability: float = 0.0, flip_seed: int = 0) -> dict[str, list[Sample]]:
    """The rows of a ``predictions.jsonl`` by problem, both in the order of the file.

    An attempt at a proof stands for its tactics: those of a proof are right, the one that failed is wrong, and those
    before a failure are neither.

    Args:
        path: rows as ``predict`` writes them.
        flip_probability: share of verdicts that are turned over, always the same ones.
        flip_seed: key of the noise.

    Raises:
        SampleError: there is no such file, or a row cannot be used.
    """
    check_probability(flip_probability)
    if not path.is_file():
        raise SampleError(f"{path} does not exist: give the predictions.jsonl that lightning-gfn predict wrote")
    found: dict[str, list[Sample]] = {}
    try:
        for where, row in json_lines(path):
            for sample in parsed(where, row):
                correct = verdict(sample, flip_probability, flip_seed) if flip_probability else sample.correct
                found.setdefault(sample.group, []).append(replace(sample, correct=correct))
    except JsonLinesError as error:
        raise SampleError(str(error)) from error
    if not found:
        raise SampleError(f"{path} holds no samples")
    return found


def parsed(where: str, row: Mapping[str, Any]) -> list[Sample]:
    """The samples of a row: one, or the steps of an attempt.

    Raises:
        SampleError: names file, line and field.
    """
    for field, kind in FIELDS.items():
        if not isinstance(row.get(field), kind):
            raise SampleError(f"{where}: field {field!r}: expected {kind.__name__}, found {row.get(field)!r:.80}")
    prompt = read_prompt(row.get("prompt"))
    if prompt is None:
        raise SampleError(f"{where}: field 'prompt': expected str or messages, found {row.get('prompt')!r:.80}")
    if "steps" in row:
        return steps_of(where, row)
    style = row.get("answer_style")
    if style is not None and not isinstance(style, str):
        raise SampleError(f"{where}: field 'answer_style': expected text, found {style!r:.80}")
    taken = (row["problem_id"], prompt, row["completion"], row["correct"], row.get("truncated") is True)
    return [Sample(*taken, answer_style=style)]


def steps_of(where: str, row: Mapping[str, Any]) -> list[Sample]:
    """The tactics of an attempt at a proof that are right or wrong.

    Raises:
        SampleError: names file, line and field.
    """
    steps = row["steps"]
    if not isinstance(steps, list) or not all(
        isinstance(step, dict) and all(isinstance(step.get(name), str) for name in ("prompt", "tactic"))
        for step in steps
    ):
        raise SampleError(f"{where}: field 'steps': expected objects with prompt and tactic, found {steps!r:.80}")
    chosen = [step for step in steps if row["correct"] or step.get("failed") is True]
    return [
        Sample(row["problem_id"], step["prompt"], step["tactic"], row["correct"], truncated=False, is_step=True)
        for step in chosen
    ]


def verdict(sample: Sample, probability: float, seed: int) -> bool:
    """The verdict of a checker that errs on a share of the completions; one without any answer stays wrong."""
    noise = {"correct": sample.correct, "probability": probability, "seed": seed}
    styles = ANSWER_STYLES if sample.answer_style is None else (sample.answer_style,)
    problems = (Problem(sample.problem_id, sample.prompt, answer_style=style) for style in styles)
    return any(noisy_verdict(problem, sample.completion, **noise) for problem in problems)  # type: ignore[arg-type]


def normalised(text: str) -> str:
    """A text in lower case with single spaces: what counts as the same solution."""
    return " ".join(text.casefold().split())


def different(samples: Iterable[Sample]) -> list[Sample]:
    """The samples whose normalised text occurs for the first time."""
    return list({normalised(sample.completion): sample for sample in reversed(list(samples))}.values())[::-1]


@dataclass(frozen=True)
class Filter:
    """A filter keeps samples of a problem: correct, whole, each text once, then each path once, at most so many.

    Args:
        distinct: what makes two solutions one path: nothing beyond their normalised text, a ROUGE-L F1 from the
            threshold on, or equal equations in equal order (a text without any is a path of its own).
        threshold: of ROUGE-L F1.
        max_per_problem: the most kept; None for all.
        tokenizer: the words of ROUGE-L: ASCII ones as in rouge-score, or those of any script.
        classes: every class of the solutions that are left then counts alike: a class with fewer of them than the
            largest repeats its own, in order, until it has as many; solutions that belong to no class go. With
            ``max_per_problem`` the classes share that number equally, whole shares alone.
        keep_cut: completions that the maximum length ended count as whole, as where every answer fills it.
    """

    distinct: Distinct = "none"
    threshold: float = 0.7
    max_per_problem: int | None = None
    tokenizer: Literal["rouge", "unicode"] = "rouge"
    classes: SolutionClasses | None = None
    keep_cut: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise SampleError(f"--threshold is {self.threshold}, expected a ROUGE-L F1 in (0, 1]")
        if self.max_per_problem is not None and self.max_per_problem < 1:
            raise SampleError(f"--max_per_problem is {self.max_per_problem}, expected at least 1")

    def __call__(self, samples: Sequence[Sample], dropped: Counter[str]) -> list[str]:
        """The completions kept of one problem, in order; counts what is dropped by reason."""
        correct = [sample for sample in samples if sample.correct]
        whole = [sample for sample in correct if self.keep_cut or not sample.truncated]
        texts = [sample.completion for sample in different(whole)]
        paths = self.distinct_paths(texts)
        kept = self.equal_shares(samples[0], paths) if self.classes is not None else paths[: self.max_per_problem]
        stages = {"wrong": samples, "truncated": correct, "duplicate": whole, "same_path": texts, "beyond_limit": paths}
        sizes = [*map(len, stages.values()), len(set(kept))]
        for reason, before, after in zip(stages, sizes, sizes[1:], strict=False):
            dropped[reason] += before - after
        return kept

    def distinct_paths(self, texts: list[str]) -> list[str]:
        """The texts that are no path of an earlier one."""
        if self.distinct == "equations":
            from lightning_gfn.answers.equation_normal_form import equations

            paths = {equations(text) or (normalised(text),): text for text in reversed(texts)}
            return list(paths.values())[::-1]
        if self.distinct == "rouge":
            from lightning_gfn.similarity.counting import leaders, similarities

            return [texts[i] for i in dict.fromkeys(leaders(similarities(texts, self.tokenizer) >= self.threshold))]
        return texts

    def equal_shares(self, sample: Sample, texts: Sequence[str]) -> list[str]:
        """The texts of one problem such that each class has as many, rarer ones repeated; classes in turn.

        Args:
            sample: of the problem.
            texts: that are left of it, each once.

        Raises:
            SampleError: the class map cannot label them.
        """
        assert self.classes is not None
        problem = Problem(sample.problem_id, sample.prompt)
        try:
            labels = self.classes.labels(problem, texts)
        except ValueError as error:
            raise SampleError(f"--classes: {error}") from error
        members: dict[str, list[str]] = {}
        for text, label in zip(texts, labels, strict=True):
            if label is not None:
                members.setdefault(label, []).append(text)
        classes = list(members.values())[: self.max_per_problem]
        share = max(map(len, classes), default=0)
        if self.max_per_problem is not None and classes:
            share = min(share, self.max_per_problem // len(classes))
        return [own[turn % len(own)] for turn in range(share) for own in classes]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line: the whole file or nothing."""
    replace_file(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``<file>.summary.json`` beside a file of rows, and print it in one line."""
    replace_file(path.with_suffix(".summary.json"), json.dumps(summary, indent=2) + "\n")
    print(f"{path}: " + ", ".join(f"{name} {value}" for name, value in summary.items()), flush=True)


def replace_file(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
