"""Problems that are made from a seed: levels of difficulty, splits that share no numbers, every solution known."""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Collection, Mapping
from random import Random
from typing import Any, ClassVar, Protocol

from datamodules.common.base import ProblemDataModule, Split
from datamodules.common.order import keyed_hash
from datamodules.generators.splits import distinct_draws
from lightning_gfn.answers import check_style
from lightning_gfn.types import AnswerStyle, Problem


class GeneratedProblem(Protocol):
    """One drawn problem."""

    @property
    def level(self) -> int:
        """Level of difficulty."""

    @property
    def question(self) -> str:
        """The question in words."""

    @property
    def answer(self) -> int:
        """The right answer."""

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The numbers of a problem, without words and order; those that share them are the same problem to a solver."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Strata of reports."""

    def solutions(self) -> dict[str, str]:
        """Every correct completion, mapped to the label of its path."""


class GeneratedProblems(ProblemDataModule):
    """Problems drawn by ``sample`` until each level has its share of different ones.

    The numbers of a problem decide its split by one rule for all families, so training problems of one family share no
    numbers with test problems of another.

    Args:
        levels: share of each level of difficulty.
        num_train: training problems.
        num_val: validation problems.
        num_test: test problems.
        generator_seed: key of the problems; independent of the training order, so that runs of several seeds share
            their test problems.
        answer_style: how completions write their answer, as in ``RowDataModule``; the reference solutions end in
            ``The answer is: ANSWER``.
        rationales: False takes what stands before that line out of the reference solutions that training reads: a model
            is taught to answer at once.
        style_shares: weights of the parts of a path's label (``{steps: 40, story: 12, forward: 3}``), 1 where none is
            given. Each training problem then has one reference solution, drawn in proportion to the product of its
            parts' weights, so that a supervised model prefers some ways of solving to others; validation and test keep
            all. None leaves every training problem all of its solutions.
        settings: arguments of ``ProblemDataModule``.

    Raises:
        ValueError: a level does not exist, shares are not positive, or a level has too few different problems.
    """

    id_prefix: ClassVar[str]
    """Prefix of the problem ids."""
    known_levels: ClassVar[Collection[int]]
    """Levels that ``sample`` can draw."""

    def __init__(
        self,
        *,
        levels: dict[int, float],
        num_train: int = 4000,
        num_val: int = 64,
        num_test: int = 128,
        generator_seed: int = 0,
        answer_style: AnswerStyle = "metamath",
        rationales: bool = True,
        style_shares: dict[str, float] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.levels = levels
        unknown = sorted(set(levels) - set(self.known_levels))
        if unknown or not levels or min(levels.values()) <= 0:
            raise ValueError(
                f"data.levels must map levels out of {sorted(self.known_levels)} to positive shares, got {levels}"
            )
        self.sizes: dict[Split, int] = {"train": num_train, "val": num_val, "test": num_test}
        self.generator_seed = generator_seed
        check_style(answer_style)
        self.answer_style = answer_style
        self.rationales = rationales
        if style_shares is not None and (not style_shares or min(style_shares.values()) < 0):
            raise ValueError(f"data.style_shares must map parts of paths to weights of at least 0, got {style_shares}")
        self.style_shares = style_shares

    @abstractmethod
    def sample(self, random: Random, level: int) -> GeneratedProblem:
        """Draw a problem of a level."""

    def load_split(self, split: Split) -> list[Problem]:
        """The problems of a split, levels mixed."""
        drawn = [
            generated
            for level, count in self._counts(self.sizes[split]).items()
            for generated in self._draw(split, level, count)
        ]
        Random(f"{self.generator_seed}/{split}").shuffle(drawn)
        self._check_styles(drawn)
        return [self._problem(generated, split) for generated in drawn]

    def _counts(self, total: int) -> dict[int, int]:
        """How many problems of each level, by cumulative rounding so that they add up."""
        whole, cumulated, given = sum(self.levels.values()), 0.0, 0
        counts = {}
        for level, share in self.levels.items():
            cumulated += share
            counts[level] = round(total * cumulated / whole) - given
            given += counts[level]
        return counts

    def _draw(self, split: Split, level: int, count: int) -> list[GeneratedProblem]:
        random = Random(f"{self.generator_seed}/{split}/{level}")

        def draw() -> tuple[object, int, GeneratedProblem]:
            generated = self.sample(random, level)
            key = generated.question if split == "train" else generated.numbers
            return key, keyed_hash("numbers", json.dumps(generated.numbers)), generated

        drawn = distinct_draws(split, count, draw)
        if len(drawn) < count:
            raise ValueError(
                f"level {level} has only {len(drawn)} different {split} problems, {count} are asked "
                f"for. Lower data.num_{split}, or the "
                f"share of level {level} in data.levels."
            )
        return drawn

    def _check_styles(self, drawn: list[GeneratedProblem]) -> None:
        """Refuse weights of parts that no path has."""
        if self.style_shares is None:
            return
        known = {part for generated in drawn for path in generated.solutions().values() for part in path.split("/")}
        unknown = sorted(set(self.style_shares) - known)
        if unknown:
            raise ValueError(f"data.style_shares: no path has the part {unknown[0]!r}; there are {sorted(known)}")

    def _drawn_solution(self, paths: Mapping[str, str], key: str) -> str:
        """One solution of a problem, in proportion to the weights of its path."""
        assert self.style_shares is not None
        shares = self.style_shares
        weights = [math.prod(shares.get(part, 1.0) for part in path.split("/")) for path in paths.values()]
        if not sum(weights):
            raise ValueError(
                f"data.style_shares leaves a problem no solution: all of {sorted(paths.values())} have weight 0"
            )
        return Random(f"{key}/style").choices(list(paths), weights)[0]

    def _problem(self, generated: GeneratedProblem, split: Split) -> Problem:
        question = generated.question
        key = f"{keyed_hash('question', question):016x}"
        paths = generated.solutions()
        texts = list(paths)
        Random(key).shuffle(texts)
        if self.style_shares is not None and split == "train":
            texts = [self._drawn_solution(paths, key)]
        if not self.rationales:
            texts = list(dict.fromkeys(text.rpartition("\n")[2] for text in texts))
        return Problem(
            id=f"{self.id_prefix}/{generated.level}/{key}",
            prompt=self.prompt(question),
            answer=str(generated.answer),
            solutions=tuple(texts),
            solution_set=paths,
            answer_style=self.answer_style,
            metadata=generated.metadata,
        )
