"""Labels behind rationales against separate forward passes, and what a module makes of classifications."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch

from lightning_gfn.metrics.functional.labels import model_average
from lightning_gfn.metrics.labels import LabelPrediction
from lightning_gfn.modules.settings import EvaluationSettings
from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.policies.passes.pass_budget import PassBudget
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.rollouts.labels.answers import label_records
from lightning_gfn.rollouts.labels.scores import with_label_scores
from lightning_gfn.types import EvalRecord, Problem

LABELS = {"first": "=uv.", "second": "=ux.", "third": "=y"}
LATENT = [
    Problem(id=f"p{i}", prompt=prompt, answer="second", evidence=LABELS["second"], labels=LABELS)
    for i, prompt in enumerate(["ab", "b", "cab"])
]
BARE = [Problem(id=f"p{i}", prompt=p, answer="first", labels=LABELS) for i, p in enumerate(["ab", "c"])]
SIZES = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.25,
}  # fmt: skip


class Kept(L.Callback):
    """Keeps the records of a prediction."""

    records: list[EvalRecord]

    def on_predict_batch_end(self, trainer: Any, module: Any, outputs: Any, *args: Any, **kwargs: Any) -> None:
        self.records = outputs


@pytest.fixture(params=["plain", "small passes"])
def policy(request: Any, make_policy: Any) -> Any:
    budget = PassBudget(max_tokens_per_pass=40) if request.param == "small passes" else None
    policy = make_policy(config=SIZES, max_new_tokens=3, allowed_tokens=["a", "b", "c"], budget=budget)
    policy.build([])
    policy.freeze_reference()
    with torch.no_grad():
        for parameter in policy.hugging_face.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return policy.eval()


def plain_log_prob(policy: Any, text: str, behind: str, *, model: Any = None) -> float:
    """log p(behind | text) by a pass over these tokens alone."""
    prompt, ids = policy.encode_prompt(text), policy.encode_completion(behind)
    with torch.no_grad():
        network = policy.hugging_face if model is None else model
        logits = network(torch.tensor([prompt + ids])).logits[0].double().log_softmax(-1)
    return sum(float(logits[len(prompt) + t - 1, token]) for t, token in enumerate(ids))


def plain_average(policy: Any, problem: Problem, completions: tuple[str, ...], model: Any = None) -> list[float]:
    """p(y | x), the mean over rationales of p(y | x, z), from one forward pass for each pair."""
    total = [0.0] * len(LABELS)
    for z in completions:
        weights = [math.exp(plain_log_prob(policy, problem.prompt + z, text, model=model)) for text in LABELS.values()]
        total = [t + w / sum(weights) / len(completions) for t, w in zip(total, weights, strict=True)]
    return total


@pytest.mark.parametrize("reference", [False, True])
def test_model_averaging_is_that_of_separate_passes(policy: Any, reference: bool) -> None:
    records = sample_completions(policy, LATENT, num_samples=6)
    scored = with_label_scores(policy, records, max_rows=7, reference=reference)
    model = policy.reference if reference else None
    for record in scored:
        expected = plain_average(policy, record.problem, record.completions, model)
        found = model_average(record.label_log_probs)
        assert found.tolist() == pytest.approx([math.log(p) for p in expected], abs=2e-4)
        for z, row, right in zip(record.completions, record.label_log_probs, record.correct, strict=True):
            single = plain_average(policy, record.problem, (z,), model)
            assert right == (single.index(max(single)) == 1) and len(row) == 3


def test_only_the_tokens_in_which_labels_differ_are_added_up(policy: Any) -> None:
    (record,) = with_label_scores(policy, sample_completions(policy, LATENT[:1], num_samples=1), max_rows=8)
    start = record.problem.prompt + record.completions[0] + "="
    expected = [plain_log_prob(policy, start, text[1:]) for text in LABELS.values()]
    assert record.label_log_probs[0] == pytest.approx(expected, abs=1e-4)


def test_labels_are_read_behind_what_the_prior_reads(policy: Any) -> None:
    (record,) = sample_completions(policy, LATENT[:1], num_samples=4)
    shown_more = replace(record, problem=replace(record.problem, prior_prompt="cab"))
    other = replace(record, problem=replace(record.problem, prompt="cab"))
    (own,), (given,), (expected,) = (with_label_scores(policy, [x], max_rows=7) for x in (record, shown_more, other))
    found, wanted, before = (torch.tensor(x.label_log_probs) for x in (given, expected, own))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    assert (found - before).abs().max() > 1e-3


def test_swapped_rationales_are_those_of_the_next_problem(policy: Any) -> None:
    records = sample_completions(policy, LATENT, num_samples=4)
    scored = with_label_scores(policy, records, max_rows=64, swap=True)
    for i, record in enumerate(scored):
        others = records[(i + 1) % 3].completions
        for z, row in zip(others, record.swapped_label_log_probs, strict=True):
            start = record.problem.prompt + z + "="
            assert row == pytest.approx([plain_log_prob(policy, start, t[1:]) for t in LABELS.values()], abs=1e-4)
    alone = with_label_scores(policy, records[:1], max_rows=64, swap=True)
    assert alone[0].swapped_label_log_probs == ()


def test_labels_that_are_completions_are_drawn_in_proportion_to_their_probability(policy: Any) -> None:
    records = label_records(policy, BARE, num_samples=4000)
    for record in records:
        weights = [math.exp(plain_log_prob(policy, record.problem.prompt, text)) for text in LABELS.values()]
        shares = [record.completions.count(text) / 4000 for text in LABELS.values()]
        assert shares == pytest.approx([w / sum(weights) for w in weights], abs=0.03)
        assert record.correct == tuple(text == LABELS["first"] for text in record.completions)
        place = list(LABELS.values()).index(record.completions[0])
        assert record.log_probs[0] == pytest.approx(math.log(weights[place] / sum(weights)), abs=1e-3)
    cold = label_records(policy, BARE, num_samples=50, temperature=0.01)
    assert all(len(set(record.completions)) == 1 for record in cold)


def test_one_label_must_not_begin_another(policy: Any) -> None:
    bad = replace(LATENT[0], labels={"first": "=u", "second": "=uv"}, evidence="=uv")
    with pytest.raises(ValueError, match="never ruled out"):
        with_label_scores(policy, sample_completions(policy, [bad], num_samples=1), max_rows=8)


def test_a_module_answers_each_kind_of_problem_in_its_own_way(make_policy: Any, make_trainer: Any) -> None:
    policy = make_policy(config=SIZES, allowed_tokens=["a", "b", "c"])
    settings = EvaluationSettings(num_samples=3, labels_by="reference", swap_rationales=True)
    module = SFTModule(policy, evaluation=settings)
    assert module.needs_reference and not SFTModule(policy).needs_reference
    bare = replace(BARE[1], id="bare")
    plain = Problem(id="plain", prompt="a", answer="1")
    loader = torch.utils.data.DataLoader([LATENT[0], bare, plain, LATENT[1]], batch_size=4, collate_fn=list)
    kept = Kept()
    make_trainer(1, callbacks=[kept]).predict(module, loader, return_predictions=False)
    records = kept.records
    assert [record.problem.id for record in records] == ["p0", "bare", "plain", "p1"]
    assert [len(record.label_log_probs) for record in records] == [3, 1, 0, 3]
    assert [len(record.swapped_label_log_probs) for record in records] == [3, 1, 0, 3]
    rows = [LabelPrediction().row(record) for record in records]
    assert math.isnan(rows[2][0]) and rows[1][4] == 0.0 and rows[1][5] == 0.0 and rows[0][4] >= 1.0


def test_a_policy_that_scores_no_texts_is_refused() -> None:
    class Silent:
        def encode_prompt(self, text: str) -> list[int]:
            return [1]

        encode_completion = encode_prompt

    record = EvalRecord(LATENT[0], 1.0, ("a",), (False,), (0.0,), (1,), (0.0,), (False,))
    with pytest.raises(TypeError, match="Silent scores no texts"):
        with_label_scores(Silent(), [record], max_rows=4)  # type: ignore[arg-type]
