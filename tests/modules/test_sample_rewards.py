"""What evaluation says of its samples: log rewards and likelihoods of the very tokens that were sampled."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_gfn.metrics.target import SampledTarget
from lightning_gfn.modules.gflownet import GFlowNetModule
from lightning_gfn.modules.settings import EvaluationSettings
from lightning_gfn.objectives.vargrad import VarGrad
from lightning_gfn.padding import pad_steps
from lightning_gfn.rewards.answer_match import AnswerMatch
from lightning_gfn.rewards.likelihood import ReferenceLikelihood
from lightning_gfn.rewards.schedules import Linear
from lightning_gfn.rewards.weighted_sum import SumReward, WeightedReward
from lightning_gfn.rollouts.evaluating.beams import BeamSettings
from lightning_gfn.rollouts.evaluating.sample_rewards import with_sample_rewards
from lightning_gfn.types import Problem

PROBLEMS = [Problem(id=f"p{n}", prompt="ab"[n % 2] * (n + 1)) for n in range(3)]


def tempered(end: float) -> SumReward:
    return SumReward({"likelihood": WeightedReward(ReferenceLikelihood(), temperature=Linear(1.0, end, 50))})


@pytest.fixture
def policy(make_policy: Any) -> Any:
    policy = make_policy()
    policy.build([])
    policy.freeze_reference()
    with torch.no_grad():
        for parameter in policy.hugging_face.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return policy.eval()


@pytest.mark.parametrize("beams", [None, BeamSettings()])
def test_samples_have_the_reward_as_its_schedules_end(policy: Any, beams: Any) -> None:
    settings = EvaluationSettings(num_samples=4, max_rows=5, beams=beams)
    module = GFlowNetModule(policy, VarGrad(), tempered(0.5), evaluation=settings)
    records = module.with_rewards(module.records_at(PROBLEMS, 1.0))
    for record in records:
        prompt = policy.encode_prompt(record.problem.prompt)
        rows = pad_steps([prompt] * 4, list(record.actions), "cpu")
        own = policy.score(rows).log_prob_N(rows.action_mask_NT)
        frozen = policy.score(rows, reference=True).log_prob_N(rows.action_mask_NT)
        assert record.log_probs == pytest.approx(own.tolist(), abs=1e-4)
        assert record.log_likelihoods == pytest.approx(frozen.tolist(), abs=1e-4)
        assert record.log_rewards == pytest.approx([2.0 * x for x in record.log_likelihoods], abs=1e-4)
        assert record.log_likelihoods != pytest.approx(record.log_probs, abs=1e-2)
        assert record.is_drawn is (beams is None) and not record.is_judged


def test_an_untrained_policy_has_the_temperature_as_slope(policy: Any) -> None:
    policy.freeze_reference()
    module = GFlowNetModule(policy, VarGrad(), tempered(0.8), evaluation=EvaluationSettings(num_samples=16))
    metric = SampledTarget()
    for record in module.with_rewards(module.records_at(PROBLEMS, 1.0)):
        metric.update(record)
    for row in metric.per_problem().values():
        assert row["sample_slope"] == pytest.approx(0.8, abs=1e-4)


def test_rewards_that_judge_are_not_asked(policy: Any) -> None:
    judged = SumReward({"a": WeightedReward(ReferenceLikelihood()), "b": WeightedReward(AnswerMatch())})
    assert not judged.is_log_weight and tempered(0.5).is_log_weight
    module = GFlowNetModule(policy, VarGrad(), judged, evaluation=EvaluationSettings(num_samples=2))
    records = module.records_at(PROBLEMS, 1.0)
    assert module.with_rewards(records) is records and all(record.is_judged for record in records)


def test_nothing_to_score_is_no_error(policy: Any) -> None:
    assert with_sample_rewards(policy, ReferenceLikelihood(), [], max_rows=4, device="cpu") == []
