"""Self-BLEU, equations and embeddings of the correct samples against nltk, hand-written cases and plain loops."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

from datamodules.generators.synthetic_grammar import DIRECTIONS, LEVELS, STYLES, sample_problem
from lightning_gfn.answers.equation_normal_form import equations
from lightning_gfn.callbacks.evaluation import Evaluation
from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.metrics.diversity import Coverage, DistinctEquations, SelfBleu
from lightning_gfn.metrics.embeddings import EmbeddingDistance
from lightning_gfn.metrics.functional import bleu
from lightning_gfn.metrics.functional.bleu import bleu_tokens, self_bleu
from lightning_gfn.similarity.embedder import TextEmbedder, embedder
from lightning_gfn.types import EvalRecord, Problem

KEY = "embedding_distance"


def record(texts: Sequence[str], correct: Sequence[bool] | None = None, problem: Problem | None = None) -> EvalRecord:
    count = len(texts)
    return EvalRecord(
        problem=problem if problem is not None else Problem("p", "?"),
        temperature=1.0,
        completions=tuple(texts),
        correct=tuple(correct) if correct is not None else (True,) * count,
        log_probs=(0.0,) * count,
        lengths=(1,) * count,
        entropies=(0.0,) * count,
        truncated=(False,) * count,
    )


def value(metric: PerProblemMetric, taken: EvalRecord) -> dict[str, float]:
    metric.update(taken)
    return metric.per_problem()[taken.problem.id]


# ---------------------------------------------------------------- self-BLEU


def by_nltk(texts: Sequence[str]) -> list[float]:
    translate = pytest.importorskip("nltk.translate.bleu_score")
    smoothing = translate.SmoothingFunction(epsilon=0.1).method1
    tokens = [bleu_tokens(text) for text in texts]
    return [
        translate.sentence_bleu(tokens[:i] + tokens[i + 1 :], words, smoothing_function=smoothing)
        for i, words in enumerate(tokens)
    ]


def random_texts(generator: random.Random, count: int) -> list[str]:
    words = ["she", "has", "5", "x", "12", "apples", "and", "=", "+", "3"]
    return [" ".join(generator.choices(words, k=generator.randrange(1, 25))) for _ in range(count)]


def test_self_bleu_equals_nltk() -> None:
    generator = random.Random(0)
    seen = []
    for count in (2, 3, 8, 8, 8, 12):
        texts = random_texts(generator, count)
        texts[-1] = texts[0] if count > 3 else texts[-1]
        found = self_bleu(texts)
        assert found == pytest.approx(by_nltk(texts), abs=1e-12)
        seen += found.tolist()
    for level in LEVELS:
        texts = list(sample_problem(random.Random(level), level).solutions())
        assert self_bleu(texts) == pytest.approx(by_nltk(texts), abs=1e-12)
    assert len(set(seen)) > 20


def test_unclipped_counts_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def unclipped(*values: Any, key: Any = None) -> Any:
        return max(values) if isinstance(values[0], int) else min(*values, key=key)

    monkeypatch.setattr(bleu, "min", unclipped, raising=False)
    with pytest.raises(AssertionError):
        test_self_bleu_equals_nltk()


def test_self_bleu_at_its_ends() -> None:
    same = "3 bags hold 3 * 9 = 27."
    assert self_bleu([same, same, same]).tolist() == [1.0, 1.0, 1.0]
    assert self_bleu(["a b c d e", "1 2 3 4 5"]).tolist() == [0.0, 0.0]
    assert self_bleu([same]).tolist() == [0.0] and self_bleu([]).tolist() == []
    assert bleu_tokens("Ann's 3.50*2=7") == ["ann", "'", "s", "3.50", "*", "2", "=", "7"]


def test_self_bleu_looks_at_correct_pairs_only() -> None:
    texts = ["a b c d e", "a b c d f", "x x x x"]
    mean = float(self_bleu(texts[:2]).mean())
    assert value(SelfBleu(), record(texts, [True, True, False])) == {"self_bleu": pytest.approx(mean)}
    assert value(SelfBleu(), record(texts, [True, False, False])) == {}


# ---------------------------------------------------------------- equations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("48/2 = <<48/2=24>>24 clips. So $5 * 3 = $15.00, 1,200 + 3 = 1203.", ("48/2=24", "5*3=15", "1200+3=1203")),
        ("Let x be all. x = 3 * 9 + 5 = 27 + 5 = 32.", ("x=3*9+5=27+5=32",)),
        (r"\frac{1}{2} \times 4 = 2, 3 x 4 = 12, 8 ÷ 2 = 4, 5 − 1 = 4", ("(1)/(2)*4=2", "3*4=12", "8/2=4", "5-1=4")),
        ("(3 + 4) * 2 = 14 and 007 + .50 = 7.5", ("(3+4)*2=14", "7+0.5=7.5")),
        ("- 3 + 4 = 7\n- 2 * 2 = 4", ("3+4=7", "2*2=4")),
        ("1 + 1 = 2\n3 + 4 = 7", ("1+1=2", "3+4=7")),
        ("x = 32 is no operation, 3 * 9 no equation, a-b, 3 boxes * 4 = 12, 2019-2020", ()),
        ("Take 27 from the bags, adding 5 from the rest makes 32.\nThe answer is: 32", ()),
        ("", ()),
    ],
)
def test_normal_form(text: str, expected: tuple[str, ...]) -> None:
    assert equations(text) == expected


def test_layout_does_not_matter_and_numbers_do() -> None:
    assert equations("so  3*9   =27 and\t27 +5= 32") == equations("3 * 9 = 27. 27 + 5 = $32.0!")
    assert equations("3 * 9 = 27") != equations("9 * 3 = 27") != equations("3 * 9 = 28")


def test_long_junk_is_read_quickly() -> None:
    for junk in (" " * 50_000, "(" * 2_000, "1 + " * 5_000, "- " * 5_000):
        assert equations(junk) == ()


@pytest.mark.parametrize("level", LEVELS)
def test_known_paths_of_the_synthetic_problems(level: int) -> None:
    """Four of the six styles write equations: each a sequence of its own in each direction, the others none."""
    for seed in range(30):
        problem = sample_problem(random.Random(seed), level)
        by_path = {label: equations(text) for text, label in problem.solutions().items()}
        silent = {label for label, found in by_path.items() if not found}
        assert {label.split("/")[0] for label in silent} == {"story", "count"}
        told = {found for found in by_path.values() if found}
        if len(by_path) == len(STYLES) * len(DIRECTIONS) and len({s.value for s in problem.summands}) == len(
            problem.summands
        ):
            assert len(told) == len(by_path) - len(silent)
        texts = list(problem.solutions())
        found = value(DistinctEquations(), record(texts))
        assert found["distinct_equation_sequences"] == len(set(by_path.values()))
        assert found["distinct_equation_sets"] == len({frozenset(chain) for chain in by_path.values()})


def test_order_counts_in_sequences_and_not_in_sets() -> None:
    texts = ["1 + 2 = 3. 2 * 2 = 4.", "2 * 2 = 4. 1 + 2 = 3.", "Well: 1+2=3, 2*2=4", "no sum", "none", "1 + 2 = 3"]
    correct = [True, True, True, True, True, False]
    found = value(DistinctEquations(), record(texts, correct))
    assert found == {"distinct_equation_sequences": 3.0, "distinct_equation_sets": 2.0}
    nothing = value(DistinctEquations(), record(texts, [False] * 6))
    assert nothing == {"distinct_equation_sequences": 0.0, "distinct_equation_sets": 0.0}


def test_paths_found_are_counted_beside_their_share() -> None:
    known = {"a b": "one", "b a": "one", "c": "two", "d": "three", "e": "four"}
    found = value(Coverage(), record(["a  b", "b a", "c\n", "z"], problem=Problem("p", "?", solution_set=known)))
    assert found == {"coverage": 0.5, "solution_paths_found": 2.0}
    assert value(Coverage(), record(["a"])) == {}


# ---------------------------------------------------------------- embeddings


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Llama with random weights and a byte tokenizer that adds a begin token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from lightning_gfn.policies.text.tokenizers import TokenizerSettings, make_tokenizer

    folder = tmp_path_factory.mktemp("embedding") / "model"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=259, max_position_embeddings=128, **sizes)).save_pretrained(folder)
    make_tokenizer(TokenizerSettings(), []).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def forget_models() -> Iterator[None]:
    """Embedders live as long as the process otherwise."""
    yield
    embedder.cache_clear()


def plain_vector(folder: str, text: str) -> np.ndarray:
    """One text at a time, no padding: mean of the last hidden states."""
    from transformers import LlamaModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    with torch.no_grad():
        hidden = LlamaModel.from_pretrained(folder).eval()(**tokenizer(text, return_tensors="pt")).last_hidden_state
    return hidden[0].mean(0).double().numpy()


TEXTS = ["3 * 9 = 27. 27 + 5 = 32.", "Take 27, adding 5 makes 32.", "short", "Tens: 20 + 0 = 20. Ones: 7 + 5 = 12."]


def test_embedding_distance_equals_a_written_loop(model_folder: str) -> None:
    vectors = [plain_vector(model_folder, text) for text in TEXTS]
    distances = [
        1 - float(one @ other) / math.sqrt(float(one @ one) * float(other @ other))
        for one, other in itertools.combinations(vectors, 2)
    ]
    found = value(EmbeddingDistance(model_folder), record([*TEXTS, "wrong"], [True] * 4 + [False]))
    assert found["embedding_distance"] == pytest.approx(np.mean(distances), abs=1e-5)
    assert max(distances) > 10 * 1e-3


def test_padding_that_is_pooled_would_be_noticed(model_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.where
    monkeypatch.setattr(torch, "where", lambda mask, a, b: real(torch.ones_like(mask), a, b))
    with pytest.raises(AssertionError):
        test_embedding_distance_equals_a_written_loop(model_folder)


def test_embedding_conventions(model_folder: str) -> None:
    metric = EmbeddingDistance(model_folder)
    assert value(metric, record(TEXTS, [True, False, False, False])) == {}
    assert value(EmbeddingDistance(model_folder), record(["same", "same", "same"]))[
        "embedding_distance"
    ] == pytest.approx(0.0, abs=1e-9)
    assert embedder.cache_info().currsize == 1
    whole = value(EmbeddingDistance(model_folder, samples="all"), record(TEXTS, [True, False, False, False]))
    assert whole == {"sample_embedding_distance": value(EmbeddingDistance(model_folder), record(TEXTS))[KEY]}


def test_batches_cuts_and_the_cache_change_nothing(model_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TextEmbedder(model_folder)
    first = whole.embed(TEXTS)
    assert np.abs(TextEmbedder(model_folder, batch_size=1).embed(TEXTS) - first).max() < 1e-5
    monkeypatch.setattr(whole, "model", None)
    assert np.array_equal(whole.embed(TEXTS[::-1])[::-1], first), "known texts need no model"
    cut = TextEmbedder(model_folder, max_tokens=5)
    assert np.allclose(cut.embed(["abcdXXXX"]), cut.embed(["abcdYY"]))
    assert not np.allclose(first[0], first[1])


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="embedding model"):
        TextEmbedder(str(tmp_path))
    with pytest.raises(ValueError, match="max_tokens=0"):
        EmbeddingDistance("x", max_tokens=0)


def test_yaml_names_them(model_folder: str) -> None:
    parser = ArgumentParser()
    parser.add_argument("--metrics", type=list[PerProblemMetric])
    config = [
        {"class_path": "lightning_gfn.metrics.diversity.SelfBleu"},
        {"class_path": "lightning_gfn.metrics.diversity.DistinctEquations"},
        {"class_path": "lightning_gfn.metrics.embeddings.EmbeddingDistance", "init_args": {"model": model_folder}},
    ]
    metrics = parser.instantiate(parser.parse_object({"metrics": config})).metrics
    keys = [key for metric in metrics for key in metric.keys]
    assert keys == ["self_bleu", "distinct_equation_sequences", "distinct_equation_sets", "embedding_distance"]
    settings = Evaluation(extra_metrics=metrics).metric_settings["extra"]
    assert settings == [*keys[:-1], f"embedding_distance by {model_folder}, 512 tokens"]
