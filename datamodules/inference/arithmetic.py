"""Integer arithmetic by latent rationales: a question, a rationale that a calculator helps to write, an answer."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from datamodules.common.base import ProblemDataModule, Split
from datamodules.common.order import keyed_hash
from datamodules.inference.arithmetic_questions import ArithmeticQuestion, drawn, parsed, read_questions
from lightning_gfn.types import Problem

ANSWER = r"(?:=|is) (-?\d+)"
"""The last result, or the answer that is stated behind it."""
Solution = Literal["rationale", "answer"]


class IntegerArithmetic(ProblemDataModule):
    """Questions such as ``6 - 0 - 4``, of which some have a rationale (``6 - 0 = 6, 6 - 4 = 2``).

    A completion is the rationale, its evidence ``. The answer is 2.``; the full stop ends the completion
    (``policy.end_tokens: ["."]``). Training and validation have questions of ``operands``, the test those of
    ``test_operands``, so that longer ones show what carries over; no question is in two splits. Problems carry their
    number of operands as metadata, by which results are grouped.

    With files in the format of Hu et al. these are read instead; training questions that the test or validation holds
    are left out, and counted in a warning: of the published files a fifth of the test, or more, is in training.

    Args:
        operands: of training and validation questions.
        test_operands: of test questions.
        digits: of the largest operand.
        operators: between operands.
        num_train: training questions without a rationale.
        num_seeds: training questions with one.
        num_val: validation questions.
        num_test: test questions of each number of operands.
        train: all training questions, or those with a rationale alone (for supervised fine-tuning).
        solution: a reference solution is the rationale, or goes on with the evidence as far as its last full stop
            (``answer``), so that a model learns to state answers, too.
        shots: examples in front of each question, taken from those with a rationale.
        generator_seed: key of the questions; the same for runs that shall share their test.
        train_file: JSON of training questions without a rationale (``tool_1digit_34_op+-_hw.json``).
        seed_file: JSON of training questions with one (``…_train_50.json``).
        test_file: JSON of test questions (``…_test.json``).
        settings: arguments of ``ProblemDataModule``.

    Raises:
        ValueError: a number is out of range, or files are given for one part alone.

    Source: Hu et al. 2024, arXiv:2310.04363, section 4.4.
    """

    def __init__(
        self,
        *,
        operands: tuple[int, ...] = (3, 4),
        test_operands: tuple[int, ...] = (3, 4, 5, 6, 7, 8),
        digits: int = 1,
        operators: tuple[str, ...] = ("+", "-"),
        num_train: int = 1000,
        num_seeds: int = 50,
        num_val: int = 32,
        num_test: int = 50,
        train: Literal["all", "seeds"] = "all",
        solution: Solution = "rationale",
        shots: int = 0,
        generator_seed: int = 0,
        train_file: str | None = None,
        seed_file: str | None = None,
        test_file: str | None = None,
        prompt_template: str = "Question: {question} = ? Answer:",
        chat: Literal["on", "off"] = "off",
        **settings: Any,
    ) -> None:
        super().__init__(prompt_template=prompt_template, chat=chat, **settings)
        if not operands or not test_operands or min(*operands, *test_operands) < 2 or digits < 1:
            raise ValueError(
                f"data.operands={operands} and data.test_operands={test_operands} must be at least 2, digits={digits} "
                "at least 1"
            )
        if not operators or not set(operators) <= {"+", "-"}:
            raise ValueError(f"data.operators is {operators}, expected + and - or one of them")
        if min(num_train, num_val, shots) < 0 or num_seeds < 1 + shots:
            raise ValueError(
                f"data.num_train={num_train}, data.num_val={num_val} and data.shots={shots} must be at least 0, "
                f"data.num_seeds={num_seeds} more than the shots"
            )
        files = {"train_file": train_file, "seed_file": seed_file, "test_file": test_file}
        missing = [name for name, path in files.items() if path is None]
        if 0 < len(missing) < len(files):
            raise ValueError(f"data.{missing[0]} is missing: give all of {', '.join(files)}, or none")
        self.operands, self.test_operands, self.digits, self.operators = operands, test_operands, digits, operators
        self.num_train, self.num_seeds, self.num_val, self.num_test = num_train, num_seeds, num_val, num_test
        self.train, self.solution, self.shots = train, solution, shots
        self.generator_seed = generator_seed
        self.train_file, self.seed_file, self.test_file = train_file, seed_file, test_file
        self._questions: dict[str, list[ArithmeticQuestion]] | None = None

    def load_split(self, split: Split) -> list[Problem]:
        """The questions of a split; those with a rationale come first in training."""
        questions = self.questions()
        chosen = questions[split]
        if split == "train":
            chosen = questions["seeds"] + (chosen if self.train == "all" else [])
        return [self._problem(question, questions["seeds"]) for question in chosen]

    def questions(self) -> dict[str, list[ArithmeticQuestion]]:
        """Questions of ``seeds``, ``train``, ``val`` and ``test``, none in two of them."""
        if self._questions is None:
            self._questions = self._drawn() if self.test_file is None else self._read()
        return self._questions

    def _drawn(self) -> dict[str, list[ArithmeticQuestion]]:
        def draw(split: Split, operands: Collection[int], total: int) -> list[ArithmeticQuestion]:
            counts = [total // len(operands) + (place < total % len(operands)) for place in range(len(operands))]
            texts = [
                drawn(split, n, count, operators=self.operators, digits=self.digits, seed=self.generator_seed)
                for n, count in zip(operands, counts, strict=True)
            ]
            longest = max(map(len, texts), default=0)
            return [parsed(column[row]) for row in range(longest) for column in texts if row < len(column)]

        trained = draw("train", self.operands, self.num_seeds + self.num_train)
        return {
            "seeds": [_with_steps(question) for question in trained[: self.num_seeds]],
            "train": trained[self.num_seeds :],
            "val": draw("val", self.operands, self.num_val),
            "test": draw("test", self.test_operands, self.num_test * len(self.test_operands)),
        }

    def _read(self) -> dict[str, list[ArithmeticQuestion]]:
        assert self.train_file is not None and self.seed_file is not None and self.test_file is not None
        test = read_questions(self.test_file, "test_file", rationales=False)
        seeds = read_questions(self.seed_file, "seed_file", rationales=True)
        rest = read_questions(self.train_file, "train_file", rationales=False)
        shared = [len(part.keys() & test.keys()) for part in (rest, seeds)]
        if any(shared):
            rank_zero_warn(
                f"{shared[0]} of {len(rest)} questions of data.train_file and {shared[1]} of {len(seeds)} of "
                f"data.seed_file are among the {len(test)} of data.test_file and are left out of training"
            )
        seeds = {text: question for text, question in seeds.items() if text not in test}
        rest = {text: question for text, question in rest.items() if text not in test and text not in seeds}
        if not seeds:
            raise ValueError("data.seed_file: no question is left that the test does not hold")
        held = set(sorted(rest, key=lambda text: keyed_hash("validation", text))[: self.num_val])
        return {
            "seeds": list(seeds.values()),
            "train": [question for text, question in rest.items() if text not in held],
            "val": [rest[text] for text in sorted(held)],
            "test": list(test.values()),
        }

    def _problem(self, question: ArithmeticQuestion, examples: Collection[ArithmeticQuestion]) -> Problem:
        others = (example for example in examples if example.text != question.text)
        shots = "".join(self._shown(example) for example in islice(others, self.shots))
        evidence = f". The answer is {question.answer}."
        behind = evidence if self.solution == "answer" else ""
        return Problem(
            id=f"arithmetic/{len(question.numbers)}/{question.text.replace(' ', '')}",
            prompt=shots + self.prompt(question.text),
            answer=str(question.answer),
            solutions=() if question.rationale is None else (f" {question.rationale}{behind}",),
            evidence=evidence,
            answer_style=ANSWER,
            metadata={"operands": len(question.numbers)},
        )

    def _shown(self, question: ArithmeticQuestion) -> str:
        return f"{self.prompt(question.text)} {question.steps}. The answer is {question.answer}.\n"


def _with_steps(question: ArithmeticQuestion) -> ArithmeticQuestion:
    return ArithmeticQuestion(question.numbers, question.operators, question.steps)
