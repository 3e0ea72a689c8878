"""Lean statements with the context that they rest on, one a line: sets to test provers with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from datamodules.common.base import Split
from datamodules.common.order import keyed_hash
from datamodules.common.rows import BadRow, Row, read_rows
from datamodules.common.theorem_rows import text_of, texts_of
from datamodules.common.theorems import TheoremDataModule, TracedTheorem
from datamodules.files.locations import require_local
from lightning_gfn.lean_types import Theorem

FIELDS = ("name", "statement", "context", "proof")
SHOWN = 3
NESTED = re.compile(r"^\s*[·|]|^\s*(case|next|calc)\b|\b(by|with|=>|do|from)\s*$|\{\s*$|\bshow\b.*\bby\s*$")


class LeanText(TheoremDataModule):
    """Rows ``{"name", "statement", "context", "proof"}``: test theorems, but for the shares that are asked for.

    ``statement`` follows the name: binders, colon, type. A proof is a text; its tactics are known only if it is plain:
    one tactic a line, none inside another. What follows is the form of the three files that this was written for:
    *Theorem Proving in Lean* and the logic sheets hold proofs with their own ``by`` or as terms, the Natural Number
    Game's stand behind ``:= by``.

    Args:
        path: JSON-lines file, or several.
        columns: names of columns where they differ, keyed by name, statement, context, proof.
        replace: texts to be read as others in statements, contexts and proofs, such as ``ℕ`` as ``Nat``.
        imports: modules that every theorem imports.
        proof_form: a proof is a ``term`` (which may begin with ``by``) or a ``script`` behind ``:= by``.
        proofs: read the proofs; the statements alone are wanted if False.
        on_bad_row: stop at a malformed row, or leave it out.
        train_fraction: share of the theorems to train on; they go by a hash of their statements, equal ones together.
        val_fraction: the same for validation.
        settings: arguments of ``TheoremDataModule``.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: ``columns`` has an unknown key, or the shares leave nothing to test.
    """

    def __init__(
        self,
        path: str | Sequence[str],
        *,
        columns: Mapping[str, str] | None = None,
        replace: Mapping[str, str] | None = None,
        imports: Sequence[str] = ("Init",),
        proof_form: Literal["term", "script"] = "term",
        proofs: bool = True,
        on_bad_row: Literal["error", "skip"] = "error",
        train_fraction: float = 0.0,
        val_fraction: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if min(train_fraction, val_fraction) < 0 or train_fraction + val_fraction >= 1:
            raise ValueError("data.train_fraction and data.val_fraction must be at least 0 and leave something to test")
        self.train_fraction, self.val_fraction = train_fraction, val_fraction
        paths = [path] if isinstance(path, str) else list(path)
        self.paths = [require_local(one, "path") for one in paths]
        self.columns = dict(columns) if columns is not None else {}
        unknown = set(self.columns) - set(FIELDS)
        if unknown:
            raise ValueError(f"data.columns has the unknown keys {sorted(unknown)}; known are {', '.join(FIELDS)}")
        self.replace = dict(replace) if replace is not None else {}
        self.imports = tuple(imports)
        self.proof_form = proof_form
        self.proofs = proofs
        self.on_bad_row = on_bad_row
        self.num_skipped = 0

    def load_theorems(self, split: Split) -> list[TracedTheorem]:
        """The theorems of a split: all of them are test theorems, but for the shares that are asked for.

        Raises:
            ValueError: a row is malformed and ``on_bad_row`` is "error", or training theorems are wanted and no share
                of them is named.
        """
        if split == "train" and not self.train_fraction:
            raise ValueError(
                "LeanText holds test theorems and nothing to train on: use it with lightning-gfn test, or set "
                "data.train_fraction"
            )
        if split == "val" and not self.val_fraction:
            return []
        return [one for one in self.all_theorems if self.split_of(one) == split]

    def split_of(self, one: TracedTheorem) -> Split:
        """The split of a theorem, by a hash of its statement."""
        share = keyed_hash("split", " ".join(one.theorem.statement.split())) / 2**64
        in_train = share < self.train_fraction
        return "train" if in_train else "val" if share < self.train_fraction + self.val_fraction else "test"

    @cached_property
    def all_theorems(self) -> list[TracedTheorem]:
        """The theorems of every row, read once for all splits.

        Raises:
            ValueError: a row is malformed and ``on_bad_row`` is "error".
        """
        found: list[TracedTheorem] = []
        bad: list[BadRow] = []
        for path in self.paths:
            for row in read_rows(path):
                try:
                    if isinstance(row, BadRow):
                        raise row
                    found.append(self._theorem(row, path))
                except BadRow as error:
                    if self.on_bad_row == "error":
                        raise ValueError(f"{error}. Correct the row, or set data.on_bad_row to skip.") from error
                    bad.append(error)
        self.num_skipped = len(bad)
        if bad:
            first = "; ".join(map(str, bad[:SHOWN]))
            more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            rank_zero_warn(f"LeanText: skipped {len(bad)} of {len(bad) + len(found)} rows: {first}{more}")
        return found

    def _theorem(self, row: Row, path: Path) -> TracedTheorem:
        statement = self._read(text_of(row, self._column("statement")))
        context = tuple(self._read(text) for text in texts_of(row, self._column("context")))
        name = row.fields.get(self._column("name"))
        if name is not None and (not isinstance(name, str) or not name.strip()):
            raise BadRow(row.where, self._column("name"), f"expected text or null, found {name!r:.80}")
        proof = row.fields.get(self._column("proof"))
        if proof is not None and not isinstance(proof, str):
            raise BadRow(row.where, self._column("proof"), f"expected text or null, found {proof!r:.80}")
        text = self._read(proof) if self.proofs and proof is not None and proof.strip() else None
        script = None if text is None else plain_script(text, self.proof_form)
        # The files' own names may be those of library theorems, and one file may use a name twice.
        theorem = Theorem(
            name=f"{word(path.stem)}_{word(row.key)}",
            statement=statement,
            context=context,
            imports=self.imports,
            proofs=() if script is None else (script,),
        )
        known = {self._column(field) for field in ("statement", "context", "proof")}
        return TracedTheorem(
            id=f"lean_text/{path.parent.name}/{path.stem}/{row.key}",
            theorem=theorem,
            solutions=() if text is None else (text,),
            metadata={column: value for column, value in row.fields.items() if column not in known},
        )

    def _column(self, field: str) -> str:
        return self.columns.get(field, field)

    def _read(self, text: str) -> str:
        for old, new in self.replace.items():
            text = text.replace(old, new)
        return text


def word(text: str) -> str:
    """The text as part of a name."""
    return re.sub(r"\W+", "_", text).strip("_")


def plain_script(proof: str, form: Literal["term", "script"]) -> tuple[str, ...] | None:
    """The tactics of a proof that has one a line and none inside another; None for every other proof."""
    if form == "term":
        found = re.match(r"\s*by\b", proof)
        if found is None:
            return None
        proof = proof[found.end() :]
    lines = [re.sub(r"\s*--.*$", "", line) for line in proof.split("\n")]
    lines = [line for line in lines if line.strip()]
    if not lines or any(sign in proof for sign in ("/-", "sorry")) or any(NESTED.search(line) for line in lines):
        return None
    if proof[: proof.find("\n")].strip() and len(lines) > 1 and not proof.startswith((" ", "\n")):
        return None
    indents = {len(line) - len(line.lstrip()) for line in lines}
    if len(indents) > 1:
        return None
    tactics = tuple(line.strip() for line in lines)
    return tactics[:-1] if tactics[-1] == "done" and len(tactics) > 1 else tactics
