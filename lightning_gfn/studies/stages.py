"""The parts of a study: stages, what a search decides about them, and comparisons."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class StudyError(ValueError):
    """A study that cannot be carried out; the message names the file or folder, the field and the remedy."""


@dataclass(frozen=True)
class Choice:
    """Arguments of a stage that a search decides.

    Args:
        candidates: key of each search stage and the arguments that it tries.
        metric: validation metric by which the best candidate is chosen.
        largest: True if the largest value is the best one.
    """

    candidates: tuple[tuple[str, tuple[str, ...]], ...]
    metric: str
    largest: bool


@dataclass(frozen=True)
class Stage:
    """One step of a study: one command, or several with the same arguments.

    Args:
        name: as the study file calls it.
        seed: key of data order, initial weights and sampling.
        run_dir: the folder that it writes.
        commands: commands of ``lightning-gfn``, carried out in this order.
        arguments: what follows each of them.
        needs: keys of the stages that must have ended before.
        choice: further arguments that a search decides.
        inputs: files whose content decides what the stage does.
        is_search: True for a candidate of a search.
        method: what its run calls its method, by which a comparison names its baseline.
    """

    name: str
    seed: int
    run_dir: Path
    commands: tuple[str, ...]
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    choice: Choice | None = None
    inputs: tuple[Path, ...] = ()
    is_search: bool = False
    method: str = ""

    @property
    def key(self) -> str:
        """Name that is unique within the study."""
        return f"{self.name}@{self.seed}"

    def command_lines(self, chosen: Sequence[str] = ()) -> list[list[str]]:
        """What to call, with the arguments that a search chose."""
        resume = {name: ["--if_exists", "resume"] for name in ("run", "fit")}
        return [[name, *resume.get(name, []), *self.arguments, *chosen] for name in self.commands]

    def fingerprint(self, chosen: Sequence[str], needed: Sequence[str]) -> str:
        """A digest of what decides the stage's result: command, arguments, files, and the stages that it builds on."""
        digest = hashlib.sha256(json.dumps([*self.commands, *self.arguments, *chosen, *needed]).encode())
        for path in self.inputs:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Comparison:
    """A ``lightning-gfn compare`` at the end of a study: which stages, against which, with which options.

    Args:
        name: folder of its figures and tables.
        stages: names of the stages that are compared.
        baseline: method of the stage that the others are compared with; None for the command's own choice.
        arguments: further arguments of the command.
    """

    name: str
    stages: tuple[str, ...]
    baseline: str | None = None
    arguments: tuple[str, ...] = ()


@dataclass
class Study:
    """A study file, its stages by key in an order in which each comes after those that it needs.

    Args:
        path: the study file.
        output: folder of all runs.
        seeds: one run of each stage a seed.
        content: the file, with what it includes.
        comparisons: what comes at the end.
        stages: by key, ``name@seed``.
    """

    path: Path
    output: Path
    seeds: tuple[int, ...]
    content: Mapping[str, Any]
    comparisons: tuple[Comparison, ...] = ()
    stages: dict[str, Stage] = field(default_factory=dict)


def named_files(paths: Sequence[Path]) -> list[Path]:
    """The configuration files and the groups that they name, each once."""
    found: dict[Path, None] = {}
    pending = list(paths)
    while pending:
        path = pending.pop(0)
        if path in found:
            continue
        found[path] = None
        names = re.findall(r"[\w./-]+\.yaml", path.read_text(encoding="utf-8"))
        pending += [path.parent / name for name in names if (path.parent / name).is_file()]
    return list(found)
