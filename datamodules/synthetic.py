"""Grade-school word problems made from a seed, each with all of its solutions."""

from __future__ import annotations

import json
from random import Random

from datamodules.base import ProblemDataModule, Split
from datamodules.order import keyed_hash
from datamodules.synthetic_grammar import LEVELS, WordProblem, sample_problem
from lightning_gfn.types import Problem

SHARES: dict[Split, tuple[float, float]] = {"test": (0.0, 0.2), "val": (0.2, 0.3), "train": (0.3, 1.0)}
"""Which part of the hash range of a problem's numbers each split draws from."""
MAX_VAIN_DRAWS = 20_000
"""Draws in a row without a new problem after which a level counts as exhausted."""


class SyntheticWordProblems(ProblemDataModule):
    """Sums of products in words, in MetaMath's format, with up to twelve correct solution paths a problem.

    A path is one of six styles (operations in sentences, a story, an equation, skip counting, undoing, place values)
    in one of two directions. The numbers of a problem decide its split, so training, validation and test share no
    problem under any change of names, things or order; problems of validation and test all differ in their numbers.

    Args:
        levels: share of each level of difficulty: 1, 2 and 3 have two, three and four summands, 4 and 5 four and
            five larger ones.
        num_train: training problems.
        num_val: validation problems.
        num_test: test problems.
        generator_seed: key of the problems; independent of the training order, so that runs of several seeds share
            their test problems.
        prompt_template: the prompt, with ``{question}`` where the question stands.
        batch_size: problems a training batch, counted over all devices.
        eval_batch_size: problems a batch of each device in validation, test and prediction.
        seed: key of the training order.
        drop_last: leave out the smaller last batch of an epoch.

    Raises:
        ValueError: a level does not exist, shares are not positive, or a level has too few different problems.
    """

    def __init__(
        self,
        *,
        levels: dict[int, float] | None = None,
        num_train: int = 4000,
        num_val: int = 64,
        num_test: int = 128,
        generator_seed: int = 0,
        prompt_template: str = "{question}\n",
        batch_size: int = 16,
        eval_batch_size: int = 16,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            prompt_template=prompt_template,
            drop_last=drop_last,
        )
        self.levels = levels if levels is not None else {1: 0.5, 2: 0.5}
        unknown = sorted(self.levels.keys() - LEVELS.keys())
        if unknown or not self.levels or min(self.levels.values()) <= 0:
            raise ValueError(
                f"data.levels must map levels out of {sorted(LEVELS)} to positive shares, got {self.levels}"
            )
        self.sizes: dict[Split, int] = {"train": num_train, "val": num_val, "test": num_test}
        self.generator_seed = generator_seed

    def load_split(self, split: Split) -> list[Problem]:
        """The problems of a split, levels mixed."""
        drawn = [
            word_problem
            for level, count in self._counts(self.sizes[split]).items()
            for word_problem in self._draw(split, level, count)
        ]
        Random(f"{self.generator_seed}/{split}").shuffle(drawn)
        return [self._problem(word_problem) for word_problem in drawn]

    def _counts(self, total: int) -> dict[int, int]:
        """How many problems of each level, by cumulative rounding so that they add up."""
        whole, cumulated, given = sum(self.levels.values()), 0.0, 0
        counts = {}
        for level, share in self.levels.items():
            cumulated += share
            counts[level] = round(total * cumulated / whole) - given
            given += counts[level]
        return counts

    def _draw(self, split: Split, level: int, count: int) -> list[WordProblem]:
        random = Random(f"{self.generator_seed}/{split}/{level}")
        low, high = SHARES[split]
        drawn: dict[object, WordProblem] = {}
        vain = 0
        while len(drawn) < count and vain < MAX_VAIN_DRAWS:
            word_problem = sample_problem(random, level)
            key = word_problem.question if split == "train" else word_problem.numbers
            if key in drawn or not low <= keyed_hash("numbers", json.dumps(word_problem.numbers)) / 2**64 < high:
                vain += 1
                continue
            drawn[key] = word_problem
            vain = 0
        if len(drawn) < count:
            raise ValueError(
                f"level {level} has only {len(drawn)} different {split} problems, {count} are asked "
                f"for. Lower data.num_{split}, or the "
                f"share of level {level} in data.levels."
            )
        return list(drawn.values())

    def _problem(self, word_problem: WordProblem) -> Problem:
        question = word_problem.question
        key = f"{keyed_hash('question', question):016x}"
        paths = word_problem.solutions()
        texts = list(paths)
        Random(key).shuffle(texts)
        return Problem(
            id=f"synthetic/{word_problem.level}/{key}",
            prompt=self.prompt(question),
            answer=str(word_problem.answer),
            solutions=tuple(texts),
            solution_set=paths,
            answer_style="metamath",
            metadata={"level": word_problem.level},
        )
