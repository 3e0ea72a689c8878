"""A set of theorems: quotas of families and difficulties, splits, files."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lightning_gfn.theorem_generation.canonical import clashes, group
from lightning_gfn.theorem_generation.drafts import Draft, Traced

LEVELS = (1, 2, 3, 4)
SHARES = {"propositional": 0.44, "first_order": 0.215, "nat": 0.195, "list": 0.15}
"""Of the theorems of a set, by family."""
LEVEL_SHARES = {
    "propositional": (0.25, 0.25, 0.25, 0.25),
    "first_order": (0.27, 0.27, 0.32, 0.14),
    "nat": (0.3, 0.42, 0.24, 0.04),
    "list": (0.3, 0.42, 0.24, 0.04),
}
"""Of the theorems of a family, by difficulty: long proofs about numbers and lists are rare among short statements."""
ENOUGH = 1.02
"""So many times the wanted number of theorems end the drawing, also where some difficulty has too few."""
Row = dict[str, Any]


class Quota:
    """A quota counts the theorems of each difficulty that a family still takes; the rest waits, to fill up in the end.

    Args:
        family: which one.
        total: theorems of the family.
    """

    def __init__(self, family: str, total: int) -> None:
        self.total = total
        ends = [round(total * sum(LEVEL_SHARES[family][:level])) for level in (0, *LEVELS)]
        self.each = {level: ends[level] - ends[level - 1] for level in LEVELS}
        self.taken: dict[int, list[Row]] = {level: [] for level in LEVELS}

    def wants(self, level: int) -> bool:
        """Whether a theorem of this difficulty may still be of use."""
        return len(self.taken[level]) < 2 * self.each[level] + 1

    def take(self, row: Row) -> None:
        """Keep a theorem."""
        self.taken[row["difficulty"]].append(row)

    @property
    def full(self) -> bool:
        """Whether every difficulty has its share, or there are more than enough in all."""
        enough = sum(map(len, self.taken.values())) >= ENOUGH * self.total
        return enough or all(len(self.taken[level]) >= self.each[level] for level in LEVELS)

    def rows(self) -> list[Row]:
        """The theorems: each difficulty's share, and others where some difficulty has too few."""
        chosen = [row for level in LEVELS for row in self.taken[level][: self.each[level]]]
        spare = [self.taken[level][self.each[level] :] for level in LEVELS]
        while len(chosen) < self.total and any(spare):
            largest = max(spare, key=len)
            chosen.append(largest.pop(0))
        return chosen


def row(draft: Draft, level: int, proofs: Sequence[Traced]) -> Row:
    """A theorem as LeanDojo writes it, with the further proofs beside the first."""
    first = [{**step, "annotated_tactic": [step["tactic"], []]} for step in proofs[0]]
    return {
        "url": None,
        "commit": None,
        "file_path": None,
        "full_name": f"{draft.family}_{draft.number}",
        "start": None,
        "end": None,
        "family": draft.family,
        "difficulty": level,
        "statement": draft.statement,
        "context": [],
        "imports": ["Init"],
        "traced_tactics": first,
        "proofs": [list(proof) for proof in proofs],
    }


def split_rows(rows: Iterable[Row], sizes: Mapping[str, int], seed: int) -> dict[str, list[Row]]:
    """Rows by split, each family and difficulty in the same proportions; a group of equal statements stays together.

    Raises:
        ValueError: a group stands in two splits all the same.
    """
    strata: dict[tuple[str, int], list[Row]] = {}
    for one in rows:
        strata.setdefault((one["family"], one["difficulty"]), []).append(one)
    whole, seen, given = sum(sizes.values()), 0, Counter[str]()
    place: dict[str, str] = {}
    splits: dict[str, list[Row]] = {name: [] for name in sizes}
    for stratum in strata.values():
        seen += len(stratum)
        stratum.sort(key=lambda one: blake2b(f"{seed}/{group(one['statement'])}".encode()).digest())
        for one in stratum:
            short = {name: sizes[name] * seen / whole - given[name] for name in sizes}
            split = place.setdefault(group(one["statement"]), max(short, key=lambda name: short[name]))
            splits[split].append(one)
            given[split] += 1
    found = clashes({name: [one["statement"] for one in chosen] for name, chosen in splits.items()})
    if found:
        raise ValueError(f"statements equal up to renaming in two splits: {found[0][0]!r} and {found[0][1]!r}")
    return splits


def summary(splits: Mapping[str, Sequence[Row]], rejected: Mapping[str, int]) -> dict[str, Any]:
    """Figures of a set: theorems by split, family and difficulty, proofs, steps, what was turned down."""
    everything = [one for rows in splits.values() for one in rows]
    proofs = [proof for one in everything for proof in one["proofs"]]
    tactics = [step for proof in proofs for step in proof]
    return {
        "theorems": {name: len(rows) for name, rows in splits.items()},
        "by_family_and_difficulty": {
            name: dict(sorted(Counter(f"{one['family']}/{one['difficulty']}" for one in rows).items()))
            for name, rows in splits.items()
        },
        "proofs_verified": len(proofs),
        "proofs_per_theorem": dict(sorted(Counter(str(len(one["proofs"])) for one in everything).items())),
        "steps_per_proof": dict(sorted(Counter(str(len(proof)) for proof in proofs).items())),
        "longest_state": max((len(step["state_before"]) for step in tactics), default=0),
        "longest_tactic": max((len(step["tactic"]) for step in tactics), default=0),
        "rejected": dict(rejected),
    }


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """A JSON array, one theorem a line; compressed if the name ends in .gz, and then the same bytes every time."""
    text = "[\n" + ",\n".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in rows) + "\n]\n"
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
