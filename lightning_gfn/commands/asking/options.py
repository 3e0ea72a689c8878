"""Options and errors of commands that ask a model."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model is asked, and where."""
    parser.add_argument(
        "model",
        metavar="MODEL_OR_RUN",
        help="folder of a run or of a model, checkpoint or GGUF file, installed model (lightning-gfn model list), or "
        "owner/model of the hub",
    )
    parser.add_argument("--checkpoint", help="of a run: last, best or a path (default: last)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 … (default: the first GPU if there is one)")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """How completions are drawn."""
    group = parser.add_argument_group("sampling")
    group.add_argument("-k", "--num_samples", metavar="K", type=int, default=8, help="of each (default: 8)")
    group.add_argument("--temperature", type=float, default=1.0, help="(default: 1.0)")
    group.add_argument("--top_k", type=int, help="keep the k most likely tokens")
    group.add_argument("--top_p", type=float, help="keep the most likely tokens of this mass")
    group.add_argument("--seed", type=int, default=0, help="(default: 0)")
    group.add_argument("--max_new_tokens", type=int, help="longest completion (default: that of the run, or 256)")
    group.add_argument("--max_rows", type=int, default=64, help="completions decoded at once (default: 64)")


def check_sampling(options: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing before a model is loaded.

    Raises:
        ValueError: names the option.
    """
    for name in ("num_samples", "temperature", "top_k", "max_new_tokens", "max_rows"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name} is {value}, expected a number above 0")
    if options.temperature == float("inf"):
        raise ValueError("--temperature is inf, expected a finite number")
    for name in ("top_p", "threshold"):
        value = getattr(options, name, None)
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"--{name} is {value}, expected a number in (0, 1]")


def named_columns(given: Sequence[str] | None) -> dict[str, str] | None:
    """``question=task answer=gold`` as a mapping.

    Raises:
        ValueError: a part has no equals sign, or names no field.
    """
    if given is None:
        return None
    known = ("question", "solution", "answer", "group", "id")
    found = {}
    for part in given:
        field, equals, column = part.partition("=")
        if not equals or not column or field not in known:
            raise ValueError(f"--columns {part}: expected FIELD=COLUMN with a field of {', '.join(known)}")
        found[field] = column
    return found


def run_asking(name: str, work: Callable[[Sequence[str]], int], args: Sequence[str]) -> int:
    """Carry out a command; what a user can mend becomes one line and exit status 2.

    Args:
        name: of the command.
        work: takes the arguments and returns the exit status.
        args: of the command.
    """
    from lightning_gfn.lean_interfaces import BackendFault, BackendUnavailable

    lightning = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = lightning.level
    lightning.setLevel(logging.WARNING)
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # else it tells of every attempt to reach the hub
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of data and libraries; what a command finds it says itself
        try:
            return work(args)
        except (ValueError, OSError, BackendUnavailable, BackendFault) as error:
            print(f"lightning-gfn {name}: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
        finally:
            lightning.setLevel(level)
