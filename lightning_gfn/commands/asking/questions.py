"""Problems that a command line asks: prompts, rows of a file, or problems of a run's own data set."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lightning_gfn.answers.extraction import check_style
from lightning_gfn.commands.asking.classes import build, class_at
from lightning_gfn.commands.asking.columns import NUMBER, guess_style
from lightning_gfn.commands.asking.file_rows import PROBLEM_FILE, column_settings, guess_file
from lightning_gfn.commands.asking.sources import ModelSource, section
from lightning_gfn.types import Problem


@dataclass(frozen=True)
class Form:
    """How a question becomes a prompt, and how a completion is read.

    Args:
        prompt_template: with ``{question}``.
        chat: ``auto``, ``on`` or ``off``, as data sets know it.
        system_prompt: of conversations.
        answer_style: how a completion writes its answer; None where nobody has said so.
    """

    prompt_template: str
    chat: str
    system_prompt: str | None
    answer_style: str | None


def form_of(source: ModelSource, options: argparse.Namespace, *, has_chat: bool) -> Form:
    """The form that the run's data have, or that fits the model, changed by what the user says.

    Args:
        source: the model.
        options: ``prompt_template``, ``chat``, ``system_prompt`` and ``answer_style``, None where not given.
        has_chat: the tokenizer has a chat template.

    Raises:
        ValueError: the answer style is unknown, or a class of the run's data cannot be imported.
    """
    block = source.data_block
    while isinstance(inner := section(block, "init_args").get("problems"), Mapping):
        block = inner  # preferences and samples are wrapped around the problems that are asked
    if isinstance(block.get("class_path"), str):
        form = form_of_data(block)
    else:
        form = Form("{question}" if has_chat else "{question}\n", "on" if has_chat else "off", None, None)
    names = ("prompt_template", "chat", "system_prompt", "answer_style")
    found = replace(form, **{name: value for name in names if (value := getattr(options, name)) is not None})
    if found.answer_style is not None:
        check_style(found.answer_style)
    return found


def form_of_data(block: Mapping[str, Any]) -> Form:
    """The form that the data set of a run gives its prompts."""
    make, settings = class_at(block["class_path"]), section(block, "init_args")
    parameters = inspect.signature(make.__init__).parameters
    default = parameters["prompt_template"].default if "prompt_template" in parameters else "{question}\n"
    style = settings.get("answer_style")
    return Form(
        settings.get("prompt_template", default),
        settings.get("chat", "auto"),
        settings.get("system_prompt"),
        style if style is not None else getattr(make, "answer_style", None),
    )


def asked_problems(source: ModelSource, form: Form, options: argparse.Namespace) -> list[Problem]:
    """What the command line asks.

    Raises:
        ValueError: it asks nothing, or two things at once; a row does not exist.
        FileNotFoundError: the file does not exist.
    """
    kinds = {"PROMPT": bool(options.prompts), "--file": options.file is not None, "--split": options.split is not None}
    if sum(kinds.values()) != 1:
        raise ValueError("give one of PROMPT…, --file FILE, and (of a run) --split train, val or test")
    if options.prompts:
        return prompts_as_problems(form, options.prompts, options.answer)
    if options.answer is not None:
        raise ValueError("--answer belongs to a PROMPT: rows have their own")
    data = data_of_file(form, options) if options.file is not None else data_of_run(source)
    problems = data.problems("train" if options.file is not None else options.split)
    chosen = options.row if options.row else [1]
    for number in chosen:
        if not 1 <= number <= len(problems):
            raise ValueError(f"--row {number}: there are {len(problems)} rows, counted from 1")
    return [problems[number - 1] for number in chosen]


def prompts_as_problems(form: Form, prompts: Sequence[str], answers: Sequence[str] | None) -> list[Problem]:
    """Questions of the command line, each with its answer if there are any.

    Raises:
        ValueError: some have an answer and others none.
    """
    if answers and len(answers) != len(prompts):
        raise ValueError(f"there are {len(prompts)} prompts and {len(answers)} times --answer: give one for each")
    data = class_at("datamodules.common.base.ProblemDataModule")
    maker = type("Asked", (data,), {"load_split": lambda self, split: []})(
        prompt_template=form.prompt_template, chat=form.chat, system_prompt=form.system_prompt
    )
    known = answers if answers else [None] * len(prompts)
    style = form.answer_style if form.answer_style is not None else style_of_answers([a for a in known if a])
    return [
        Problem(f"asked/{question}", maker.prompt(question), answer, answer_style=style)
        for question, answer in zip(prompts, known, strict=True)
    ]


def style_of_answers(answers: Sequence[str]) -> str:
    """How answers are read where nobody says how they are written."""
    return "last_number" if all(NUMBER.fullmatch(answer) for answer in answers) else guess_style((), answers)[0]


def data_of_file(form: Form, options: argparse.Namespace) -> Any:
    """A data set of the rows of a file, all of them training rows."""
    guessed, rows = guess_file(options.file, options.columns)
    if guessed.kind not in ("problems", "messages"):
        raise ValueError(f"{options.file} holds {guessed.kind}, expected questions or conversations")
    style = form.answer_style
    if style is None:
        texts = {part: column_texts(rows, guessed.columns.get(part)) for part in ("solution", "answer")}
        style = guess_style(texts["solution"], texts["answer"])[0]
    return class_at(PROBLEM_FILE)(
        options.file,
        prompt_template=form.prompt_template,
        chat=form.chat,
        system_prompt=form.system_prompt,
        columns=column_settings(guessed),
        answer_style=style,
        val_fraction=0.0,
    )


def column_texts(rows: Sequence[Mapping[str, Any]], column: str | None) -> list[str]:
    """The texts of a column, numbers as they are written."""
    values = [row.get(column) for row in rows] if column is not None else []
    return [str(value) for value in values if isinstance(value, (str, int, float)) and str(value).strip()]


def data_of_run(source: ModelSource) -> Any:
    """The data set of a run.

    Raises:
        ValueError: no run is known, or its data cannot be read.
    """
    if not source.data_block:
        raise ValueError(f"--split belongs to a run, but {source.name} is none: give --file FILE")
    data = build(source.data_block)
    data.prepare_data()
    return data
