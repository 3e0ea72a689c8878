"""LeanDojo Benchmark 4: theorems of Mathlib with traced tactics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from datamodules.common.base import Split
from datamodules.common.rows import BadRow, Row
from datamodules.common.theorem_rows import (
    TracedTactic,
    location_of,
    split_file,
    text_of,
    theorem_rows,
    trace_of,
    whole_script,
)
from datamodules.common.theorems import TheoremDataModule, TracedTheorem
from datamodules.files.locations import require_local
from lightning_gfn.lean_types import Theorem

COLUMNS = ("formal_statement", "is_tactic_proof", "entry_time", "file_path", "start", "end")
"""Columns that become metadata where a row has them."""


class LeanDojoBenchmark4(TheoremDataModule):
    """Rows of LeanDojo Benchmark 4, as a list or as an object keyed by index.

    Consecutive tactics of a row need not chain: the exporter leaves some out and lists what stands inside combinators.
    Tactics behind a break have no history (``broken_chains``), and such a proof is not among ``Theorem.proofs``.

    The filters hold for every split. Proof Flow's are ``max_steps: 3``, ``tactic_only``, ``max_state: 900``,
    ``max_tactic: 90`` (tokens of ByT5, which are bytes: ``unit: bytes``) and ``max_entry_seconds: 5``.

    Args:
        path: folder with ``random/`` and ``novel_premises/``, or with train.json, val.json, test.json, or one file of
            training rows.
        split: of the two ways of splitting, where the folder has both.
        val_path: file of validation rows.
        test_path: file of test rows.
        max_steps: leave out theorems with more traced tactics.
        tactic_only: leave out theorems whose row says ``is_tactic_proof: false`` or has no traced tactic.
        max_state: leave out theorems that have a longer state,
        max_tactic: or a longer tactic.
        unit: of these two lengths.
        max_entry_seconds: leave out theorems that Lean took longer to enter, or failed to (``entry_time``,
            ``entry_failed``; only where a row has them).
        premises: put the facts that the known tactic uses before the state of a tactic: their names, or also their code
            from the corpus. An oracle: at test time a retriever would have to name them.
        max_premise_chars: the most characters of premises before a state.
        corpus_path: corpus.jsonl; the one in the folder if None.
        on_bad_row: stop at a malformed row, or skip and count it.
        settings: arguments of ``TheoremDataModule``.

    Raises:
        FileNotFoundError: a path does not exist, or the folder has no training rows.

    Source: Yang et al. 2023, arXiv:2306.15626; filters: Proof Flow, arXiv:2410.13224, section 4.
    """

    def __init__(
        self,
        path: str,
        *,
        split: Literal["random", "novel_premises"] = "random",
        val_path: str | None = None,
        test_path: str | None = None,
        max_steps: int | None = None,
        tactic_only: bool = True,
        max_state: int | None = None,
        max_tactic: int | None = None,
        unit: Literal["characters", "bytes"] = "characters",
        max_entry_seconds: float | None = None,
        premises: Literal["none", "names", "code"] = "none",
        max_premise_chars: int = 400,
        corpus_path: str | None = None,
        on_bad_row: Literal["error", "skip"] = "error",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.max_steps, self.tactic_only = max_steps, tactic_only
        self.max_state, self.max_tactic, self.unit = max_state, max_tactic, unit
        self.max_entry_seconds = max_entry_seconds
        self.premises, self.max_premise_chars = premises, max_premise_chars
        self.on_bad_row = on_bad_row
        self.num_filtered: dict[Split, Counter[str]] = {}
        self.num_skipped: dict[Split, int] = {}
        self.files = self._find(require_local(path, "path"), split)
        for name, given in (("val", val_path), ("test", test_path)):
            if given is not None:
                self.files[name] = require_local(given, f"{name}_path")
        self._code: Mapping[str, str] = {}
        if premises == "code":
            self._code = read_corpus(self._corpus(Path(path), corpus_path))

    def _find(self, path: Path, split: str) -> dict[str, Path]:
        if path.is_file():
            return {"train": path}
        folder = path / split if (path / split).is_dir() else path
        found = {name: file for name in ("train", "val", "test") if (file := split_file(folder, name)) is not None}
        if not found:
            raise FileNotFoundError(
                f"data.path: {path} has neither train.json, val.json, test.json nor a folder {split} with them"
            )
        return found

    def _corpus(self, path: Path, given: str | None) -> Path:
        if given is not None:
            return require_local(given, "corpus_path")
        file = (path if path.is_dir() else path.parent) / "corpus.jsonl"
        if not file.is_file():
            raise FileNotFoundError(
                f"data.premises is 'code', which needs {file}: give data.corpus_path, or set premises to 'names'"
            )
        return file

    def load_theorems(self, split: Split) -> list[TracedTheorem]:
        """The theorems of a split that pass the filters.

        Raises:
            ValueError: a row is malformed and ``on_bad_row`` is "error", or there is no such split and it is not the
                validation split.
        """
        if split not in self.files:
            if split == "val":
                return []
            raise ValueError(f"LeanDojoBenchmark4: no {split} rows, only {sorted(self.files)}: set data.{split}_path")
        found: list[TracedTheorem] = []
        bad: list[str] = []
        self.num_filtered[split] = Counter()
        for row in theorem_rows(self.files[split]):
            try:
                if isinstance(row, BadRow):
                    raise row
                traced = self._theorem(row, split)
            except BadRow as error:
                if self.on_bad_row == "error":
                    raise ValueError(f"{error}. Correct the row, or set data.on_bad_row to skip.") from error
                bad.append(str(error))
                continue
            reason = self.objection(traced, row)
            if reason is None:
                found.append(traced)
            else:
                self.num_filtered[split][reason] += 1
        self.num_skipped[split] = len(bad)
        if bad:
            rank_zero_warn(f"{self.files[split]}: skipped {len(bad)} rows. The first: {bad[0]}")
        return found

    def _theorem(self, row: Row, split: Split) -> TracedTheorem:
        trace = trace_of(row, "traced_tactics", row.fields.get("traced_tactics"))
        script = whole_script(trace)
        theorem = Theorem(
            name=text_of(row, "full_name"),
            statement=text_of(row, "statement") if "statement" in row.fields else "",
            proofs=(script,) if script is not None else (),
            location=location_of(row),
        )
        metadata = {name: row.fields[name] for name in COLUMNS if name in row.fields}
        return TracedTheorem(
            id=f"leandojo/{split}/{row.key}",
            theorem=theorem,
            traces=(trace,) if trace else (),
            first_state=trace[0].state_before if trace else None,
            metadata={**metadata, "num_tactics": len(trace)},
        )

    def objection(self, traced: TracedTheorem, row: Row) -> str | None:
        """Name the filter that the theorem fails; None if it passes."""
        steps = [step for trace in traced.traces for step in trace]
        if self.tactic_only and (not steps or row.fields.get("is_tactic_proof") is False):
            return "tactic_only"
        if self.max_steps is not None and len(steps) > self.max_steps:
            return "max_steps"
        if self.max_state is not None and any(self.length(step.state_before) > self.max_state for step in steps):
            return "max_state"
        if self.max_tactic is not None and any(self.length(step.tactic) > self.max_tactic for step in steps):
            return "max_tactic"
        if self.max_entry_seconds is not None:
            seconds = row.fields.get("entry_time")
            slow = isinstance(seconds, int | float) and seconds > self.max_entry_seconds
            if slow or row.fields.get("entry_failed"):
                return "max_entry_seconds"
        return None

    def length(self, text: str) -> int:
        """In the unit of the filters."""
        return len(text.encode()) if self.unit == "bytes" else len(text)

    def tactic_prompt(self, step: TracedTactic, past: tuple[str, ...]) -> str:
        """What a policy reads before a traced tactic, premises first if they are asked for."""
        prompt = super().tactic_prompt(step, past)
        if self.premises == "none":
            return prompt
        shown: list[str] = []
        for name in step.premises:
            text = f"<a>{name}</a>"
            code = self._code.get(name, "") if self.premises == "code" else ""
            shown.append(code.replace(name.rsplit(".", 1)[-1], text, 1) if code else text)
            if sum(map(len, shown)) + 2 * len(shown) > self.max_premise_chars:
                shown.pop()
                break
        return "\n\n".join([*shown, prompt])


def read_corpus(path: Path) -> dict[str, str]:
    """Code of each premise of corpus.jsonl by its full name.

    Raises:
        ValueError: a line is not ``{"path", "premises": [{"full_name", "code"}]}``; names it.
    """
    code: dict[str, str] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                for premise in json.loads(line)["premises"]:
                    code[premise["full_name"]] = premise["code"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}:{number}: expected a file with premises, each with full_name and code ({error!r})"
                ) from error
    return code
