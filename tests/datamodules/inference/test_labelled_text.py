"""Classifications from files: labels in words, noise, examples, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.inference.labelled_text import LabelledText
from datamodules.inference.posterior_samples import PosteriorSamples
from datamodules.inference.subjectivity import Subjectivity
from lightning_gfn.answers import extract_answer
from lightning_gfn.prompts.chat import ChatPrompt

WORDS = {"0": "dull", "1": "lively"}


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return written(tmp_path / "train.jsonl", [{"text": f"text {n}", "label": n % 2} for n in range(20)])


def test_the_label_follows_a_rationale_or_is_the_completion(file: str) -> None:
    latent = LabelledText(file, labels=WORDS, prompt_template="Q {question}\n").problems("train")[1]
    assert latent.prompt == "Q text 1\nThis text is" and latent.evidence == ", so it is lively"
    assert latent.answer == "lively" and latent.solutions == ()
    assert latent.labels == {"dull": ", so it is dull", "lively": ", so it is lively"}
    bare = LabelledText(file, labels=WORDS, rationale="none").problems("train")[0]
    assert bare.evidence is None and bare.solutions == (" dull",) and bare.answer == "dull"
    assert extract_answer(" it is lively", bare.answer_style) == "lively"


def test_reference_rationales_and_other_columns_are_read(tmp_path: Path) -> None:
    rows = [{"body": "a", "mood": "x", "rationale": "so slow"}, {"body": "b", "mood": "y", "rationale": " so quick"}]
    path = written(tmp_path / "rows.jsonl", rows)
    data = LabelledText(path, labels={"x": "dull", "y": "lively"}, columns={"question": "body", "answer": "mood"})
    assert [problem.solutions for problem in data.problems("train")] == [(" so slow",), (" so quick",)]


def test_noise_gives_exactly_its_share_another_label_by_seed(file: str) -> None:
    def wrong(share: float, seed: int = 0) -> set[str]:
        data = LabelledText(file, labels=WORDS, label_noise=share, seed=seed, test_path=file)
        assert all(p.answer == WORDS[str(p.metadata["label"])] for p in data.problems("test"))
        found = data.problems("train")
        assert all(p.evidence == f", so it is {p.answer}" for p in found) and data.problems("train") is found
        return {p.id for p in found if p.answer != WORDS[str(p.metadata["label"])]}

    assert [len(wrong(share)) for share in (0.0, 0.2, 0.5, 1.0)] == [0, 4, 10, 20]
    assert wrong(0.2) < wrong(0.5) and wrong(0.2, seed=1) != wrong(0.2)


def test_examples_stand_before_test_prompts_alone(file: str) -> None:
    data = LabelledText(file, labels=WORDS, rationale="none", shots=4, test_path=file)
    prompt = data.problems("test")[0].prompt
    assert prompt.endswith("\n\ntext 0\nThis text is") and prompt.count("This text is") == 5
    assert prompt.count("is dull\n\n") == 2 and prompt.count("is lively\n\n") == 2
    assert data.problems("train")[0].prompt == "text 0\nThis text is"
    other = LabelledText(file, labels=WORDS, rationale="none", shots=4, test_path=file, seed=1)
    assert other.problems("test")[0].prompt != prompt
    with pytest.raises(ValueError, match="only 20 training rows"):
        LabelledText(file, labels=WORDS, rationale="none", shots=21, test_path=file).problems("test")


def test_a_conversation_begins_the_answer_and_shows_examples_as_turns(file: str) -> None:
    settings: dict[str, Any] = {"chat": "on", "prompt_template": "Judge: {question}", "system_prompt": "Be brief."}
    data = LabelledText(file, labels=WORDS, rationale="none", shots=2, test_path=file, **settings)
    prompt = data.problems("test")[0].prompt
    assert isinstance(prompt, ChatPrompt)
    assert [turn.role for turn in prompt.messages] == ["system", *["user", "assistant"] * 3]
    assert prompt.messages[-1].content == "This text is" and prompt.messages[-2].content == "Judge: text 0"
    assert prompt.messages[2].content in ("This text is dull", "This text is lively")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "a", "label": 0}, {"text": "b", "label": 7}], r"rows\.jsonl:2: field 'label': '7' is no label"),
        ([{"text": "a", "label": 0}, {"text": "b"}], r"rows\.jsonl:2: field 'label_text or label or answer': missing"),
        ([{"text": " ", "label": 0}], r"rows\.jsonl:1: field 'text': expected text"),
        ([{"label": 0}], r"rows\.jsonl:1: field 'text or sentence or review or content or question': missing"),
    ],
)
def test_rows_without_a_known_label_are_refused_by_line(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LabelledText(written(tmp_path / "rows.jsonl", rows), labels=WORDS).problems("train")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labels": {"0": "dull"}}, "two different words"),
        ({"labels": {"0": "dull", "1": "dull thing"}}, "begins"),
        ({"labels": WORDS, "statement": " so it is"}, "hold {label} exactly once"),
        ({"labels": WORDS, "rationale": "some"}, "expected latent or none"),
        ({"labels": WORDS, "shots": 2}, "set data.rationale to none"),
        ({"labels": WORDS, "label_noise": 1.5}, "label_noise is 1.5"),
    ],
)
def test_settings_that_make_no_sense_are_named(file: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LabelledText(file, **settings)


def test_subj_rows_are_read_by_either_label_column(tmp_path: Path) -> None:
    rows = [{"text": "a film", "label": 1, "label_text": "subjective"}, {"text": "she leaves", "label": 0}]
    first, second = Subjectivity(written(tmp_path / "rows.jsonl", rows)).problems("train")
    assert (first.answer, second.answer) == ("subjective", "objective")
    assert first.prompt.endswith('"a film"\nThis review is')


def test_every_sample_of_the_posterior_is_trained_on_with_its_evidence(file: str, tmp_path: Path) -> None:
    data = LabelledText(file, labels=WORDS, test_path=file)
    id_ = data.problems("train")[1].id
    rows = [{"problem_id": id_, "completion": text} for text in (" quick", " quick", "")]
    samples = PosteriorSamples(data, path=written(tmp_path / "predictions.jsonl", rows))
    found = samples.problems("train")
    assert [p.solutions for p in found] == [(z + ", so it is lively",) for z in (" quick", " quick", "")]
    assert [p.id for p in found] == [f"{id_}#{n}" for n in range(3)]
    assert samples.problems("test") == data.problems("test")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"problem_id": "labelled/train/99", "completion": "a"}, "predictions.jsonl:1: field 'problem_id'"),
        ({"problem_id": "labelled/train/1"}, "predictions.jsonl:1: field 'completion'"),
        ({"problem_id": "labelled/train/1", "completion": "a", "prompt": "else"}, "the data have changed"),
    ],
)
def test_samples_of_other_data_are_refused_by_line(file: str, tmp_path: Path, row: dict[str, Any], said: str) -> None:
    path = written(tmp_path / "predictions.jsonl", [row])
    with pytest.raises(ValueError, match=said):
        PosteriorSamples(LabelledText(file, labels=WORDS), path=path).problems("train")
    with pytest.raises(ValueError, match="has no evidence"):
        row = {"problem_id": "labelled/train/1", "completion": "a"}
        path = written(tmp_path / "predictions.jsonl", [row])
        PosteriorSamples(LabelledText(file, labels=WORDS, rationale="none"), path=path).problems("train")
