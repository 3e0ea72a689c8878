"""Make theorems with verified proofs: logic, numbers and lists, checked by the embedded Lean."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_gfn.lean_interfaces import BackendUnavailable, LeanBackend
from lightning_gfn.theorem_generation.canonical import canonical
from lightning_gfn.theorem_generation.dataset import SHARES, Quota, Row, row, split_rows, summary, write_rows
from lightning_gfn.theorem_generation.drafts import FAMILIES, Draft, attempt, drafts

FORMAT = 1
"""Of the work file; another number starts afresh."""


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn lean generate``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn lean generate", description=__doc__)
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, required=True, help="gets train, val, test and summary"
    )
    parser.add_argument("--num_train", type=int, default=600, help="training theorems (default: 600)")
    parser.add_argument("--num_val", type=int, default=60, help="validation theorems (default: 60)")
    parser.add_argument("--num_test", type=int, default=100, help="test theorems (default: 100)")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="default: all")
    parser.add_argument("--proofs", type=int, default=4, help="the most proofs of a theorem (default: 4)")
    parser.add_argument("--draws", type=int, default=12000, help="the most random draws of a family (default: 12000)")
    parser.add_argument("--seed", type=int, default=0, help="key of the theorems and of the split (default: 0)")
    parser.add_argument("--compress", action="store_true", help="write .json.gz")
    return parser


class Work:
    """The work file keeps Lean's verdict on each draft, so that a run that was cut off goes on where it stopped.

    Args:
        path: of the file, one JSON object a line.
        settings: what the answers depend on.

    Raises:
        ValueError: the file was made with other settings.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.known: dict[tuple[str, int], dict[str, Any]] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if not lines:
            path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        elif json.loads(lines[0]) != settings:
            raise ValueError(f"{path} was made with {lines[0]}, now it is {json.dumps(settings)}: delete it, or change "
                             "--output")  # fmt: skip
        for number, line in enumerate(lines[1:], start=2):
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                self._cut(lines[: number - 1])
                break
            self.known[entry["family"], entry["number"]] = entry

    def _cut(self, lines: list[str]) -> None:
        """Leave out a last line that was not written to its end."""
        self.path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def ask(self, draft: Draft, backend: LeanBackend, proofs: int) -> dict[str, Any]:
        """The answer on a draft, from the file if it is there."""
        key = draft.family, draft.number
        if key not in self.known:
            level, traced = attempt(backend, draft, proofs)
            entry = {"family": draft.family, "number": draft.number, "level": level, "proofs": traced}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self.known[key] = entry
        return self.known[key]


def collect(
    family: str, total: int, options: argparse.Namespace, work: Work, backend: LeanBackend, say: Callable[[str], None]
) -> tuple[list[Row], Counter[str]]:
    """The theorems of a family, and how many drafts were turned down for which reason."""
    quota, rejected, seen = Quota(family, total), Counter[str](), set[str]()
    begun = told = time.monotonic()
    for draft in drafts(family, options.seed, options.draws):
        form = canonical(draft.statement)
        if form in seen:
            rejected["seen before, up to renaming"] += 1
            continue
        seen.add(form)
        if draft.difficulty is not None and not quota.wants(draft.difficulty):
            rejected["enough of this difficulty"] += 1
            continue
        answer = work.ask(draft, backend, options.proofs)
        if not answer["proofs"]:
            rejected["no verified proof"] += 1
        elif not quota.wants(answer["level"]):
            rejected["enough of this difficulty"] += 1
        else:
            quota.take(row(draft, answer["level"], answer["proofs"]))
        if time.monotonic() - told > 5:
            told = time.monotonic()
            counts = " ".join(f"{level}:{len(rows)}" for level, rows in quota.taken.items())
            say(f"{family}: draw {draft.number}, kept by difficulty {counts}, {told - begun:.0f} s")
        if quota.full:
            break
    return quota.rows(), rejected


def generate(options: argparse.Namespace, backend: LeanBackend, say: Callable[[str], None]) -> dict[str, Any]:
    """Make the set and write it; returns the summary."""
    options.output.mkdir(parents=True, exist_ok=True)
    settings = {"format": FORMAT, "seed": options.seed, "proofs": options.proofs, "lean": backend.version}
    work = Work(options.output / "work.jsonl", settings)
    sizes = {"train": options.num_train, "val": options.num_val, "test": options.num_test}
    share = sum(SHARES[family] for family in options.families)
    rows: list[Row] = []
    rejected = {}
    for family in options.families:
        total = round(sum(sizes.values()) * SHARES[family] / share)
        found, rejected[family] = collect(family, total, options, work, backend, say)
        rows += found
        if len(found) < total:
            say(f"{family}: only {len(found)} of {total} theorems in {options.draws} draws; raise --draws for more")
    splits = split_rows(rows, sizes, options.seed)
    for name, chosen in splits.items():
        write_rows(options.output / f"{name}.json{'.gz' if options.compress else ''}", chosen)
    figures = {**settings, **summary(splits, {})}
    figures["rejected"] = {family: dict(counts) for family, counts in rejected.items()}
    (options.output / "summary.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def main(args: list[str]) -> int:
    """Run ``lightning-gfn lean generate``."""
    from lightning_gfn.environments.embedded import EmbeddedLean

    options = build_parser().parse_args(args)
    backend = EmbeddedLean(heartbeats=5000)
    try:
        figures = generate(options, backend, lambda text: print(text, flush=True))
    except (BackendUnavailable, ValueError) as error:
        print(f"lightning-gfn lean generate: {error}", file=sys.stderr)
        return 1
    finally:
        backend.close()
    print(json.dumps(figures, indent=1))
    print(f"{figures['proofs_verified']} proofs, each checked by Lean {figures['lean']}, are in {options.output}")
    return 0
