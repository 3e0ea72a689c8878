"""The rules read tactics as Lean does, near enough: what counts is where a word stands."""

from __future__ import annotations

import pytest

from lightning_gfn.environments.rules import AUTOMATION, TacticRules, tactic_words, tokens, without_comments

RULES = TacticRules()


@pytest.mark.parametrize(
    "tactic",
    [
        "simp",
        "simp [foo] at h",
        "simp?",
        "simp!",
        "exact?",
        "intro h; omega",
        "intro h <;> grind",
        "constructor\nsimp",
        "constructor\n· intro h\n  omega",
        "(simp)",
        "(intro h; (simp))",
        "try simp",
        "try (simp)",
        "first | rfl | omega",
        "first\n| rfl\n| omega",
        "repeat' (first | intro h | decide)",
        "all_goals simp",
        "iterate 3 simp",
        "exact by simp",
        "exact foo (by omega)",
        "exact ⟨by simp, h⟩",
        "have h : p := by decide",
        "cases h with\n| inl a => simp\n| inr b => exact b",
        "induction n with | zero => rfl | succ n ih => omega",
        "case inl => simp",
        "case inl h => exact h\nsimp_all",
        "next => simp",
        ". simp",
        "· simp",
        "{ simp }",
        "intro h /- a comment -/ ; simp",
        "intro h -- a comment\nsimp",
        "if h : p then simp else rfl",
        "exact foo\n  simp",
        "show p from by simp",
        "simpa using h",
        "exact fun h => by simp",
    ],
)
def test_automation_is_found_wherever_a_tactic_begins(tactic: str) -> None:
    refusal = RULES.refusal(tactic)
    assert refusal is not None and "is barred" in refusal
    assert TacticRules(barred=[]).refusal(tactic) is None


@pytest.mark.parametrize(
    "tactic",
    [
        "intro simple",
        "exact simple",
        "exact simp_lemma h",
        "exact Nat.simp h",
        "exact decide_eq_true h",
        "exact (decide p)",
        "by_cases h : decide p = true",
        "intro h -- simp",
        "intro h /- simp /- omega -/ simp -/",
        'exact foo "simp; omega"',
        "rw [Nat.add_comm, ← ring.mul]",
        "exact «simp»",
        "obtain ⟨a, b⟩ | c := h",
        "exact fun h => decide h",
        "refine ⟨fun x => ?_, ?_⟩",
        "exact (fun (x : Nat) => x)\n  y z",
        "cases h with\n| inl a => exact a\n| inr b => exact b",
    ],
)
def test_words_that_only_look_like_automation_pass(tactic: str) -> None:
    assert RULES.refusal(tactic) is None


@pytest.mark.parametrize(
    "tactic",
    [
        "sorry",
        "exact sorry",
        "exact (sorry : p)",
        "admit",
        "native_decide",
        "set_option maxRecDepth 10 in rfl",
        "open Nat in rfl",
        "run_tac return",
        "exact by_elab return default",
        "exact unsafe foo",
        "rfl\naxiom foo : False",
        "rfl\n#eval 1",
        'exact include_str "x"',
        "exact sorryAx p",
    ],
)
def test_forbidden_words_are_refused_by_any_rules(tactic: str) -> None:
    refusal = TacticRules(barred=[], max_chars=10_000).refusal(tactic)
    assert refusal is not None and "is not allowed in a proof" in refusal


@pytest.mark.parametrize("tactic", ["exact notsorry", "intro axiom_of_choice", "exact h.open", "exact sorry'"])
def test_forbidden_words_inside_other_names_pass(tactic: str) -> None:
    assert RULES.refusal(tactic) is None


def test_only_allowed_tactics_pass() -> None:
    rules = TacticRules(allowed=["intro", "exact", "cases"])
    assert rules.refusal("intro h\nexact h") is None
    assert rules.refusal("try exact foo\n    bar") is None
    assert rules.refusal("cases h with\n| inl a => exact a\n| inr b => exact b") is None
    assert rules.refusal("intro h; apply h") == "the tactic 'apply' is not among the allowed ones"
    assert rules.refusal("exact foo (by apply h)") == "the tactic 'apply' is not among the allowed ones"
    assert rules.refusal("exact? ") is not None


def test_length_and_emptiness() -> None:
    assert TacticRules(max_chars=5).refusal("exact h") == "the tactic has 7 characters, more than 5"
    for text in ("", "  \n", "-- nothing", "⊢"):
        assert RULES.refusal(text) == "no tactic in the text"


def test_wrong_settings_say_what_to_change() -> None:
    with pytest.raises(ValueError, match="max_chars=0 must be at least 1"):
        TacticRules(max_chars=0)
    with pytest.raises(ValueError, match="simp both in allowed and in barred"):
        TacticRules(allowed=["simp", "intro"])
    TacticRules(allowed=["simp"], barred=[])


def test_positions() -> None:
    assert tactic_words("intro h\n  rfl") == (["intro"], ["rfl"])
    assert tactic_words("  intro h\n  rfl")[0] == ["intro", "rfl"]
    assert tactic_words("constructor\n· rfl\n· intro h\n  exact h")[0] == ["constructor", "rfl", "intro", "exact"]
    assert [token for _, token, _, _ in tokens("h₁.symm ▸ x' <;> y")] == ["h₁.symm", "▸", "x'", "<;>", "y"]
    assert without_comments("a /- b\n/- c -/ -/ d").split() == ["a", "d"]


def test_every_default_word_is_barred_at_the_head() -> None:
    for word in AUTOMATION:
        assert RULES.refusal(word) == f"the tactic '{word}' is barred"
