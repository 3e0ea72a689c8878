"""Ask a model for proofs of a theorem in Lean 4, and show them by script, with what Lean says of the others."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gfn.commands.asking.options import add_model_options, add_sampling_options, check_sampling, run_asking
from lightning_gfn.commands.asking.shown import counted, indented, printable

if TYPE_CHECKING:
    from lightning_gfn.commands.asking.sources import ModelSource
    from lightning_gfn.types import Problem

EPILOG = """examples:
  lightning-gfn prove runs/lean/sft "theorem and_swap (p q : Prop) (hp : p) (hq : q) : q ∧ p"
  lightning-gfn prove runs/lean/sft --file mine.lean --search
  lightning-gfn prove runs/lean/sft --file statements.jsonl --row 1 2

Of a Lean file the theorems that end in sorry are tried, or if there are none the last one; what stands before a theorem
is its context. A proof counts when Lean has checked it again from its statement. Proofs are the same if their scripts
are, but for comments, white space and chosen names."""
BACKENDS = {
    "embedded": "lightning_gfn.environments.embedded.EmbeddedLean",
    "lean-interact": "lightning_gfn.environments.interact.LeanInteractBackend",
    "fake": "lightning_gfn.environments.fake.FakeLean",
}
SHOWN_FAILURES = 4
LONGEST = 200
"""Characters of a failed script, and of what Lean says of it."""


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn prove``."""
    parser = argparse.ArgumentParser(
        prog="lightning-gfn prove",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument("theorem", metavar="THEOREM", nargs="?", help="name, binders, colon and statement")
    asked = parser.add_argument_group("what is asked")
    asked.add_argument("--file", help="theorems of a Lean file, or rows with statements (JSON lines)")
    asked.add_argument("--split", choices=("train", "val", "test"), help="theorems of the run's own data set instead")
    asked.add_argument("--row", metavar="N", type=int, nargs="+", help="which of them, from 1 (rows: the first)")
    lean = parser.add_argument_group("Lean")
    lean.add_argument("--backend", choices=(*BACKENDS, "leandojo"), default="embedded", help="(default: embedded)")
    lean.add_argument("--automation", action="store_true", help="allow simp, omega, grind, … (barred as in training)")
    lean.add_argument("--max_steps", metavar="N", type=int, help="most tactics of a proof (default: the run's, or 8)")
    lean.add_argument("--search", action="store_true", help="best-first search; -k proofs end it")
    lean.add_argument("--nodes", type=int, default=64, help="states that a search expands (default: 64)")
    lean.add_argument("--branching", type=int, default=8, help="tactics that a search tries in each (default: 8)")
    add_sampling_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a theorem")
    return parser


def asked_theorems(source: ModelSource, options: argparse.Namespace) -> list[Problem]:
    """What the command line asks to prove.

    Raises:
        ValueError: it asks nothing, or two things at once.
        FileNotFoundError: the file does not exist.
    """
    from lightning_gfn.commands.asking.theorems import read_theorem, theorems_to_prove
    from lightning_gfn.types import Problem

    if [options.theorem is not None, options.file is not None, options.split is not None].count(True) != 1:
        raise ValueError('give one of "theorem …", --file FILE, and (of a run) --split train, val or test')
    if options.theorem is not None:
        theorem = read_theorem(options.theorem)
        return [Problem(f"asked/{theorem.name}", theorem.statement, theorem=theorem)]
    if options.file is not None and options.file.endswith(".lean"):
        try:
            text = Path(options.file).read_text(encoding="utf-8")
            found = theorems_to_prove(text)
        except UnicodeDecodeError as error:
            raise ValueError(f"{options.file} is no text in UTF-8: {error}") from error
        except ValueError as error:
            raise ValueError(f"{options.file}: {error}") from error
        problems = [Problem(f"{options.file}/{one.name}", one.statement, theorem=one) for one in found]
        return chosen(problems, options.row if options.row else range(1, len(problems) + 1))
    return chosen(theorems_of_rows(source, options), options.row if options.row else [1])


def theorems_of_rows(source: ModelSource, options: argparse.Namespace) -> list[Problem]:
    """The theorems of a file of rows, or of the run's own data set."""
    from lightning_gfn.commands.asking.classes import class_at
    from lightning_gfn.commands.asking.questions import data_of_run

    if options.file is not None:
        problems = class_at("datamodules.lean_text.LeanText")(options.file).problems("test")
    else:
        problems = data_of_run(source).problems(options.split)
    if any(problem.theorem is None for problem in problems):
        raise ValueError(f"{options.split} problems of the run are no theorems to prove: try lightning-gfn sample")
    return list(problems)


def chosen(problems: Sequence[Problem], rows: Sequence[int]) -> list[Problem]:
    """The problems of these numbers, counted from 1.

    Raises:
        ValueError: there is none of a number.
    """
    for number in rows:
        if not 1 <= number <= len(problems):
            raise ValueError(f"--row {number}: there are {len(problems)} theorems, counted from 1")
    return [problems[number - 1] for number in rows]


def make_environment(options: argparse.Namespace) -> Any:
    """A pool of one Lean process that has proved something trivial.

    Raises:
        ValueError: the backend cannot take statements.
        BackendUnavailable: it does not work here.
    """
    from lightning_gfn.commands.asking.classes import class_at
    from lightning_gfn.environments.pool import LeanPool
    from lightning_gfn.environments.rules import TacticRules

    if options.backend == "leandojo":
        raise ValueError(
            "--backend leandojo proves theorems of traced repositories alone, not statements: use embedded (core Lean) "
            "or lean-interact (projects with Mathlib)"
        )
    rules = TacticRules(barred=[]) if options.automation else TacticRules()
    pool = LeanPool(class_at(BACKENDS[options.backend])(), rules=rules)
    pool.setup()
    return pool


def no_prover(source: ModelSource, policy: Any) -> str | None:
    """A sentence about a model that is not known to have learnt proofs; None where its run trained on them."""
    if source.is_prover:
        return None
    chat = getattr(getattr(policy, "codec", None), "chat", None) is not None
    if source.is_prover is False:
        what = "was trained on other problems than proofs"
    else:
        what = "is a chat model and no prover" if chat else "is not known to be a prover"
    return (
        f"note: {source.name} {what}. It reads Lean's state and has to write one tactic; expect failures unless it has "
        "learnt that form (train one: experiments/lean/sft.yaml, or: lightning-gfn lean quickstart)."
    )


def as_text(found: Mapping[str, Any], theorem: Any) -> str:
    """A theorem and the attempts at it for a reader."""
    from lightning_gfn.commands.asking.theorems import lean_text

    if found["unstated"] is not None:
        return f"Lean refuses the statement: {found['unstated'].strip()}"
    proved = sum(attempt["proved"] for attempt in found["attempts"])
    scripts = sum(group["proved"] for group in found["groups"])
    lines = ["the first state:", *indented(found["first_state"] or "unknown", "  │ "), ""]
    result = f"{counted(proved, 'proof')}, {counted(scripts, 'script')}" if proved else "no proof"
    lines.append(f"{found['how']}, {found['lean']}: {result}")
    failures = [group for group in found["groups"] if not group["proved"]]
    for place, group in enumerate((group for group in found["groups"] if group["proved"]), start=1):
        best = found["attempts"][group["attempts"][0]]
        axioms = ", ".join(best["axioms"]) or "none"
        times = f", {counted(len(group['attempts']), 'attempt')}" if len(group["attempts"]) > 1 else ""
        lines += ["", f"── proof {place}{times}: log q {best['log_prob']:.1f}, axioms: {axioms}"]
        lines += indented(lean_text(theorem, best["tactics"]), "    ")
    for group in failures[:SHOWN_FAILURES]:
        best = found["attempts"][group["attempts"][0]]
        script = "; ".join(" ".join(tactic.split()) for tactic in best["tactics"])
        lines += ["", f"── failed, {counted(len(group['attempts']), 'time')}: {printable(group['label'])}"]
        lines += [f"    {printable(script)[:LONGEST]}"]
        if "\n" in (said := best["message"].strip()):
            lines += [f"    Lean: {printable(' '.join(said.split()))[:LONGEST]}"]
    if len(failures) > SHOWN_FAILURES:
        lines += ["", f"and {len(failures) - SHOWN_FAILURES} more kinds of failure (--json has all)"]
    if not found["tactics_accepted"] and found["attempts"]:
        lines += ["", "Lean accepted not one tactic of this model."]
    return "\n".join(lines)


def prove_all(policy: Any, source: ModelSource, problems: Sequence[Problem], pool: Any, options: Any) -> int:
    """Try every theorem and print what came of it; 0 if each was proved, 1 if one was not."""
    from lightning_gfn.commands.asking.attempts import make_proving, sampled_attempts, searched_attempts
    from lightning_gfn.rollouts.proofs.attempt import theorem_of

    proving = make_proving(pool, source, options.max_steps)
    about = pool.describe()
    lean = f"Lean {about['lean_version'].partition(',')[0]} ({about['backend']})"
    status = 0
    for problem in problems:
        started, theorem = time.monotonic(), theorem_of(problem)
        attempt = searched_attempts if options.search else sampled_attempts
        found: dict[str, Any] = {
            "model": str(source),
            "problem_id": problem.id,
            "lean": lean,
            "statement": theorem.statement,
            **attempt(policy, problem, proving, options),
        }
        status |= not any(tried["proved"] for tried in found["attempts"])
        if options.json:
            print(json.dumps(found, ensure_ascii=False), flush=True)
        else:
            print(f"theorem {theorem.name} {theorem.statement}\n{as_text(found, theorem)}\n", flush=True)
            print(f"({time.monotonic() - started:.1f} s)", file=sys.stderr, flush=True)
    return int(status)


def work(args: Sequence[str]) -> int:
    """Load, prove, print."""
    options = build_parser().parse_args(args)
    check_sampling(options)
    from lightning_gfn.commands.asking.classes import find_classes
    from lightning_gfn.commands.asking.policies import load_policy
    from lightning_gfn.commands.asking.sources import find_source

    find_classes()
    source = find_source(options.model, options.checkpoint)
    problems = asked_theorems(source, options)
    print("starting Lean …", file=sys.stderr, flush=True)
    pool = make_environment(options)
    try:
        policy = load_policy(source, max_new_tokens=options.max_new_tokens, device=options.device)
        if (note := no_prover(source, policy)) is not None:
            print(note, file=sys.stderr, flush=True)
        return prove_all(policy, source, problems, pool, options)
    finally:
        pool.close()


def main(args: list[str]) -> int:
    """Run the command; 0 if every theorem was proved, 1 if one was not, 2 if it could not be tried."""
    return run_asking("prove", work, args)
