"""Say what this machine has, what is missing, and what each missing piece would give."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable

from lightning_gfn import __version__
from lightning_gfn.commands.doctor_parts.findings import Finding, table


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn doctor``."""
    parser = argparse.ArgumentParser(
        prog="lightning-gfn doctor",
        description=__doc__,
        epilog="Nothing is changed or started; lightning-gfn lean doctor starts Lean and proves something.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--quick", action="store_true", help="do not time the processor")
    return parser


def examined(quick: bool) -> list[Finding]:
    """Everything that is looked at; what cannot be looked at says why."""
    from lightning_gfn.commands.doctor_parts import machine, software

    parts: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("Machine", lambda: machine.examine_processor(measure=not quick)),
        ("Machine", machine.examine_gpus),
        ("Disk", machine.examine_disk),
        ("Software", machine.examine_python),
        ("Software", software.examine_packages),
        ("Lean", software.examine_lean),
        ("Models", software.examine_models),
        ("MLflow", software.examine_mlflow),
    )
    found: list[Finding] = []
    for section, look in parts:
        try:
            found += look()
        except Exception as error:  # whatever is wrong is what the doctor is asked about
            found.append(Finding(section, "fault", "missing", f"{type(error).__name__}: {error}"))
    return found


def main(args: list[str]) -> int:
    """Run the command; always 0, since a missing piece is an answer."""
    options = build_parser().parse_args(args)
    found = examined(options.quick)
    missing = sum(finding.state in ("missing", "needed") for finding in found)
    if options.json:
        rows = [finding.to_json() for finding in found]
        print(json.dumps({"lightning_gfn": __version__, "missing": missing, "findings": rows}, indent=2))
        return 0
    print(f"lightning-gfn {__version__}\n\n{table(found)}\n")
    if any(finding.state == "needed" for finding in found):
        print("packages that everything needs are missing: pip install lightning-gfn")
    elif missing:
        print(f"{missing} missing, none of them needed to begin: lightning-gfn quickstart")
    else:
        print("nothing is missing")
    return 0
