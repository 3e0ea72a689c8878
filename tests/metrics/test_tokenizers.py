"""Distinct correct solutions in any script: tokens, equal texts, the warning, and the way from YAML to the metric."""

from __future__ import annotations

import random
import unicodedata
import warnings

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.metrics.diversity import DistinctCorrect
from lightning_gfn.metrics.functional.estimates import (
    distinct_correct,
    distinct_correct_components,
    distinct_correct_expected,
)
from lightning_gfn.similarity import rouge
from lightning_gfn.similarity.counting import similarities
from lightning_gfn.similarity.rouge import read_share, rouge_l_f1_matrix, rouge_tokens, unicode_tokens
from lightning_gfn.types import EvalRecord, Problem

CHINESE = "小明有三个苹果，他又买了四个。三加四等于七。答案：七"
OTHER_CHINESE = "先买四个苹果，原来有三个，所以总数是四加三，得到七。"
GREEK = "Η Μαρία έχει τρία μήλα και αγοράζει τέσσερα. Τρία και τέσσερα είναι επτά."
OTHER_GREEK = "Αγοράζει τέσσερα μήλα, είχε τρία, άρα συνολικά επτά."
NO_LETTERS = "?! … — ★"
COUNTS = (distinct_correct, distinct_correct_expected, distinct_correct_components)


@pytest.fixture(autouse=True)
def fresh_warning() -> None:
    rouge._warn_of_unread_letters.cache_clear()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("She has 5 apples, don't!", ["she", "has", "5", "apples", "don", "t"]),
        ("三加4等于７。", ["三", "加", "4", "等", "于", "7"]),
        ("りんごが3個とバナナ", [*"りんごが", "3", "個", *"とバナナ"]),
        ("ΤΡΊΑ μήλα", ["τρία", "μήλα"]),
        ("Три яблока", ["три", "яблока"]),
        ("사과 세 개", ["사과", "세", "개"]),
        ("तीन सेब", ["तीन", "सेब"]),
        ("ثلاث تفاحات", ["ثلاث", "تفاحات"]),
        ("naïve café", ["naïve", "café"]),
        ("สามผล", ["ส", "า", "ม", "ผ", "ล"]),
        ("?! …", []),
    ],
)
def test_unicode_tokens(text: str, tokens: list[str]) -> None:
    assert unicode_tokens(text) == [unicodedata.normalize("NFKC", token).casefold() for token in tokens]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("tokenizer", ["rouge", "unicode"])
@pytest.mark.parametrize("text", [CHINESE, GREEK, NO_LETTERS, "", "3 + 4 = 7", "苹果 apple 7"])
@pytest.mark.filterwarnings("ignore:ROUGE-L")
def test_equal_texts_are_one_solution(count: object, tokenizer: str, text: str) -> None:
    assert count([text] * 4, [True] * 4, 0.7, tokenizer) == 1  # type: ignore[operator]
    assert count([text, f" {text}\n"], [True] * 2, 1.0, tokenizer) == 1  # type: ignore[operator]


def test_different_texts_of_other_scripts_are_different_solutions() -> None:
    ending = "\nThe answer is: 7"
    for one, other in ((CHINESE, OTHER_CHINESE), (GREEK, OTHER_GREEK)):
        texts = [one + ending, other + ending, one + ending]
        assert distinct_correct(texts, [True] * 3, 0.7, "unicode") == 2
    near = CHINESE.replace("小明", "小红")
    assert distinct_correct([CHINESE, near], [True] * 2, 0.7, "unicode") == 1
    assert distinct_correct([CHINESE, near], [True] * 2, 1.0, "unicode") == 2


def test_ascii_text_has_the_same_tokens_and_scores_by_either_tokenizer() -> None:
    generator = random.Random(0)
    words = ["She", "has", "5", "apples,", "a_b", "1,200", "don't", "=", "\n", "X2"]
    texts = [" ".join(generator.choices(words, k=generator.randrange(1, 15))) for _ in range(60)]
    for text in texts:
        assert [token.decode() for token in rouge_tokens(text)] == unicode_tokens(text)
    assert np.array_equal(rouge_l_f1_matrix(texts), rouge_l_f1_matrix(texts, "unicode"))
    assert np.array_equal(np.maximum(rouge_l_f1_matrix(texts), np.equal.outer(texts, texts)), similarities(texts))


def test_letters_that_are_not_read_are_said_once() -> None:
    with pytest.warns(UserWarning, match="tokenizer to unicode"):
        distinct_correct([CHINESE, OTHER_CHINESE], [True] * 2, 0.7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distinct_correct([GREEK, OTHER_GREEK], [True] * 2, 0.7)
        rouge._warn_of_unread_letters.cache_clear()
        distinct_correct([CHINESE, OTHER_CHINESE], [True] * 2, 0.7, "unicode")
        distinct_correct(["She has 3 €, naïve", "3 × 4 = 12 …", "→ π ≈ 3.14"], [True] * 3, 0.7)
    assert read_share([CHINESE]) == 0.0 and read_share(["abc", "déf"]) == 5 / 6 and read_share(["?!"]) == 1.0


def test_the_option_reaches_the_metric_from_yaml() -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(Evaluation, "evaluation")
    chosen = parser.instantiate(parser.parse_string("evaluation:\n  tokenizer: unicode\n")).evaluation
    default = parser.instantiate(parser.parse_string("evaluation: {}\n")).evaluation
    assert chosen.metric_settings["tokenizer"] == "unicode" and "tokenizer" not in default.metric_settings
    texts = (CHINESE + " 7", OTHER_CHINESE + " 7")
    record = EvalRecord(Problem("p", "?"), 1.0, texts, (True, True), (0.0,) * 2, (1,) * 2, (0.0,) * 2, (False,) * 2)
    metric = DistinctCorrect(tokenizer="unicode")
    assert metric.row(record)[0] == 2.0 and metric.meaning != DistinctCorrect().meaning == metric.keys
    with pytest.warns(UserWarning, match="tokenizer"):
        assert DistinctCorrect().row(record)[0] == 1.0
    for broken in (DistinctCorrect, Evaluation):
        with pytest.raises(ValueError, match="unknown tokenizer 'words'"):
            broken(tokenizer="words")  # type: ignore[arg-type]
