"""``ProblemDataModule``, the base class of data sets of problems, limits splits and builds loaders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import Literal

from lightning import LightningDataModule

from datamodules.common.order import EvalLoader, TrainLoader, keyed_hash
from lightning_gfn.prompts.chat import ChatPrompt, Message
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.prompts.question_template import QUESTION
from lightning_gfn.types import Problem

Split = Literal["train", "val", "test"]
Chat = Literal["auto", "on", "off"]


class ProblemDataModule(LightningDataModule, ABC):
    """Problems in batches of ``list[Problem]``; a data set implements ``load_split`` and nothing else.

    Args:
        batch_size: problems a training batch, counted over all devices.
        eval_batch_size: problems a batch of each device in validation, test and prediction.
        seed: key of the training order; independent of the split into training, validation and test.
        prompt_template: the prompt, with ``{question}`` where the question stands; not applied to rows of messages.
        chat: whether prompts pass through the tokenizer's chat template: those of rows that hold messages (``auto``),
            all, the filled template being the message of the user (``on``), or none (``off``).
        system_prompt: a system message for conversations without one; needs ``chat: on``.
        drop_last: leave out the smaller last batch of an epoch.
        max_train: use at most so many training problems, chosen by their ids.
        max_val: the same for validation.
        max_test: the same for the test split.
        predict_split: the split that ``predict`` samples.

    Raises:
        ValueError: a size is not positive, the template does not hold ``{question}`` once, or ``chat`` is unknown.
    """

    proof_prompt: ProofPrompt | None = None
    """What a policy reads, where problems are theorems."""

    def __init__(
        self,
        *,
        batch_size: int = 16,
        eval_batch_size: int = 16,
        seed: int = 0,
        prompt_template: str = "{question}\n",
        chat: Chat = "auto",
        system_prompt: str | None = None,
        drop_last: bool = False,
        max_train: int | None = None,
        max_val: int | None = None,
        max_test: int | None = None,
        predict_split: Split = "test",
    ) -> None:
        super().__init__()
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size < 1:
                raise ValueError(f"data.{name} must be at least 1, got {size}")
        if prompt_template.count(QUESTION) != 1:
            raise ValueError(f"data.prompt_template must hold {QUESTION} exactly once, got {prompt_template!r}")
        if chat not in ("auto", "on", "off"):
            raise ValueError(f"data.chat is {chat!r}; it must be auto, on or off")
        if system_prompt is not None and (chat != "on" or not system_prompt.strip()):
            raise ValueError("data.system_prompt needs visible text and data.chat: on")
        self.limits: dict[Split, int | None] = {"train": max_train, "val": max_val, "test": max_test}
        for split, limit in self.limits.items():
            if limit is not None and limit < (0 if split == "val" else 1):
                raise ValueError(f"data.max_{split} is {limit}: too small, use null for all problems")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.prompt_template = prompt_template
        self.chat: Chat = chat
        self.system_prompt = system_prompt
        self.drop_last = drop_last
        self.predict_split: Split = predict_split
        self.places: dict[str, str] = {}
        """File and line of each problem that was read from one, by id."""
        self.dropped: set[str] = set()
        """Ids of problems that are left out."""
        self._loaded: dict[Split, list[Problem]] = {}

    @abstractmethod
    def load_split(self, split: Split) -> list[Problem]:
        """All problems of a split, their ids unique over the splits; an empty list where there is no such split."""

    def prompt(self, question: str) -> str:
        """The prompt of a question, which may be a conversation."""
        if self.chat == "off" or not (isinstance(question, ChatPrompt) or self.chat == "on"):
            return self.prompt_template.replace(QUESTION, question)
        if not isinstance(question, ChatPrompt):
            question = ChatPrompt([Message("user", self.prompt_template.replace(QUESTION, question))])
        if self.system_prompt is None or question.messages[0].role in ("system", "developer"):
            return question
        return ChatPrompt([Message("system", self.system_prompt), *question.messages])

    def problems(self, split: Split) -> list[Problem]:
        """The problems of a split within its limit, loaded once.

        Raises:
            ValueError: two problems share an id, or the split is empty and is not the validation split.
        """
        if split not in self._loaded:
            problems = self.load_split(split)
            self._check_ids(split, problems)
            limit = self.limits[split]
            if limit is not None and limit < len(problems):
                chosen = set(sorted((p.id for p in problems), key=lambda id_: (keyed_hash("limit", id_), id_))[:limit])
                problems = [problem for problem in problems if problem.id in chosen]
            if not problems and split != "val":
                raise ValueError(
                    f"{type(self).__name__} found no {split} problems: check the data and the options that filter it"
                )
            self._loaded[split] = self._without_dropped(split, problems)
        return self._loaded[split]

    def _without_dropped(self, split: Split, problems: list[Problem]) -> list[Problem]:
        return [problem for problem in problems if problem.id not in self.dropped] if self.dropped else problems

    def drop(self, ids: set[str]) -> None:
        """Leave out these problems from now on, for instance because their prompts are too long."""
        self.dropped |= ids
        self._loaded = {split: self._without_dropped(split, problems) for split, problems in self._loaded.items()}

    def num_loaded(self) -> dict[Split, int]:
        """How many problems each split has that was loaded."""
        return {split: len(problems) for split, problems in self._loaded.items()}

    def _check_ids(self, split: Split, problems: list[Problem]) -> None:
        counts = Counter(problem.id for problem in problems)
        counts.update({problem.id for other in self._loaded.values() for problem in other} & counts.keys())
        for id_, count in counts.items():
            if count > 1:
                raise ValueError(f"the problem id {id_!r} occurs more than once ({split} split); ids must be unique")

    def setup(self, stage: str) -> None:
        """Load the splits of a stage.

        Raises:
            ValueError: a process would get no problems of a batch or of a split.
        """
        for split in self.splits_of(stage):
            self.problems(split)
            if split != "val" or self.trainer is None or self.trainer.limit_val_batches:
                getattr(self, f"{'predict' if stage == 'predict' else split}_dataloader")()  # refuses sizes

    def splits_of(self, stage: str) -> tuple[Split, ...]:
        """The splits that a stage uses."""
        needed: dict[str, tuple[Split, ...]] = {
            "fit": ("train", "val"),
            "validate": ("val",),
            "predict": (self.predict_split,),
        }
        return needed.get(stage, ("test",))

    @property
    def has_test_rows(self) -> bool:
        """Whether test problems are read from a file, so that they are looked at before training as well."""
        return False

    def examined_splits(self, stage: str) -> tuple[Split, ...]:
        """The splits whose texts are looked at before a stage; an empty test split is an error of the test alone."""
        splits = self.splits_of(stage)
        return (*splits, "test") if stage == "fit" and self.has_test_rows and self.load_split("test") else splits

    def texts_of(self, stage: str) -> Iterator[tuple[Split, str, str, tuple[str, ...]]]:
        """What a stage reads as it stands, for checks of lengths: split, id, prompt and completions to train on.

        Fitting looks at the test split too, where it is read from a file: a test that fails is found before training.
        """
        for split in self.examined_splits(stage):
            for problem in self.problems(split):
                if problem.theorem is None:
                    yield split, problem.id, problem.prompt, problem.solutions

    def training_texts(self) -> Iterator[str]:
        """Prompt and solution of every reference solution of the training split, for tokenizers trained on the data."""
        for problem in self.problems("train"):
            for solution in problem.solutions if problem.solutions else ("",):
                yield problem.prompt + solution

    @property
    def problems_per_process(self) -> int:
        """The fewest problems that a process gets of a full training batch."""
        return min(self.batch_size, len(self.problems("train"))) // self._ranks()[1]

    def train_dataloader(self) -> TrainLoader:
        """Resumable batches of the training split, each as often as the module makes updates on it."""
        rank, world_size = self._ranks()
        module = getattr(self.trainer, "lightning_module", None)
        return TrainLoader(
            self.problems("train"),
            batch_size=self.batch_size,
            seed=self.seed,
            drop_last=self.drop_last,
            repeats=getattr(module, "updates_per_rollout", 1),
            rank=rank,
            world_size=world_size,
        )

    def val_dataloader(self) -> EvalLoader | list[EvalLoader]:
        """Batches of the validation split; an empty list, so that Lightning skips validation, where it is empty."""
        return self._eval_loader("val") if self.problems("val") else []

    def test_dataloader(self) -> EvalLoader:
        """Batches of the test split."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> EvalLoader:
        """Batches of the split to be sampled."""
        return self._eval_loader(self.predict_split)

    def _ranks(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _eval_loader(self, split: Split) -> EvalLoader:
        rank, world_size = self._ranks()
        return EvalLoader(self.problems(split), batch_size=self.eval_batch_size, rank=rank, world_size=world_size)
