"""Problems of infilling from generated stories, rows, whole texts and text files, and what is said of wrong ones."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from jsonargparse import ArgumentParser

from datamodules.files.sentences import split_sentences, story_windows
from datamodules.inference.infilling import GeneratedStories, StoryInfilling, StoryTask

STORY = ("Tom had a kite.", "He loved it.", "One day it broke!", "He fixed it with tape.", "It flew again.")
HEADER = "storyid,storytitle,sentence1,sentence2,sentence3,sentence4,sentence5\n"


def csv_of(folder: Path, *stories: tuple[str, ...]) -> str:
    rows = [f"id{n},The Kite," + ",".join(f'"{text}"' for text in story) for n, story in enumerate(stories)]
    path = folder / "stories.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return str(path)


# ---------------------------------------------------------------- generated stories


def test_generated_stories_are_different_and_splits_share_no_scene() -> None:
    data = GeneratedStories()
    splits = {split: data.problems(split) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert [len(problems) for problems in splits.values()] == [900, 50, 100]
    assert len({problem.prompt for problems in splits.values() for problem in problems}) == 1050

    def scenes(split: str) -> set[str]:
        """The stories without their names."""
        first = {problem.prior_prompt or "" for problem in splits[split]}
        return {text.split("old ", 1)[1].split(".")[0] + text.split(".")[2] + place_of(text) for text in first}

    def place_of(text: str) -> str:
        return next(word for word in text.replace(".", "").split() if word in data.world.places)

    assert not scenes("train") & scenes("test") and not scenes("train") & scenes("val")
    again = GeneratedStories(generator_seed=1).problems("test")
    assert {problem.id for problem in again} != {problem.id for problem in splits["test"]}


def test_a_generated_problem_holds_its_posterior() -> None:
    for problem in GeneratedStories().problems("test"):
        (fourth,) = problem.solutions
        assert problem.target is not None and problem.evidence is not None and problem.prior_prompt is not None
        assert fourth in problem.target and set(problem.target) == set(problem.solution_set or ())
        assert 2 <= len(problem.target) <= 8
        assert math.fsum(map(math.exp, problem.target.values())) <= 1.0 + 1e-9
        agreement = problem.metadata["agreement"]
        assert set(agreement["both"]) == set(problem.target) <= set(agreement["beginning"])
        assert problem.prompt == f"Ending:{problem.evidence[1:]}\nStory: {problem.prior_prompt}"
        assert fourth[0] == " " and "." not in fourth and problem.evidence.startswith(". ")


def test_whole_stories_are_those_of_the_problems() -> None:
    whole = GeneratedStories(task=StoryTask(part="story")).problems("train")
    asked = GeneratedStories().problems("train")
    for story, problem in zip(whole, asked, strict=True):
        text = f"{problem.prior_prompt}{problem.solutions[0]}{problem.evidence}"
        assert story.id == problem.id and story.prompt + story.solutions[0] == text
        assert story.target is None and story.evidence is None


def test_the_policy_may_write_the_mark_itself() -> None:
    problem = GeneratedStories(task=StoryTask(end="")).problems("test")[0]
    assert all(text.endswith(".") for text in problem.target or ()) and problem.solutions[0] in (problem.target or ())
    assert problem.evidence is not None and problem.evidence[0] == " "


def test_more_stories_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    data = GeneratedStories(num_test=10_000)
    people = {"Anna": "she"}
    data.world = replace(data.world, people=people, mishaps={"lost": data.world.mishaps["lost"]})
    monkeypatch.setattr("datamodules.generators.splits.MAX_VAIN_DRAWS", 500)
    with pytest.raises(ValueError, match=r"hardly more than \d+ different test stories: lower data.num_test"):
        data.problems("test")


def test_prompts_end_where_the_sentence_begins_also_when_made_from_yaml(tmp_path: Path) -> None:
    """YAML fills in the defaults of base classes, whose template ends in a new line."""
    own = ["--data.path", csv_of(tmp_path, STORY), "--data.test_path", csv_of(tmp_path, STORY)]
    for kind, arguments in ((GeneratedStories, []), (StoryInfilling, own)):
        parser = ArgumentParser()
        parser.add_class_arguments(kind, "data")
        data = parser.instantiate_classes(parser.parse_args(arguments)).data
        assert all(problem.prompt.endswith(problem.prior_prompt) for problem in data.problems("test"))


# ---------------------------------------------------------------- stories of one's own


def test_rows_of_rocstories(tmp_path: Path) -> None:
    data = StoryInfilling(csv_of(tmp_path, STORY), test_fraction=0.0, val_fraction=0.0)
    (problem,) = data.problems("train")
    assert problem.id == "story/train/id0" and problem.metadata == {"storyid": "id0", "storytitle": "The Kite"}
    assert problem.prompt == "Ending: It flew again.\nStory: Tom had a kite. He loved it. One day it broke!"
    assert problem.prior_prompt == "Tom had a kite. He loved it. One day it broke!"
    assert problem.solutions == (" He fixed it with tape",) and problem.evidence == ". It flew again."
    assert problem.target is None and problem.answer is None


def test_a_story_in_one_column(tmp_path: Path) -> None:
    path = tmp_path / "stories.jsonl"
    path.write_text(
        '{"text": "Tom had a kite. He loved it. One day it broke! He fixed it with tape. It flew again."}\n'
    )
    data = StoryInfilling(str(path), task=StoryTask(part="story"), test_fraction=0.0, val_fraction=0.0)
    (problem,) = data.problems("train")
    assert problem.prompt == STORY[0] and problem.solutions == (" " + " ".join(STORY[1:]),)
    path.write_text('{"text": "Tom had a kite. He loved it."}\n')
    with pytest.raises(ValueError, match=r"stories.jsonl:1: field 'text': expected five sentences, found 2"):
        StoryInfilling(str(path), test_fraction=0.0, val_fraction=0.0).problems("train")


def test_a_text_file_is_cut_into_windows(tmp_path: Path) -> None:
    path = tmp_path / "tiny.txt"
    stories = [
        " ".join(f"Story {story} has part {part}." for part in range(length)) for story, length in enumerate((11, 4, 5))
    ]
    path.write_text("\n<|endoftext|>\n".join(stories) + "\n<|endoftext|>\n")
    rows = list(story_windows(path))
    assert [(row.where.rpartition(":")[2], row.key) for row in rows] == [("1", "0:0"), ("1", "0:1"), ("5", "2:0")]
    data = StoryInfilling(str(path), test_fraction=0.4, val_fraction=0.0)
    found = {"train": data.load_split("train"), "test": data.load_split("test")}
    problems = [problem for split in found.values() for problem in split]
    homes = {split for split, own in found.items() if any("/0:" in problem.id for problem in own)}
    assert len(problems) == 3 and len(homes) == 1, "a story has one split"
    problem = next(problem for problem in problems if problem.id.endswith("0:1"))
    assert problem.solutions == (" Story 0 has part 8",) and problem.evidence == ". Story 0 has part 9."


def test_the_sample_of_tinystories(shared_data: Path) -> None:
    path = shared_data / "tinystories_sample" / "tinystories_sample.txt"
    problems = StoryInfilling(str(path), test_fraction=0.0, val_fraction=0.0).problems("train")
    assert len(problems) == 14 and problems[0].evidence == ". When Ben saw it he was amazed!"
    assert all("." not in problem.solutions[0] for problem in problems)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He ran. She sat.", ["He ran.", "She sat."]),
        ("Mr. Fox saw Dr. Owl. It was 3.5 m away.", ["Mr. Fox saw Dr. Owl.", "It was 3.5 m away."]),
        ('He said, "Go!" Then he left...  He slept', ['He said, "Go!"', "Then he left..."]),
        ("“Can I buy it?” she asked. “No.”", ["“Can I buy it?” she asked.", "“No.”"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


def test_a_point_inside_the_fourth_sentence_is_told(tmp_path: Path) -> None:
    path = csv_of(tmp_path, STORY, (*STORY[:3], "He met Mr. Fox.", STORY[4]))
    with pytest.raises(ValueError, match=r"stories.csv:3: field 'sentence4': holds '\.' before its end.*data.task.end"):
        StoryInfilling(path, test_fraction=0.0).problems("train")
    with pytest.warns(UserWarning, match="skipped 1 of 2"):
        assert len(StoryInfilling(path, test_fraction=0.0, val_fraction=0.0, on_bad_row="skip").problems("train")) == 1
    data = StoryInfilling(path, test_fraction=0.0, val_fraction=0.0, task=StoryTask(end=""))
    assert [problem.solutions[0] for problem in data.problems("train")] == [f" {STORY[3]}", " He met Mr. Fox."]


def test_quotation_marks_stay_behind_the_last_mark() -> None:
    assert StoryTask().fourth('He said, "Run!"') == ' He said, "Run"' and StoryTask().fourth("Why?!") == " Why"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda path: StoryTask(part=cast(Any, "fifth")), "data.task.part is 'fifth', expected fourth or story"),
        (lambda path: StoryTask(layout="{beginning}"), "data.task.layout must hold {beginning} and {ending}"),
        (lambda path: StoryTask(end=";"), "data.task.end is ';'"),
        (lambda path: StoryInfilling("nowhere/stories.txt"), "data.path: nowhere/stories.txt does not exist"),
        (
            lambda path: StoryInfilling(csv_of(path, (*STORY[:4], ""))).problems("train"),
            "stories.csv:2: field 'sentence5': expected a sentence, found None",
        ),
    ],
)
def test_errors_name_field_and_remedy(tmp_path: Path, call: Any, said: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        call(tmp_path)
    assert said in str(caught.value)
