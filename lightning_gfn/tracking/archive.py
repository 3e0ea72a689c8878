"""Results of runs in one small file: what was measured and how, without weights, checkpoints and training data."""

from __future__ import annotations

import io
import json
import lzma
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lightning_gfn.whole_files import put_in_place

MARK = ".done.json"
IDENTITY = "run.json"
OF_A_RUN = (IDENTITY, "config.yaml", "budget.json", "metrics.jsonl")
OF_A_STUDY = "stages.json"
SUFFIX = ".tar.xz"


class ArchiveError(ValueError):
    """A folder that holds nothing to keep, or a file that is no archive; the message says what to do."""


@dataclass(frozen=True)
class Unpacked:
    """What became of the runs of an archive.

    Args:
        folder: where they lie now.
        added: names of the runs that were written.
        kept: names of those that were there already and were left as they are.
    """

    folder: Path
    added: tuple[str, ...]
    kept: tuple[str, ...]


def finished_runs(folder: Path) -> list[Path]:
    """The runs that have ended: of a study those with a mark, otherwise those with results.

    Args:
        folder: a study's, one run's, or one that holds runs.

    Raises:
        ArchiveError: there is none.
    """
    marks = sorted(folder.rglob(f"*{MARK}"))
    found = [mark.with_name(mark.name.removesuffix(MARK)) for mark in marks]
    if not marks:
        found = sorted({file.parents[1] for file in folder.rglob("results/*_metrics.json")})
    if not found:
        raise ArchiveError(f"{folder} holds no run that has ended: name the folder of a study, or of evaluated runs")
    return found


def files_of(run: Path) -> list[Path]:
    """The files of a run that are kept, its mark included."""
    mark = run.with_name(f"{run.name}{MARK}")
    results = sorted(file for file in (run / "results").rglob("*") if file.is_file())
    return [file for file in (mark, *(run / name for name in OF_A_RUN), *results) if file.is_file()]


def kept_content(file: Path) -> bytes:
    """The bytes that are kept of a file: all, but for the MLflow run of a ``run.json``, which other machines lack."""
    if file.name != IDENTITY:
        return file.read_bytes()
    content = json.loads(file.read_bytes())
    content.pop("mlflow", None)
    return (json.dumps(content, indent=2) + "\n").encode()


def pack(folder: Path, output: Path) -> tuple[int, int]:
    """Write the results of every run that has ended into one file; the same runs give the same bytes.

    Args:
        folder: a study's, one run's, or one that holds runs; its name is the archive's only folder.
        output: the file, ``….tar.xz``.

    Returns:
        the number of runs, and of bytes written.

    Raises:
        ArchiveError: no run has ended.
    """
    folder = folder.resolve()
    runs = finished_runs(folder)
    files = [file for run in runs for file in files_of(run)]
    if (stages := folder / OF_A_STUDY).is_file():
        files.insert(0, stages)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f"{output.name}.{os.getpid()}.partial")
    try:
        with tarfile.open(partial, "w:xz", format=tarfile.PAX_FORMAT, preset=9) as archive:
            for file in files:
                content = kept_content(file)
                entry = tarfile.TarInfo((PurePosixPath(folder.name) / file.relative_to(folder)).as_posix())
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        put_in_place(partial, output)
    finally:
        partial.unlink(missing_ok=True)
    return len(runs), output.stat().st_size


def unpack(file: Path, parent: Path) -> Unpacked:
    """Write the runs of an archive below a folder; runs that lie there already are left as they are.

    Args:
        file: that ``pack`` wrote.
        parent: the folder below which the study's folder is made.

    Raises:
        ArchiveError: the file is no such archive, or is damaged.
    """
    try:
        content = io.BytesIO(lzma.decompress(file.read_bytes()))
        with tarfile.open(fileobj=content, mode="r:") as archive:
            members = archive.getmembers()
            roots = {PurePosixPath(member.name).parts[0] for member in members}
            if len(roots) != 1 or not all(member.isfile() for member in members):
                raise ArchiveError(f"{file} was not written by lightning-gfn archive pack: unpack it with tar")
            folder = parent / roots.pop()
            runs = {name: run_of(name) for name in (member.name for member in members)}
            kept = {run for run in runs.values() if run and (folder / run).exists()}
            wanted = [member for member in members if runs[member.name] not in kept]
            wanted = [member for member in wanted if runs[member.name] or not (parent / member.name).exists()]
            archive.extractall(parent, members=wanted, filter="data")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise ArchiveError(f"{file} is no archive of results, or is damaged ({error}): fetch it again") from error
    added = {run for run in runs.values() if run} - kept
    return Unpacked(folder, tuple(sorted(added)), tuple(sorted(kept)))


def run_of(name: str) -> str:
    """The run that a member of an archive belongs to, relative to the study's folder; empty for the study's own.

    Args:
        name: of the member, the study's folder first.
    """
    inside = PurePosixPath(*PurePosixPath(name).parts[1:])
    if inside.name.endswith(MARK):
        return inside.as_posix().removesuffix(MARK)
    if inside.name == OF_A_STUDY and len(inside.parts) == 1:
        return ""
    below = [parent for parent in inside.parents if parent.name == "results"]
    return (below[-1].parent if below else inside.parent).as_posix()
