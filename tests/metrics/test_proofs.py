"""Metrics of proofs, normal forms of scripts, and what partial rewards tell."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from lightning_gfn.callbacks.common.problem_rows import problem_row
from lightning_gfn.lean_types import Episode, Theorem
from lightning_gfn.metrics import proofs
from lightning_gfn.metrics.accuracy import MajorityAtK
from lightning_gfn.metrics.completions import CompletionStatistics
from lightning_gfn.metrics.functional.partial_rewards import OUTCOMES, reward_separation, separation_of_rows
from lightning_gfn.similarity.tactic_scripts import distinct_scripts, entropy, head_words, normal_script
from lightning_gfn.types import EvalRecord, Problem


def episode(*tactics: str, outcome: Any = "proved", kind: Any = None, states: Any = None, **fields: Any) -> Episode:
    names = states if states is not None else tuple(f"state {n}" for n in range(len(tactics)))
    return Episode(names, tactics, outcome, error_kind=kind, **fields)


def record_of(*episodes: Episode, name: str = "t") -> EvalRecord:
    count = len(episodes)
    return EvalRecord(
        problem=Problem(name, "prove", theorem=Theorem(name, ": True")),
        temperature=1.0,
        completions=tuple(one.script for one in episodes) or ("x",),
        correct=tuple(one.outcome == "proved" for one in episodes) or (False,),
        log_probs=tuple(-1.0 - n for n in range(max(1, count))),
        lengths=(4,) * max(1, count),
        entropies=(0.0,) * max(1, count),
        truncated=(False,) * max(1, count),
        episodes=episodes,
    )


RECORD = record_of(
    episode("intro h", "exact h", seconds=1.0),
    episode("intro  h -- why", "exact   h"),
    episode("intro a", "exact a"),
    episode("intro h", "simp at h", "rfl"),
    episode("intro h", "foo", outcome="error", kind="tactic", seconds=3.0),
    episode("sorry", outcome="error", kind="forbidden"),
    episode("decide", outcome="error", kind="timeout"),
    episode("tricky", outcome="error", kind="unsound"),
    episode("intro h", outcome="unfinished", final_state="state 1"),
    episode(outcome="error", kind="statement", states=()),
)


def means(metric: proofs.ProofMetric, *records: EvalRecord) -> dict[str, float]:
    for record in records:
        metric.update(record)
    return {name: float(value) for name, value in metric.compute().items()}


def test_values_by_hand() -> None:
    nothing = record_of(episode("rfl", outcome="error", kind="tactic"), name="u")
    assert means(proofs.DistinctProofs(), RECORD, nothing) == {"distinct_proofs": 1.5, "distinct_proofs_solved": 3.0}
    assert means(proofs.DistinctProofs(rename=True), RECORD) == {
        "distinct_proofs_renamed": 2.0,
        "distinct_proofs_renamed_solved": 2.0,
    }
    assert means(proofs.ProofLength(), RECORD, nothing) == {"proof_length_mean": 2.25, "proof_length_shortest": 2.0}
    assert means(proofs.TacticErrors(), RECORD) == pytest.approx(
        {
            "tactic_error_rate": 4 / 15,
            "forbidden_rate": 1 / 15,
            "timeout_rate": 1 / 15,
            "unsound_rate": 0.1,
            "unfinished_rate": 0.1,
            "fault_rate": 0.0,
        }
    )
    assert means(proofs.StatesCovered(), RECORD) == {"states_covered": 3.0}
    assert means(proofs.EnvironmentSeconds(), RECORD) == {"environment_seconds": pytest.approx(0.4)}
    variety = means(proofs.TacticVariety(), RECORD)
    counts = {"intro": 6, "exact": 3, "simp": 1, "rfl": 1, "foo": 1, "sorry": 1, "decide": 1, "tricky": 1}
    assert variety["tactic_heads"] == len(counts)
    assert variety["tactic_head_entropy"] == pytest.approx(-sum(n / 15 * math.log(n / 15) for n in counts.values()))


def test_problems_without_episodes_have_no_value() -> None:
    for metric in (
        proofs.DistinctProofs(),
        proofs.ProofLength(),
        proofs.TacticErrors(),
        proofs.StatesCovered(),
        proofs.TacticVariety(),
        proofs.EnvironmentSeconds(),
    ):
        plain = replace(record_of(), episodes=())
        assert means(metric, plain) == {}
        metric.update(replace(RECORD, problem=Problem("other", "x")))
        assert set(metric.per_problem()["other"]) == set(metric.keys) and metric.per_problem()["t"] == {}


def test_normal_form() -> None:
    assert normal_script(["  intro   h ", "", "exact h;", "/- a\nb -/ rfl -- end"]) == ("intro h", "exact h", "rfl")
    assert normal_script(["constructor\n· exact a\n· exact b"]) == ("constructor", "· exact a", "· exact b")
    assert normal_script(["a; b", "c <;> d"]) == ("a", "b", "c <;> d")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["intro h", "exact h"], ["intro hp", "exact hp"]),
        (["intro h hq", "exact And.intro h hq"], ["intros a b", "exact And.intro a b"]),
        (["rintro ⟨a, b⟩", "exact a"], ["rintro ⟨h₁, h₂⟩", "exact h₁"]),
        (["obtain ⟨a, b⟩ := h", "exact a.left"], ["obtain ⟨x, y⟩ := h", "exact x.left"]),
        (["cases h with | inl a => exact a"], ["cases h with | inl b => exact b"]),
        (["have k : p := h", "exact k"], ["have m : p := h", "exact m"]),
        (["by_cases u : p", "exact u"], ["by_cases v : p", "exact v"]),
        (["exact fun a => a"], ["exact fun b => b"]),
        (["case inl u => exact u"], ["case inl v => exact v"]),
        (
            ["cases h with\n  | inl a => exact a\n  | inr b => exact b"],
            ["cases h with\n| inl c => exact c\n| inr a => exact a"],
        ),
        (["rcases h with a | b", "exact a"], ["rcases h with h | b", "exact h"]),
    ],
)
def test_renaming_joins_what_differs_in_names_alone(first: list[str], second: list[str]) -> None:
    if first[0].startswith("intro h hq"):
        second = ["intro a b", *second[1:]]
    assert normal_script(first) != normal_script(second)
    assert normal_script(first, rename=True) == normal_script(second, rename=True)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["intro a b", "exact a"], ["intro a b", "exact b"]),
        (["exact hp"], ["exact hq"]),
        (["intro h", "exact Or.inl h"], ["intro h", "exact Or.inr h"]),
        (["obtain ⟨a, b⟩ := h"], ["obtain ⟨a, b⟩ := k"]),
        (["by_cases p"], ["by_cases q"]),
        (["cases h with | inl a => exact a"], ["cases h with | inr a => exact a"]),
        (["rcases h with a | b", "exact a"], ["rcases h with a | b", "exact b"]),
    ],
)
def test_renaming_keeps_what_differs_otherwise(first: list[str], second: list[str]) -> None:
    assert normal_script(first, rename=True) != normal_script(second, rename=True)
    assert distinct_scripts([first, second, first], rename=True) == [0, 1]


def test_heads() -> None:
    assert head_words(["simp [h]", "· exact h", "Nat.rec foo", "<;> rfl", "⟨a, b⟩"]) == [
        "simp",
        "exact",
        "Nat.rec",
        "rfl",
        "a",
    ]
    assert entropy([]) == 0.0 and entropy("aabb") == pytest.approx(math.log(2))


def test_separation_against_all_pairs() -> None:
    scores, groups = [0.1, 0.5, 0.5, 0.9, 0.3, 0.2], ["a", "a", "a", "b", "b", "c"]
    outcomes: list[Any] = ["error", "proved", "unfinished", "proved", "proved", "error"]

    def auroc(worse: set[str]) -> float:
        pairs = [(s, t) for (s, p), (t, q) in product(zip(scores, outcomes, strict=True), repeat=2)
                 if p == "proved" and q in worse]  # fmt: skip
        return sum(1.0 if s > t else 0.5 if s == t else 0.0 for s, t in pairs) / len(pairs)

    found = reward_separation(scores, outcomes, groups)
    assert found["auroc"] == pytest.approx(auroc({"error", "unfinished"}))
    assert found["auroc_unfinished"] == pytest.approx(auroc({"unfinished"}))
    assert found["auroc_within"] == pytest.approx(0.75) and found["theorems_with_both"] == 1
    assert found["proved"]["count"] == 3 and found["error"]["scores"] == [0.1, 0.2]
    assert found["proved"]["mean"] == pytest.approx(1.7 / 3) and found["proved"]["median"] == 0.5
    empty = reward_separation([], [], [])
    assert math.isnan(empty["auroc"]) and empty["proved"]["count"] == 0
    with pytest.raises(ValueError, match="entries"):
        reward_separation([1.0], [], ["a"])


def test_separation_of_rows_counts_tokens_and_stops() -> None:
    row = problem_row(RECORD, keep_completions=False)
    found = separation_of_rows([row])
    scores = [value / (4 + len(e.tactics)) for value, e in zip(RECORD.log_probs, RECORD.episodes, strict=True)]
    proved = [score for score, e in zip(scores, RECORD.episodes, strict=True) if e.outcome == "proved"]
    assert found["proved"]["scores"] == pytest.approx(sorted(proved)) and proved
    assert sum(found[kind]["count"] for kind in OUTCOMES) == len(scores)


def test_proofs_have_no_answers_to_count_or_to_vote_on() -> None:
    statistics = dict(zip(CompletionStatistics().keys, CompletionStatistics().row(RECORD), strict=True))
    assert math.isnan(statistics["answered_share"]) and not math.isnan(statistics["entropy_mean"])
    assert all(map(math.isnan, MajorityAtK((2,)).row(RECORD)))
    problem = replace(RECORD, problem=Problem("p", "1 + 1?", answer="2"))
    assert CompletionStatistics().row(problem)[3] == 0.0
