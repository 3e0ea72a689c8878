"""The broadcast drives the trainer's side of vLLM as its interface of 0.33 asks; here a stand-in of it, no GPU."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import save_model

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.vllm import engine
from lightning_gfn.policies.vllm.engine import steps_of
from lightning_gfn.policies.vllm.server import VllmError
from lightning_gfn.policies.vllm.settings import VllmSettings


@dataclass
class InitInfo:
    """The fields that ``NCCLTrainerInitInfo`` needs."""

    master_address: str
    master_port: int
    world_size: int
    rank: int


class Sender:
    """Sends through a folder what vLLM would broadcast, with the same calls of the client."""

    folder: Path
    made = 0

    def __init__(self, info: InitInfo, client: Any, source: Any) -> None:
        Sender.made += 1
        self.client, self.source = client, source
        client.init_weight_transfer_engine(vars(info))

    def send_weights(self) -> None:
        self.client.start_weight_update()
        save_model(self.source, str(self.folder / "model.safetensors"))
        self.client.update_weights({"path": str(self.folder)})
        self.client.finish_weight_update()


class Factory:
    @staticmethod
    def trainer_init(init_info: InitInfo, *, client: Any, source: Any) -> Sender:
        return Sender(init_info, client, source)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stand-ins of the modules that are imported."""
    transfer = ModuleType("vllm.distributed.weight_transfer")
    transfer.ModuleSource, transfer.WeightTransferTrainerFactory = lambda module: module, Factory
    nccl = ModuleType("vllm.distributed.weight_transfer.nccl_engine")
    nccl.NCCLTrainerInitInfo = InitInfo
    for name, module in {
        "vllm": ModuleType("vllm"),
        "vllm.distributed": ModuleType("vllm.distributed"),
        transfer.__name__: transfer,
        nccl.__name__: nccl,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(engine, "check_package", lambda: None)
    Sender.folder, Sender.made = tmp_path, 0


def test_updates_are_broadcast_between_pause_and_resume(make_policy, draw, move, server, package, tmp_path) -> None:
    """The server refuses weights while requests may run, before a group or a start; one group serves all updates."""
    policy = make_policy(vllm={"transfer": "nccl", "nccl_address": "10.0.0.1"}, min_new_tokens=2)
    for update in range(3):
        contexts, sampled = draw(policy, ["x", "yy"])
        own = policy.score(steps_of(contexts, sampled)).log_pf_NT.detach()
        assert float((sampled.behaviour_log_pf_NT - own).abs().max()) < 1e-5
        counts = server.counts()
        assert counts["/update_weights"] == counts["/finish_weight_update"] == counts["/resume"] == update + 1
        move(policy, update)
    seen = server.set()
    assert Sender.made == seen["counts"]["/init_weight_transfer_engine"] == 1
    group = seen["group"]
    assert (group["master_address"], group["world_size"], group["rank"]) == ("10.0.0.1", 3, 0)
    assert "/collective_rpc" not in seen["counts"]
    assert [path for path in (tmp_path / "pushed").iterdir() if path.is_dir()] == []


def test_a_server_without_the_backend_is_named(make_policy, draw, server, package, monkeypatch) -> None:
    policy = make_policy(vllm={"transfer": "nccl"})

    def without_group(self: Sender, info: InitInfo, client: Any, source: Any) -> None:
        client._ask("/init_weight_transfer_engine", {})  # the server answers 500

    monkeypatch.setattr(Sender, "__init__", without_group)
    with pytest.raises(VllmError, match="--weight-transfer-config"):
        draw(policy, ["x"])
    assert server.counts()["/resume"] == 1


def test_what_cannot_be_broadcast_is_refused() -> None:
    nccl = VllmSettings(transfer="nccl")
    with pytest.raises(ValueError, match=r"needs the package vllm .*pip install 'lightning-gfn\[vllm\]'"):
        CausalLM(config={"model_type": "llama"}, vllm=nccl)
    with pytest.raises(ValueError, match="vllm.transfer: nccl is for whole weights"):
        CausalLM(config={"model_type": "llama"}, lora=LoraSettings(), vllm=nccl)
    with pytest.raises(ValueError, match="vllm.transfer is 'disk'"):
        VllmSettings(transfer="disk")  # type: ignore[arg-type]
