"""Train a small model on proofs in real Lean, supervised and then by trajectory balance; print what it proves."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_gfn.commands.study import build_parser, run_study
from lightning_gfn.installation.experiments import experiments_folder

STUDY = Path("studies") / "quickstart_lean.yaml"
SHOWN = ("solve_rate", "pass_at_8", "distinct_correct_rouge_0.7")
STAGES = {"sft": "supervised", "gfn": "then trajectory balance"}
NUM_PROOFS = 3


def main(args: list[str]) -> int:
    """Run the quickstart; returns the exit status."""
    parser = build_parser("lightning-gfn lean quickstart", __doc__)
    parser.add_argument(
        "--experiments", type=Path, default=experiments_folder(), help="folder that holds studies/quickstart_lean.yaml"
    )
    options = parser.parse_args(args)
    from lightning_gfn.environments.embedded import EmbeddedLean

    reason = EmbeddedLean.unavailable()
    if reason is not None:
        print(f"lean quickstart: {reason}", file=sys.stderr)
        return 2
    file = options.experiments / STUDY
    if not file.exists():
        print(f"no {file}: name the folder that holds it: --experiments DIR", file=sys.stderr)
        return 2
    output = options.output if options.output is not None else Path("runs/quickstart_lean")
    fresh = options.if_exists == "fresh"
    status = run_study(file, output=output, seeds=options.seeds, jobs=options.jobs, fresh=fresh)
    if status == 0:
        seed = (options.seeds or [0])[0]
        print(report({name: output / f"{name}_seed{seed}" for name in STAGES}))
        print(f"Look at {output}/comparison.html, and at {output}/gfn_seed{seed}/proofs/test for proofs as Lean files.")
    return status


def report(folders: Mapping[str, Path]) -> str:
    """Solve rates of every stage, and three proofs of the last one.

    Args:
        folders: run folders by the name of their stage.
    """
    lines = [f"{'held-out theorems':<26}" + "".join(f"{name:>30}" for name in SHOWN)]
    for stage, folder in folders.items():
        metrics = json.loads((folder / "results" / "test_metrics.json").read_text(encoding="utf-8"))["metrics"]
        cells = (f"{cell(metrics[name]):>30}" for name in SHOWN)
        lines.append(f"{STAGES[stage]:<26}" + "".join(cells))
    rows = (list(folders.values())[-1] / "proofs" / "test" / "proofs.jsonl").read_text(encoding="utf-8").splitlines()
    for proof in longest_proofs([json.loads(row) for row in rows]):
        lines += ["", f"theorem {proof['theorem']} {proof['statement']} := by", *proof["text"]]
    return "\n".join(lines)


def cell(value: Mapping[str, Any]) -> str:
    """A figure with its interval."""
    low, high = value["ci95"]
    return f"{value['value']:.3f} [{low:.3f}, {high:.3f}]"


def longest_proofs(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The longest checked proofs, each of another theorem, with their text."""
    held = sorted((row for row in rows if row["verified"]), key=lambda row: -len(row["script"]))
    chosen = list({row["problem_id"]: row for row in reversed(held)}.values())
    chosen.sort(key=lambda row: (-len(row["script"]), row["problem_id"]))
    return [{**row, "text": [f"  {tactic}" for tactic in row["script"]]} for row in chosen[:NUM_PROOFS]]
