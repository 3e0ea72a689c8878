"""Prompts of sentence continuation: those that come with the suite, text files, splits, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.inference.continuation import SHIPPED, SentenceContinuation

REAL = Path("/work/shared/data/gfn_next_sentence/prompts.first9000.txt")


def test_the_shipped_prompts_are_split_as_in_the_paper() -> None:
    data = SentenceContinuation()
    train, test = data.problems("train"), data.problems("test")
    assert len(train) + len(test) == 1000 and 25 <= len(test) <= 75 and not data.problems("val")
    prompts = [problem.prompt for problem in (*train, *test)]
    assert len({" ".join(prompt.casefold().split()) for prompt in prompts}) == 1000
    assert all(prompt == prompt.rstrip() and prompt for prompt in prompts)
    assert all(problem.answer is None and not problem.solutions for problem in train)
    assert "MIT License" in json.loads(SHIPPED.with_name("source.json").read_text())["licence"]


@pytest.mark.skipif(not REAL.exists(), reason="the prompts of the paper's code are not here")
def test_the_published_file_is_read_whole_without_its_repeats() -> None:
    data = SentenceContinuation(str(REAL))
    assert len(data.problems("train")) + len(data.problems("test")) == 8958
    shipped = {problem.prompt for split in ("train", "test") for problem in SentenceContinuation().problems(split)}
    assert shipped <= {problem.prompt for split in ("train", "test") for problem in data.problems(split)}


def test_a_text_file_holds_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffOne. \r\n\r\nZwei: Äpfel. \nONE.\nThree?\n".encode())
    data = SentenceContinuation(str(file), test_fraction=0.0)
    assert [(p.prompt, p.id) for p in data.problems("train")] == [
        ("One.", "continuation/train/0"),
        ("Zwei: Äpfel.", "continuation/train/1"),
        ("Three?", "continuation/train/3"),
    ]
    kept = SentenceContinuation(str(file), test_fraction=0.0, keep_space=True)
    assert [p.prompt for p in kept.problems("train")] == ["One. ", "Zwei: Äpfel. ", "Three?"]


def test_other_containers_and_columns_serve_as_well(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "A first sentence. "}\n{"text": "Another."}\n')
    assert [p.prompt for p in SentenceContinuation(str(file), test_fraction=0.0).problems("train")] == [
        "A first sentence.",
        "Another.",
    ]


def test_faults_name_the_file_and_the_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent.txt does not exist"):
        SentenceContinuation("absent.txt")
    broken = tmp_path / "prompts.txt"
    broken.write_bytes(b"fine.\n\xff\xfe not text\n")
    with pytest.raises(ValueError, match=r"prompts\.txt:2.*not UTF-8"):
        SentenceContinuation(str(broken)).problems("train")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"empty\.txt:1: the file is empty"):
        SentenceContinuation(str(tmp_path / "empty.txt")).problems("train")
    with pytest.raises(ValueError, match="rows.jsonl:1: field 'prompt or text or question'"):
        (tmp_path / "rows.jsonl").write_text('{"sentence": "A."}\n')
        SentenceContinuation(str(tmp_path / "rows.jsonl")).problems("train")
