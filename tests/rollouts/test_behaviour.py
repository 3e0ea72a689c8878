from __future__ import annotations

from collections import Counter

import pytest
from scipy import stats

from lightning_gfn.rollouts.behaviour import BehaviourMix

MIX = BehaviourMix(
    on_policy=0.2, tempered=0.4, replay=0.25, reference=0.1, search=0.05, temperature_low=0.5, temperature_high=2.0
)


def test_problems_draw_sources_in_the_stated_shares() -> None:
    count = 20_000
    drawn = Counter(MIX.source(f"p{i % 100}", seed=0, rollout_step=i // 100) for i in range(count))
    observed = [drawn[source] for source in MIX.shares]
    assert stats.chisquare(observed, [share * count for share in MIX.shares.values()]).pvalue > 1e-3
    swapped = [0.2, 0.25, 0.4, 0.1, 0.05]
    assert stats.chisquare(observed, [share * count for share in swapped]).pvalue < 1e-3, "the test sees swapped shares"


def test_temperatures_are_uniform_in_their_range() -> None:
    drawn = [MIX.temperature(f"p{i}", seed=1, rollout_step=3) for i in range(5000)]
    assert stats.kstest(drawn, stats.uniform(0.5, 1.5).cdf).pvalue > 1e-3
    assert min(drawn) >= 0.5 and max(drawn) < 2.0


def test_decisions_depend_on_seed_step_and_problem_only() -> None:
    decisions = [MIX.source(f"p{i}", seed=5, rollout_step=9) for i in range(50)]
    assert decisions == [MIX.source(f"p{i}", seed=5, rollout_step=9) for i in range(50)]
    assert decisions != [MIX.source(f"p{i}", seed=5, rollout_step=10) for i in range(50)]
    assert decisions != [MIX.source(f"p{i}", seed=6, rollout_step=9) for i in range(50)]


def test_a_share_of_zero_never_happens_and_the_default_is_on_policy() -> None:
    only = BehaviourMix(on_policy=0.0, tempered=0.0, replay=0.0, reference=1.0)
    assert {only.source(f"p{i}", seed=0, rollout_step=i) for i in range(500)} == {"reference"}
    assert {BehaviourMix().source(f"p{i}", seed=0, rollout_step=i) for i in range(500)} == {"on_policy"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"on_policy": 0.5}, "sum to 1, not to 0.5"),
        ({"on_policy": 1.0, "replay": 0.2}, "not to 1.2"),
        ({"on_policy": 1.5, "replay": -0.5}, "must be at least 0"),
        ({"temperature_low": 0.0}, r"temperatures \[0.0, 2.0\]"),
        ({"temperature_low": 3.0}, r"temperatures \[3.0, 2.0\]"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.2}, "top_p=1.2"),
    ],
)
def test_impossible_mixes_are_named(settings, words) -> None:
    with pytest.raises(ValueError, match=words):
        BehaviourMix(**settings)
