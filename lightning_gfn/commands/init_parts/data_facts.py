"""What a file gives to a run: its data set, the split, and how much of it can be read and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_gfn.answers import are_equivalent, extract_answer, is_equivalent
from lightning_gfn.commands.asking.classes import class_at
from lightning_gfn.commands.asking.columns import Guess, guess_style
from lightning_gfn.commands.asking.file_rows import PROBLEM_FILE, column_settings
from lightning_gfn.commands.asking.questions import column_texts
from lightning_gfn.types import Problem

PREFERENCES = "datamodules.preference.PreferenceDataModule"
THEOREMS = "datamodules.lean_text.LeanText"
SHARES = (0.1, 0.2, 0.3, 0.4)
"""Shares of the rows that are set aside to test, the first that gives some and leaves some."""
WRITE_IT = {
    "gsm8k": 'End with a line "#### ANSWER".',
    "metamath": 'End with "The answer is: ANSWER".',
    "math": "Put the final answer in \\boxed{}.",
}
"""What a chat model is told, so that its answer can be read."""


@dataclass
class DataFacts:
    """A file as a configuration needs to know it.

    Args:
        path: as it was given.
        guessed: columns and kind.
        class_path: of the data set.
        settings: arguments of the data set, sizes left out.
        notes: for each argument what is to be said of it.
        train: training problems; of preferences those of their prompts.
        test: test problems.
        num_rows: training rows that can be used.
        examples: preferences or judged completions to train on.
        skipped: rows that cannot be read, and the first of them.
    """

    path: str
    guessed: Guess
    class_path: str
    settings: dict[str, Any]
    notes: dict[str, str] = field(default_factory=dict)
    train: Sequence[Problem] = ()
    test: Sequence[Problem] = ()
    num_rows: int = 0
    examples: Sequence[Any] = ()
    skipped: str = ""

    @property
    def solutions(self) -> list[str]:
        """Reference solutions of the training problems, or completions to train on."""
        if self.examples:
            pairs = [(getattr(one, "chosen", None), getattr(one, "rejected", None)) for one in self.examples]
            return [text for pair in pairs for text in pair if text is not None] or [
                one.completion for one in self.examples
            ]
        return [text for problem in self.train for text in problem.solutions]

    @property
    def answered(self) -> int:
        """Training problems with a reference answer."""
        return sum(problem.answer is not None for problem in self.train)

    @property
    def read_right(self) -> tuple[int, int]:
        """Reference solutions whose answer is read and equals the reference, and all that could."""
        pairs = [(problem, text) for problem in self.train for text in problem.solutions if problem.answer is not None]
        right = sum(are_equivalent([(extract_answer(text, p.answer_style), p.answer) for p, text in pairs[:1000]]))
        return right, len(pairs[:1000])


@dataclass(frozen=True)
class Wishes:
    """What the user and the method want of the data.

    Args:
        columns: that the user has named, by field.
        style: how completions write their answer; None to guess.
        template: of prompts; None for the one that fits.
        chat: the model has a chat template.
        samples: the method samples completions itself, which need not look like the file's solutions.
    """

    columns: Mapping[str, str] | None
    style: str | None
    template: str | None
    chat: bool
    samples: bool


def look_at_data(path: str, guessed: Guess, rows: Sequence[Mapping[str, Any]], wishes: Wishes) -> DataFacts:
    """What a file or folder gives, read as a run would read it.

    Args:
        path: of the rows.
        guessed: what they are.
        rows: those that were looked at.
        wishes: of the user and the method.

    Raises:
        ValueError: no row can be used.
    """
    if guessed.kind == "theorems":
        return theorem_facts(path, guessed)
    if guessed.kind in ("preferences", "labels"):
        return preference_facts(path, guessed, wishes.chat)
    return problem_facts(path, guessed, rows, wishes)


def problem_facts(path: str, guessed: Guess, rows: Sequence[Mapping[str, Any]], wishes: Wishes) -> DataFacts:
    """Questions with answers or solutions."""
    settings: dict[str, Any] = {"path": path}
    notes: dict[str, str] = {}
    columns = column_settings(guessed)
    if guessed.kind == "problems":
        columns = {"question": guessed.columns["question"], **columns}
    if columns:
        settings["columns"] = columns
        notes["columns"] = "others are found by their usual names (docs/formats.md)"
    style, why = (wishes.style, "you named it") if wishes.style is not None else choose_style(guessed, rows, wishes)
    settings["answer_style"] = style
    notes["answer_style"] = (
        f"how a completion writes its answer: {why}. Others: gsm8k (#### 12), math (\\boxed{{12}}), metamath (The "
        "answer is: 12), last_number, or a pattern such as 'A: (.+)'"
    )
    told = "\n" + WRITE_IT[style] if style in WRITE_IT and wishes.samples else ""
    fitting = "{question}" + told if wishes.chat else "{question}\n"
    settings["prompt_template"] = wishes.template if wishes.template is not None else fitting
    settings["chat"] = "on" if wishes.chat and guessed.kind == "problems" else "auto"
    notes["chat"] = (
        "the tokenizer has a chat template, which prompts pass through" if wishes.chat else "rows of messages alone"
    )
    return read_splits(DataFacts(path, guessed, PROBLEM_FILE, settings, notes))


def choose_style(guessed: Guess, rows: Sequence[Mapping[str, Any]], wishes: Wishes) -> tuple[str, str]:
    """How completions are read: as the file's solutions write their answers; of a chat model that samples itself the
    last number, where that comes to the same."""
    solutions, answers = reference_texts(guessed, rows)
    style, why = guess_style(solutions, answers)
    if not (wishes.chat and wishes.samples and solutions) or style == "last_number":
        return style, why
    pairs = [(extract_answer(text, style), extract_answer(text, "last_number")) for text in solutions]
    if all(last is not None and found is not None and is_equivalent(last, found) for found, last in pairs):
        return (
            "last_number",
            f"the solutions write it as {style}, which a chat model need not do; their last number is it",
        )
    return style, why


def reference_texts(guessed: Guess, rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Solutions and answers of the rows, those of conversations and of verl's rows too."""
    solutions, answers = (column_texts(rows, guessed.columns.get(part)) for part in ("solution", "answer"))
    if not answers:
        nested = class_at("datamodules.files.columns.value_at")
        answers = [str(value) for row in rows if (value := nested(row, "reward_model.ground_truth")) is not None]
    if guessed.kind == "messages":
        turns = [row.get(next(iter(guessed.columns))) for row in rows]
        last = [turn[-1] for turn in turns if isinstance(turn, list) and turn and isinstance(turn[-1], Mapping)]
        solutions = [str(one.get("content", one.get("value", ""))) for one in last]
    return solutions, answers


def read_splits(facts: DataFacts) -> DataFacts:
    """Read the rows, with test rows set aside where there are none, and broken rows left out if there are some.

    Raises:
        ValueError: no row can be used.
    """
    make = class_at(facts.class_path)
    try:
        data = make(**facts.settings, val_fraction=0.0)
        data.problems("train")
    except ValueError as error:
        facts.settings["on_bad_row"] = "skip"
        data = make(**facts.settings, val_fraction=0.0)
        data.problems("train")
        facts.skipped = str(error).partition(". Correct the row")[0]
        facts.notes["on_bad_row"] = f"{data.num_skipped['train']} rows cannot be used; the first: {facts.skipped}"
    own_test = bool(data.has_test_rows)
    facts.settings["val_fraction"] = 0.0
    facts.notes["val_fraction"] = "share of the training rows to validate on; set trainer.limit_val_batches with it"
    shares = (0.0,) if own_test else SHARES
    for share in shares:
        data = make(**facts.settings, test_fraction=share)
        train, test = data.load_split("train"), data.load_split("test")
        if train and test:
            break
    else:
        data = make(**facts.settings, test_path=facts.path)
        train, test = data.problems("train"), data.problems("test")
        facts.settings["test_path"] = facts.path
        facts.notes["test_path"] = "too few rows to set some aside: the test asks what was trained on"
    if not own_test and "test_path" not in facts.settings:
        facts.settings["test_fraction"] = share
        facts.notes["test_fraction"] = f"{len(test)} rows are set aside to test on, {len(train)} are left to train on"
    facts.train, facts.test, facts.num_rows = train, test, len(train)
    return facts


def preference_facts(path: str, guessed: Guess, chat: bool) -> DataFacts:
    """Pairs or judged completions, and their prompts as the problems that are sampled in a test."""
    if "prompt" not in guessed.columns:
        raise ValueError(
            f"{path}: pairs without a column 'prompt' can be trained on, but leave nothing to test: write the prompts "
            "into a column, or write the configuration by hand after experiments/math/dpo.yaml"
        )
    problems = {
        "path": path,
        "columns": {"question": "prompt", "solution": "chosen" if guessed.kind == "preferences" else "completion"},
        "prompt_template": "{question}" if chat else "{question}\n",
        "chat": "on" if chat else "auto",
        "answer_style": "last_number",
    }
    inner = read_splits(DataFacts(path, guessed, PROBLEM_FILE, problems))
    template = problems["prompt_template"]
    data = class_at(PREFERENCES)(class_at(PROBLEM_FILE)(**inner.settings), path=path, prompt_template=template)
    data.setup("fit")
    settings = {"path": path, "prompt_template": template}
    facts = DataFacts(path, guessed, PREFERENCES, settings, inner.notes, inner.train, inner.test, inner.num_rows)
    facts.examples, facts.num_rows = data.examples, len(data.examples)
    facts.settings["problems"] = {"class_path": PROBLEM_FILE, "init_args": inner.settings}
    facts.notes["problems"] = "what a test samples: the prompts of the same file (without answers none counts as right)"
    return facts


def theorem_facts(path: str, guessed: Guess) -> DataFacts:
    """Statements in Lean.

    Raises:
        ValueError: there are too few to train and to test.
    """
    settings: dict[str, Any] = {"path": path, "train_fraction": 0.8}
    make = class_at(THEOREMS)
    notes: dict[str, str] = {}
    data = make(**settings)
    try:
        train, test = data.load_split("train"), data.load_split("test")
    except ValueError as error:
        settings["on_bad_row"] = "skip"
        data = make(**settings)
        train, test = data.load_split("train"), data.load_split("test")
        notes["on_bad_row"] = (
            f"rows that cannot be used are left out; the first: {str(error).partition('. Correct')[0]}"
        )
    if not train or not test:
        raise ValueError(f"{path}: {len(train) + len(test)} theorems are too few to train on some and test the others")
    notes["train_fraction"] = f"{len(train)} theorems to train on, {len(test)} to test"
    return DataFacts(path, guessed, THEOREMS, settings, notes, train, test, len(train))
