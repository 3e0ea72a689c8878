"""Whole proofs in evaluation: the records against the episodes' own numbers, and the metrics on them."""

from __future__ import annotations

import math

import pytest

from lightning_gfn.metrics.accuracy import MajorityAtK, PassAtK, SolveRate
from lightning_gfn.metrics.functional.estimates import pass_at_k
from lightning_gfn.prompts.proof_prompt import ProofPrompt
from lightning_gfn.rollouts.proofs.proof_evaluation import sample_proofs


def test_records_add_up_over_tactics(tactic, theorems, make_proving) -> None:
    names = ("constructor", "left", "exact hp")
    policy = tactic.TacticPolicy(tactics=names, max_new_tokens=2, stop_bonus=-1.0, end_bonus=3.0)
    proving = make_proving(evaluation_max_steps=2)
    records = sample_proofs(policy, theorems, proving, num_samples=90, temperature=1.3)
    prompt, kinds = ProofPrompt(), set()
    for problem, record in zip(theorems, records, strict=True):
        assert record.problem is problem and record.temperature == 1.3 and len(record.completions) == 90
        for n, episode in enumerate(record.episodes):
            log_prob, entropies, length, forced = 0.0, [], 0, False
            for k, (state, text) in enumerate(zip(episode.states, episode.tactics, strict=True)):
                context = policy.encode_prompt(prompt(state, episode.tactics[:k]))
                action = [policy.tactics.index(part) for part in text.split(" <;> ")] if text else []
                length += len(action)
                for i in range(len(action) + 1):
                    log_q = policy.log_q(context, action[:i])
                    if i < 2:
                        entropies.append(float(-(log_q.exp() * log_q.clamp_min(-1e9)).sum()))
                        log_prob += float(log_q[action[i]] if i < len(action) else log_q[-1])
                    else:
                        forced = True
            assert record.log_probs[n] == pytest.approx(log_prob, abs=1e-4)
            assert record.entropies[n] == pytest.approx(sum(entropies) / len(entropies), abs=1e-4)
            assert record.lengths[n] == length and record.completions[n] == episode.script
            assert record.correct[n] == (episode.outcome == "proved")
            assert record.truncated[n] == (forced or episode.outcome == "unfinished")
            kinds.add((episode.outcome, forced))
    assert len(kinds) >= 4


def test_records_do_not_depend_on_rows_and_workers(policy, theorems, make_proving) -> None:
    def texts(proving, **options):
        return [record.completions for record in sample_proofs(policy, theorems, proving, num_samples=12, **options)]

    whole = texts(make_proving())
    assert texts(make_proving(workers=2, min_rows=1), max_rows=5) == whole
    assert texts(make_proving(), seed=1) != whole
    assert sample_proofs(policy, theorems[1:], make_proving(), num_samples=12)[0].completions == whole[1]


def test_metrics_read_proofs(policy, theorems, unstated, make_proving) -> None:
    records = sample_proofs(policy, [*theorems, unstated], make_proving(), num_samples=12)
    assert records[2].correct == (False,) * 12 and records[2].completions == ("",) * 12
    assert {episode.error_kind for episode in records[2].episodes} == {"statement"}
    solve, passes, votes = SolveRate(), PassAtK((1, 4)), MajorityAtK((4,))
    for record in records:
        for metric in (solve, passes, votes):
            metric.update(record)
    shares = [sum(record.correct) / 12 for record in records]
    assert float(solve.compute()["solve_rate"]) == pytest.approx(sum(shares) / 3)
    expected = math.fsum(pass_at_k(12, sum(record.correct), 4) for record in records) / 3
    assert float(passes.compute()["pass_at_4"]) == pytest.approx(expected)
    assert votes.compute() == {}, "proofs have no answers to vote on"
    assert 0 < sum(shares) < 3
