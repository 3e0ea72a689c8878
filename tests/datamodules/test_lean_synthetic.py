"""The shipped theorems: chains, disjoint splits, regimes; and that Lean still accepts them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from datamodules.common.base import Split
from datamodules.lean_synthetic import SHIPPED, LeanSynthetic
from lightning_gfn.theorem_generation.canonical import clashes

SPLITS: tuple[Split, ...] = ("train", "val", "test")
BARRED = ("simp", "omega", "decide", "grind", "aesop", "tauto", "exact?", "sorry", "native", "set_option")


@pytest.fixture(scope="module")
def shipped() -> LeanSynthetic:
    return LeanSynthetic()


def statements(data: LeanSynthetic) -> dict[str, list[str]]:
    return {split: [one.theorem.statement for one in data.theorems(split)] for split in SPLITS}


def test_the_set_is_small_and_its_summary_counts_it(shipped: LeanSynthetic) -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir() if file.is_file()) < 1_000_000
    figures = json.loads((SHIPPED / "summary.json").read_text())
    assert figures["theorems"] == {split: len(shipped.problems(split)) for split in SPLITS}
    everything = [one for split in SPLITS for one in shipped.theorems(split)]
    assert figures["proofs_verified"] == sum(len(one.theorem.proofs) for one in everything)
    assert 550 <= figures["theorems"]["train"] <= 650
    assert {one.metadata["difficulty"] for one in everything} == {1, 2, 3, 4}
    assert {one.metadata["family"] for one in everything} == {"propositional", "first_order", "nat", "list"}
    assert sum(len(one.theorem.proofs) > 1 for one in everything) > 0.8 * len(everything)


def test_every_proof_chains_to_no_goals(shipped: LeanSynthetic) -> None:
    for split in SPLITS:
        for one in shipped.theorems(split):
            assert len(one.theorem.proofs) == len(one.traces) == len(set(one.theorem.proofs)) >= 1
            for trace in one.traces:
                assert trace[0].state_before == one.first_state and trace[-1].state_after == "no goals"
                assert all(
                    before.state_after == after.state_before for before, after in zip(trace, trace[1:], strict=False)
                )
                assert 1 <= len(trace) <= 6


def test_tactics_are_short_and_no_automation(shipped: LeanSynthetic) -> None:
    for split in SPLITS:
        for step in (step for one in shipped.theorems(split) for trace in one.traces for step in trace):
            assert len(step.state_before) <= 250 and len(step.tactic) <= 60 and "\n" not in step.tactic
            assert not any(word in step.tactic for word in BARRED), step.tactic


def test_splits_share_no_statement_up_to_renaming(shipped: LeanSynthetic) -> None:
    found = statements(shipped)
    assert clashes(found) == []
    planted = found["test"][0].replace(" h ", " k ").replace("(h :", "(k9 :")
    assert clashes({**found, "train": [*found["train"], planted]})


def test_families_and_difficulties_are_spread_alike(shipped: LeanSynthetic) -> None:
    shares = {}
    for split in SPLITS:
        counts = Counter(one.metadata["family"] for one in shipped.theorems(split))
        shares[split] = {family: count / counts.total() for family, count in counts.items()}
    for family, share in shares["train"].items():
        assert abs(shares["test"][family] - share) < 0.08, (family, shares)


def test_regimes(shipped: LeanSynthetic) -> None:
    problem = shipped.problems("test")[0]
    assert problem.theorem is not None and problem.prompt.endswith("\n--\n") and "⊢" in problem.prompt
    assert problem.solutions == tuple("\n".join(proof) for proof in problem.theorem.proofs)
    tactics = LeanSynthetic(train_on="tactics").problems("train")
    assert all(one.theorem is None and len(one.solutions) == 1 for one in tactics)
    assert len(tactics) > 2 * len(shipped.problems("train"))
    pairs = [(one.id.split("/")[2], one.prompt, one.solutions) for one in tactics]
    assert len(set(pairs)) == len(pairs)
    single = LeanSynthetic(train_on="tactics", max_proofs=1).problems("train")
    assert len(single) < len(tactics)


def test_families_and_difficulties_can_be_chosen() -> None:
    data = LeanSynthetic(families=["nat"], difficulties=[1, 2])
    assert {(one.metadata["family"], one.metadata["difficulty"] in (1, 2)) for one in data.theorems("train")} == {
        ("nat", True)
    }


def step(tactic: str, before: str, after: str) -> dict[str, Any]:
    return {"tactic": tactic, "state_before": before, "state_after": after}


ROW: dict[str, Any] = {
    "url": None,
    "full_name": "made_up",
    "family": "propositional",
    "difficulty": 1,
    "statement": "(p q : Prop) (hp : p) (hq : q) : p ∧ q",
    "context": [],
    "imports": ["Init"],
    "proofs": [
        [step("constructor", "A", "B"), step("exact hp", "B", "C"), step("exact hq", "C", "no goals")],
        [step("exact ⟨hp, hq⟩", "A", "no goals")],
    ],
}


def write(folder: Path, *rows: Any) -> str:
    (folder / "train.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return str(folder)


def test_several_proofs_of_a_theorem(tmp_path: Path) -> None:
    (problem,) = LeanSynthetic(write(tmp_path, ROW)).problems("train")
    assert problem.theorem is not None and problem.theorem.imports == ("Init",)
    assert problem.theorem.proofs == (("constructor", "exact hp", "exact hq"), ("exact ⟨hp, hq⟩",))
    assert problem.prompt == "A\n--\n" and problem.metadata["difficulty"] == 1
    tactics = LeanSynthetic(str(tmp_path), train_on="tactics").problems("train")
    assert [one.prompt for one in tactics] == [
        "A\n--\n",
        "B\n--\nconstructor\n--\n",
        "C\n--\nconstructor\nexact hp\n--\n",
        "A\n--\n",
    ]
    assert LeanSynthetic(str(tmp_path)).problems("val") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proofs": []}, "field 'proofs': expected a list of proofs"),
        ({"proofs": [[]]}, "field 'proofs': there is a proof without tactics"),
        ({"proofs": [[step("rfl", "A", "B")]]}, r"field 'proofs\[0\]': the states do not chain"),
        ({"proofs": [[{"tactic": "rfl"}]]}, r"field 'proofs\[0\]\[0\].state_before': missing"),
        ({"difficulty": "2"}, "field 'difficulty': expected a whole number"),
        ({"statement": None}, "field 'statement': missing"),
        ({"family": None}, "field 'family': missing"),
        ({"context": 3}, "field 'context': expected a text or a list"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"theorem 1: {message}"):
        LeanSynthetic(write(tmp_path, ROW, {**ROW, **changes})).problems("train")


def test_options_and_files_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data.max_proofs is 0"):
        LeanSynthetic(max_proofs=0)
    with pytest.raises(ValueError, match=r"no test.json: make it with lightning-gfn lean generate"):
        LeanSynthetic(write(tmp_path, ROW)).problems("test")
    (tmp_path / "test.json.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="not a whole gzip file"):
        LeanSynthetic(str(tmp_path)).problems("test")


@pytest.mark.lean
def test_lean_accepts_a_sample_of_the_shipped_proofs(shipped: LeanSynthetic) -> None:
    from lightning_gfn.environments.embedded import EmbeddedLean

    reason = EmbeddedLean.unavailable()
    if reason is not None:
        pytest.skip(reason)
    everything = [one for split in SPLITS for one in shipped.theorems(split)]
    backend = EmbeddedLean()
    try:
        for one in Random(0).sample(everything, 60):
            assert backend.start(one.theorem).text == one.first_state  # type: ignore[union-attr]
            for proof in one.theorem.proofs:
                verdict = backend.check(one.theorem, proof)
                assert verdict.verified, (one.theorem.statement, proof, verdict.message)
        assert not backend.check(everything[0].theorem, ("exact nonsense",)).verified
    finally:
        backend.close()
