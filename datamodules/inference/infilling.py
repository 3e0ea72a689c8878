"""Stories of five sentences whose fourth is missing: it is to be sampled given what stands before and after it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from datamodules.common.base import Chat, ProblemDataModule, Split
from datamodules.common.order import keyed_hash
from datamodules.common.row_data import RowDataModule
from datamodules.common.rows import BadRow, Row
from datamodules.files.containers import TEXT
from datamodules.files.sentences import COLUMNS, OPENING, split_sentences, story_windows
from datamodules.generators.splits import distinct_draws
from datamodules.generators.stories import Story, StoryWorld
from lightning_gfn.types import Problem

MARKS = ".!?"
FINAL_MARKS = re.compile(r"""[.!?]+(["'\u201d\u2019)]*)$""")
LAYOUT = "Ending: {ending}\nStory: {beginning}"


@dataclass(frozen=True)
class StoryTask:
    """How five sentences become a problem.

    - ``fourth``: the policy reads sentences 1 to 3 and 5 in some layout and writes the fourth; the prior reads 1 to 3
      (``Problem.prior_prompt``) and goes on with the fourth and the fifth (``Problem.evidence``).
    - ``story``: sentences 2 to 5 follow the first, for the supervised stage that makes the prior.

    Args:
        part: which of the two.
        layout: the policy's prompt of a ``fourth``, with ``{beginning}`` and ``{ending}``. One that ends in the
            beginning lets a model of stories go on with a likely fourth sentence before it has learned anything.
        end: mark that ends the fourth sentence in the policy's stead: its stop stands for it (``policy.end_tokens``),
            and the evidence begins with it. Empty where the policy writes the mark itself.

    Raises:
        ValueError: an argument is none that is known.
    """

    part: Literal["fourth", "story"] = "fourth"
    layout: str = LAYOUT
    end: str = "."

    def __post_init__(self) -> None:
        if self.part not in ("fourth", "story"):
            raise ValueError(f"data.task.part is {self.part!r}, expected fourth or story")
        if any(self.layout.count(name) != 1 for name in ("{beginning}", "{ending}")):
            raise ValueError(
                f"data.task.layout must hold {{beginning}} and {{ending}} exactly once, got {self.layout!r}"
            )
        if self.end not in ("", *MARKS):
            raise ValueError(f"data.task.end is {self.end!r}, expected '.', '!', '?' or nothing")

    def fourth(self, sentence: str) -> str:
        """The fourth sentence as the policy is to write it, the space before it included.

        Raises:
            ValueError: it holds the mark that stops the policy before its end.
        """
        if not self.end:
            return f" {sentence if FINAL_MARKS.search(sentence) else sentence + '.'}"
        body = FINAL_MARKS.sub(r"\1", sentence)
        if self.end in body:
            raise ValueError(
                f"holds {self.end!r} before its end, where the policy would stop: set data.on_bad_row to skip, or "
                "data.task.end to '' and leave policy.end_tokens out"
            )
        return f" {body}"

    def problem(self, data: ProblemDataModule, id_: str, sentences: tuple[str, ...]) -> Problem:
        """The problem of a story.

        Args:
            data: fills its prompt template.
            id_: of the problem.
            sentences: the five.

        Raises:
            ValueError: the fourth sentence cannot be asked for.
        """
        written = self.fourth(sentences[3])
        behind = f"{self.end} {sentences[4]}"
        if self.part == "story":
            text = f" {sentences[1]} {sentences[2]}{written}{behind}"
            return Problem(id=id_, prompt=data.prompt(sentences[0]), solutions=(text,))
        beginning = " ".join(sentences[:3])
        question = self.layout.replace("{beginning}", beginning).replace("{ending}", sentences[4])
        return Problem(
            id=id_, prompt=data.prompt(question), solutions=(written,), evidence=behind, prior_prompt=beginning
        )


class StoryInfilling(RowDataModule):
    """Stories of one's own: ROCStories' rows, whole texts, or a text file of many stories.

    Rows have the columns ``sentence1`` to ``sentence5``, or ``text`` (or ``story``) with five sentences. In a text file
    (``.txt``) stories are divided by ``<|endoftext|>``, as TinyStories', and each is cut into windows of five
    sentences; all windows of a story go to one split.

    Args:
        path: hub name, text file, or file or folder of rows, as ``RowDataModule`` reads them.
        task: how a story becomes a problem.
        test_fraction: share of the stories for testing where there is no test split.
        prompt_template: the prompt, with ``{question}`` where the filled ``task.layout`` stands.
        chat: prompts are continued as they stand (``off``), or pass through the chat template.
        settings: arguments of ``RowDataModule``.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: an option makes no sense.

    Source: Mostafazadeh et al. 2016, arXiv:1604.01696 (ROCStories); Eldan and Li 2023, arXiv:2305.07759 (TinyStories).
    """

    id_prefix = "story"
    aliases = {
        "question": (COLUMNS[0], "text", "story"),
        "id": ("storyid", "id"),
        "group": (OPENING,),
    }
    answer_style = "metamath"
    solution_styles = ()

    def __init__(
        self,
        path: str,
        *,
        task: StoryTask | None = None,
        test_fraction: float = 0.1,
        prompt_template: str = "{question}",
        chat: Chat = "off",
        **settings: Any,
    ) -> None:
        super().__init__(path, test_fraction=test_fraction, prompt_template=prompt_template, chat=chat, **settings)
        self.task = task if task is not None else StoryTask()

    def _rows(self, split: Split) -> Iterator[Row | BadRow]:
        file = self._files.get(split)
        return story_windows(file) if file is not None and file.suffix == TEXT else super()._rows(split)

    def problem(self, row: Row, source: Split) -> Problem:
        """The problem of a story.

        Raises:
            BadRow: there are not five sentences, or the fourth cannot be asked for.
        """
        sentences = self._sentences(row)
        id_ = self._text(row, "id")
        try:
            name = f"{self.id_prefix}/{source}/{id_ if id_ is not None else row.key}"
            problem = self.task.problem(self, name, sentences)
        except ValueError as error:
            raise BadRow(row.where, COLUMNS[3], str(error)) from error
        used = {*COLUMNS, OPENING, self._column(row, "question")}
        return replace(problem, metadata={name: value for name, value in row.fields.items() if name not in used})

    def _sentences(self, row: Row) -> tuple[str, ...]:
        text = self._text(row, "question", required=True)
        column = self._column(row, "question")
        if column != COLUMNS[0]:
            found = tuple(split_sentences(text))
            if len(found) != len(COLUMNS):
                raise BadRow(row.where, column, f"expected five sentences, found {len(found)}")
            return found
        for name in COLUMNS:
            value = row.fields.get(name)
            if not isinstance(value, str) or not value.strip():
                raise BadRow(row.where, name, f"expected a sentence, found {value!r:.80}")
        return tuple(row.fields[name].strip() for name in COLUMNS)


class GeneratedStories(ProblemDataModule):
    """Stories with a known structure: of each the exact posterior of the fourth sentence is known.

    Somebody goes somewhere with a thing, something goes wrong, something is done about it, and it ends somehow. The
    fourth sentence has to agree with person, place, thing and mishap before it and with the outcome behind it. Place,
    thing and mishap decide the split of a story, so that a test story is no training story under other names and words.
    ``Problem.target`` holds the log weight p(fourth sentence, outcome | scene) of every sentence that agrees with both
    sides, and ``metadata["agreement"]`` the sentences that agree with the ``beginning`` and with ``both``.

    Args:
        task: how a story becomes a problem.
        num_train: training stories.
        num_val: validation stories.
        num_test: test stories.
        generator_seed: key of the stories; independent of the training order.
        prompt_template: the prompt, with ``{question}`` where the filled ``task.layout`` stands.
        chat: prompts are continued as they stand (``off``), or pass through the chat template.
        settings: arguments of ``ProblemDataModule``.

    Raises:
        ValueError: more different stories are asked for than there are.

    Source: the task is that of Hu et al. 2024, arXiv:2310.04363, section 4.2; the stories are our own.
    """

    def __init__(
        self,
        *,
        task: StoryTask | None = None,
        num_train: int = 900,
        num_val: int = 50,
        num_test: int = 100,
        generator_seed: int = 0,
        prompt_template: str = "{question}",
        chat: Chat = "off",
        **settings: Any,
    ) -> None:
        super().__init__(prompt_template=prompt_template, chat=chat, **settings)
        self.task = task if task is not None else StoryTask()
        self.sizes: dict[Split, int] = {"train": num_train, "val": num_val, "test": num_test}
        self.generator_seed = generator_seed
        self.world = StoryWorld()

    def load_split(self, split: Split) -> list[Problem]:
        """Different stories of a split, in the order in which they were drawn."""
        random = Random(f"{self.generator_seed}/{split}")

        def draw() -> tuple[tuple[str, ...], int, Story]:
            story = self.world.draw(random)
            scene = story.scene
            return told_by(story), keyed_hash("scene", scene.place, scene.thing, scene.mishap), story

        drawn = distinct_draws(split, self.sizes[split], draw)
        if len(drawn) < self.sizes[split]:
            raise ValueError(
                f"there are hardly more than {len(drawn)} different {split} stories: lower data.num_{split}"
            )
        return [self.problem_of(story) for story in drawn]

    def problem_of(self, story: Story) -> Problem:
        """The problem of a story, with all that is known of its fourth sentence."""
        name = f"story/{keyed_hash('story', *told_by(story)):016x}"
        problem = self.task.problem(self, name, story.sentences)
        if self.task.part == "story":
            return problem
        fourth = self.task.fourth
        deeds = {fourth(text): deed for text, deed in self.world.continuations(story.scene).items()}
        target = {fourth(text): weight for text, weight in self.world.posterior(story.scene, story.outcome).items()}
        return replace(
            problem,
            target=target,
            solution_set={text: deeds[text] for text in target},
            metadata={
                "mishap": story.scene.mishap,
                "outcome": story.outcome,
                "agreement": {"beginning": tuple(deeds), "both": tuple(target)},
            },
        )


def told_by(story: Story) -> tuple[str, ...]:
    """What is shown of a story: all but its fourth sentence."""
    return (*story.sentences[:3], story.sentences[4])
