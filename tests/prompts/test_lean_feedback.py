"""Words about attempts at theorems, as strong as asked."""

from __future__ import annotations

import pytest

from lightning_gfn.lean_types import Episode, Theorem
from lightning_gfn.prompts.lean_feedback import KINDS, LeanWords

THEOREM = Theorem("t", "theorem t (p q : Prop) (hp : p) : p ∨ q", proofs=(("left", "exact hp"), ("exact Or.inl hp",)))
FAILED = Episode(("p q", "goal two"), ("left", "exact x"), "error", "unknown identifier x", error_kind="tactic")
LEFT = Episode(("p q",), ("left",), "unfinished", final_state="goal two")


@pytest.mark.parametrize(
    ("strength", "text"),
    [
        (0.0, "The proof fails."),
        (0.25, "The proof fails. The tactic `exact x` failed."),
        (0.5, "The proof fails. The tactic `exact x` failed. Lean says: unknown identifier x"),
        (0.75, "The proof fails. The tactic `exact x` failed. Lean says: unknown identifier x The state was: goal two"),
        (1.0, "The proof fails. The tactic `exact x` failed. Lean says: unknown identifier x The state was: goal two "
              "A proof: left\nexact hp"),
    ],
)  # fmt: skip
def test_feedback_says_as_much_as_asked(strength: float, text: str) -> None:
    assert LeanWords(strength)(THEOREM, FAILED) == text


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_error_is_told(kind: str) -> None:
    attempt = Episode(("p q",), ("sorry",), "error", "no", error_kind=kind)  # type: ignore[arg-type]
    assert LeanWords(0.25)(THEOREM, attempt) == f"The proof fails. The tactic `sorry` {KINDS[kind]}."


def test_other_outcomes_and_the_cut() -> None:
    assert LeanWords(0.0)(THEOREM, LEFT) == "The proof is unfinished."
    assert LeanWords(0.5, max_chars=4)(THEOREM, LEFT) == "The proof is unfinished. Left to prove: goal…"
    assert LeanWords(0.5, max_chars=8)(THEOREM, LEFT).endswith("goal two")
    assert LeanWords(0.75)(THEOREM, Episode(("p q",), ("left", "exact hp"), "proved")) == "The proof is complete."


@pytest.mark.parametrize(("name", "values"), [("strength", (1.5, 300)), ("max_chars", (0.5, 0))])
def test_settings_out_of_range_are_named(name: str, values: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match=name):
        LeanWords(*values)
