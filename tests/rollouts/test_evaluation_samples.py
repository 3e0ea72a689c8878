from __future__ import annotations

import math

import pytest

from lightning_gfn.rollouts import evaluation
from lightning_gfn.rollouts.evaluation import sample_completions
from lightning_gfn.types import Problem


def test_records_say_what_a_written_loop_says(make_policy, problems) -> None:
    policy = make_policy(max_new_tokens=4, min_new_tokens=1, stop_bonus=3.5)
    records = sample_completions(policy, problems, num_samples=6, seed=2)
    assert [record.problem for record in records] == problems
    seen = set()
    for record in records:
        for text, log_prob, length, entropy, truncated in zip(
            record.completions, record.log_probs, record.lengths, record.entropies, record.truncated, strict=True
        ):
            previous, total, entropies = policy.encode_prompt(record.problem.prompt)[-1], 0.0, []
            for i, token in enumerate([*policy.encode_completion(text), -1]):
                log_q = policy.log_q(previous, i)
                total += float(log_q[token])
                if i < policy.max_new_tokens:
                    entropies.append(-sum(p * math.log(p) for p in log_q.double().exp().tolist() if p > 0.0))
                previous = token
            assert log_prob == pytest.approx(total, abs=1e-4)
            assert entropy == pytest.approx(sum(entropies) / len(entropies), abs=1e-4)
            assert length == len(text) and truncated == (length == 4)
            seen.add(truncated)
    assert seen == {True, False}


@pytest.mark.parametrize("max_rows", [1, 5, 7, 1000])
def test_the_records_do_not_depend_on_how_rows_are_cut(policy, problems, max_rows) -> None:
    whole = sample_completions(policy, problems, num_samples=4, temperature=0.8, seed=1)
    policy.sample_calls.clear()
    cut = sample_completions(policy, problems[::-1], num_samples=4, temperature=0.8, seed=1, max_rows=max_rows)[::-1]
    for one, other in zip(whole, cut, strict=True):
        assert (one.problem, one.completions, one.lengths) == (other.problem, other.completions, other.lengths)
        assert one.log_probs == pytest.approx(other.log_probs) and one.entropies == pytest.approx(other.entropies)
    assert max(len(call["contexts"]) for call in policy.sample_calls) == min(max_rows, 32)
    assert whole != sample_completions(policy, problems, num_samples=4, temperature=0.8, seed=2)


def test_log_probs_stay_at_temperature_one(policy, problems) -> None:
    (record,) = sample_completions(policy, problems[:1], num_samples=8, temperature=0.3, top_k=5)
    assert record.temperature == 0.3 and policy.sample_calls[0]["top_k"] == 5
    previous = policy.encode_prompt(problems[0].prompt)[-1]
    if record.lengths[0] == 0:
        assert record.log_probs[0] == pytest.approx(float(policy.log_q(previous, 0)[-1]), abs=1e-4)
    assert policy.sample_calls[0]["temperature"].tolist() == pytest.approx([0.3] * 8)


def test_answers_are_checked(policy, monkeypatch) -> None:
    texts = iter(["The answer is: 4", "The answer is: 5", "4", "The answer is: 4.0"])
    monkeypatch.setattr(policy, "decode", lambda ids: next(texts))
    (record,) = sample_completions(policy, [Problem("p", "Q", answer="4")], num_samples=4)
    assert record.correct == (True, False, False, True)
    unknown = sample_completions(type(policy)(), [Problem("p", "Q")], num_samples=2)
    assert unknown[0].correct == (False, False), "without a reference answer nothing counts as right"


def test_entropy_costs_a_scoring_pass_only_if_asked(policy, problems, monkeypatch) -> None:
    monkeypatch.setattr(policy, "score", None)
    sampled = []
    original = type(policy).sample

    def sample(*args, **kwargs):
        monkeypatch.undo()
        result = original(policy, *args, **kwargs)
        monkeypatch.setattr(policy, "score", None)
        sampled.append(result)
        return result

    monkeypatch.setattr(policy, "sample", sample)
    records = sample_completions(policy, problems[:2], num_samples=2, entropy=False)
    assert all(math.isnan(value) for record in records for value in record.entropies) and len(sampled) == 1


@pytest.mark.parametrize(
    "setting", [{"num_samples": 0}, {"num_samples": 2, "temperature": 0.0}, {"num_samples": 2, "max_rows": 0}]
)
def test_wrong_settings_are_named(policy, problems, setting) -> None:
    with pytest.raises(ValueError, match=r"sample_completions: \w+=0"):
        sample_completions(policy, problems, **setting)


def test_training_and_evaluation_draw_from_different_streams(policy, problems) -> None:
    assert evaluation.keyed_uniforms(
        "evaluation", seed=0, rollout_step=0, problem_ids=["p"], samples=[0], length=1
    ) != (evaluation.keyed_uniforms("action", seed=0, rollout_step=0, problem_ids=["p"], samples=[0], length=1))
