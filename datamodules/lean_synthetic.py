"""Theorems of core Lean that ``lightning-gfn lean generate`` made, with several checked proofs each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.common.base import Split
from datamodules.common.rows import BadRow, Row
from datamodules.common.theorem_rows import (
    Trace,
    location_of,
    split_file,
    text_of,
    texts_of,
    theorem_rows,
    trace_of,
    whole_script,
)
from datamodules.common.theorems import TheoremDataModule, TracedTheorem
from datamodules.files.locations import require_local
from lightning_gfn.lean_types import Theorem

SHIPPED = Path(__file__).parent / "lean_theorems"


class LeanSynthetic(TheoremDataModule):
    """Theorems about propositions, predicates, numbers and lists, difficulty 1 to 4, in LeanDojo's format.

    Splits share no statement up to renaming; every proof was checked by Lean's kernel when the set was made, and its
    states are Lean's own. The shipped set is read unless another is named.

    Args:
        path: folder that ``lightning-gfn lean generate`` wrote; the shipped set if None.
        families: use these alone, of propositional, first_order, nat and list.
        difficulties: use these alone.
        max_proofs: use at most so many proofs of a theorem, the first ones.
        settings: arguments of ``TheoremDataModule``.

    Raises:
        FileNotFoundError: the path does not exist.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        families: Sequence[str] | None = None,
        difficulties: Sequence[int] | None = None,
        max_proofs: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.path = SHIPPED if path is None else require_local(path, "path")
        self.families = None if families is None else frozenset(families)
        self.difficulties = None if difficulties is None else frozenset(difficulties)
        if max_proofs is not None and max_proofs < 1:
            raise ValueError(f"data.max_proofs is {max_proofs}: too small, use null for all proofs")
        self.max_proofs = max_proofs

    def load_theorems(self, split: Split) -> list[TracedTheorem]:
        """The theorems of a split, of the families and difficulties that are wanted.

        Raises:
            ValueError: a row is malformed.
        """
        file = split_file(self.path, split)
        if file is None:
            if split == "val":
                return []
            raise ValueError(f"data.path: {self.path} has no {split}.json: make it with lightning-gfn lean generate")
        found = []
        try:
            for row in theorem_rows(file):
                if isinstance(row, BadRow):
                    raise row
                traced = self._theorem(row, split)
                if self._wanted(traced):
                    found.append(traced)
        except BadRow as error:
            raise ValueError(f"{error}. Make the set again with lightning-gfn lean generate.") from error
        return found

    def _wanted(self, traced: TracedTheorem) -> bool:
        return (self.families is None or traced.metadata["family"] in self.families) and (
            self.difficulties is None or traced.metadata["difficulty"] in self.difficulties
        )

    def _theorem(self, row: Row, split: Split) -> TracedTheorem:
        traces = self._traces(row)
        scripts = [whole_script(trace) for trace in traces]
        for number, script in enumerate(scripts):
            if script is None:
                raise BadRow(row.where, f"proofs[{number}]", "the states do not chain to 'no goals'")
        name = text_of(row, "full_name")
        theorem = Theorem(
            name=name,
            statement=text_of(row, "statement"),
            context=texts_of(row, "context"),
            imports=texts_of(row, "imports", ("Init",)),
            proofs=tuple(script for script in scripts if script is not None),
            location=location_of(row),
        )
        level = row.fields.get("difficulty")
        if not isinstance(level, int):
            raise BadRow(row.where, "difficulty", f"expected a whole number, found {level!r:.80}")
        return TracedTheorem(
            id=f"lean_synthetic/{split}/{name}",
            theorem=theorem,
            traces=traces,
            first_state=traces[0][0].state_before,
            metadata={"family": text_of(row, "family"), "difficulty": level, "statement": theorem.statement},
        )

    def _traces(self, row: Row) -> tuple[Trace, ...]:
        """Every proof of a row: ``proofs``, or else the one of LeanDojo's format."""
        proofs = row.fields.get("proofs")
        if proofs is None:
            proofs = [row.fields.get("traced_tactics")]
        if not isinstance(proofs, list) or not proofs:
            raise BadRow(row.where, "proofs", f"expected a list of proofs, found {proofs!r:.80}")
        traces = tuple(trace_of(row, f"proofs[{number}]", proof) for number, proof in enumerate(proofs))
        if not all(traces):
            raise BadRow(row.where, "proofs", "there is a proof without tactics")
        return traces[: self.max_proofs]
