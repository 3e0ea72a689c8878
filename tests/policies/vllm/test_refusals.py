"""What users read of settings and servers that cannot work: before a model is loaded, with the remedy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from vllm_process import ServerProcess

from lightning_gfn.policies import language_model
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.seq2seq_lm import Seq2SeqLM
from lightning_gfn.policies.vllm.server import VllmError
from lightning_gfn.policies.vllm.settings import VllmSettings


@pytest.mark.parametrize(
    ("adapted", "flags", "message"),
    [
        (False, {"max_model_len": 10}, "--max-model-len is 10, but max_prompt_tokens and max_new_tokens need 11"),
        (True, {"lora": False}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve … --enable-lora"),
        (False, {"dev_mode": False}, "VLLM_SERVER_DEV_MODE=1 vllm serve"),
        (False, {"logprobs_mode": "raw_logprobs"}, "start it with --logprobs-mode processed_logprobs"),
        (False, {"fault": "old"}, "use vLLM 0.28"),
    ],
)
def test_a_server_that_lacks_something_is_refused_before_the_model_is_loaded(
    make_policy, server, monkeypatch, adapted, flags, message
) -> None:
    server.set(**flags)
    monkeypatch.setattr(language_model.loading, "load_pretrained", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(VllmError, match=f"policy.vllm.url {server.url}: .*{message}"):
        make_policy(adapted=adapted)


def test_no_server_is_said_at_once(make_policy, monkeypatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(VllmError, match=r"http://127.0.0.1:9: no vLLM server answers there .*docs/vllm.md"):
        make_policy(vllm={"url": "http://127.0.0.1:9"})


def test_an_adapter_that_is_too_wide_names_the_flag(make_policy, draw, server) -> None:
    policy = make_policy(adapted=True)
    server.set(max_lora_rank=2)
    with pytest.raises(VllmError, match="LoRA rank 4 is greater than max_lora_rank 2.*--max-lora-rank"):
        draw(policy, ["x"])


def test_weights_of_another_shape_are_refused(make_policy, draw, server, tmp_path) -> None:
    """Like another vocabulary: the server cannot take them, says so, and serves others again."""
    torch.manual_seed(0)
    config = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
              "num_attention_heads": 2, "max_position_embeddings": 64}  # fmt: skip
    other = CausalLM(config=config, max_prompt_tokens=8, max_new_tokens=3)
    other.build(())
    other.save_pretrained(tmp_path / "other")
    policy = make_policy()
    server.start_anew(str(tmp_path / "other"))
    with pytest.raises(VllmError, match="/collective_rpc: 500: .*model of the policy's architecture"):
        draw(policy, ["x"])
    assert server.counts()["/collective_rpc"] == server.counts()["/resume"] == 1


def test_an_adapter_on_another_base_is_noticed(make_policy, draw, server, tmp_path, model_folder) -> None:
    policy = make_policy(adapted=True, vllm={"max_mismatch": 0.05})
    torch.manual_seed(5)
    base = CausalLM(pretrained=model_folder, max_prompt_tokens=8, max_new_tokens=3)
    base.build(())
    with torch.no_grad():
        for parameter in base.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    base.save_pretrained(tmp_path / "base")
    server.start_anew(str(tmp_path / "base"))
    with pytest.raises(VllmError, match="serves another model than policy.pretrained"):
        draw(policy, ["x", "yy"])


def test_a_busy_server_is_asked_again(make_policy, draw, server) -> None:
    policy = make_policy()
    server.set(fault="busy")
    _, sampled = draw(policy, ["x", "yy"])
    assert sampled.action_ids_NT.shape[0] == 2


def test_a_server_that_dies_is_one_line(draw, model_folder, tmp_path) -> None:
    process = ServerProcess(model_folder)
    try:
        settings = VllmSettings(url=process.url, folder=str(tmp_path), max_retries=1, backoff_seconds=0.01)
        policy = CausalLM(pretrained=model_folder, max_prompt_tokens=8, max_new_tokens=3, vllm=settings)
        policy.build(())
        draw(policy, ["x"])
    finally:
        process.close()
    with pytest.raises(VllmError) as refused:
        draw(policy, ["x"])
    assert "\n" not in str(refused.value) and process.url in str(refused.value)


@pytest.mark.slow
def test_a_run_outlives_a_restart_of_the_server(draw, model_folder, tmp_path) -> None:
    """Killed, and back at the same address some tries later: it has lost the weights and gets them again."""
    process = ServerProcess(model_folder)
    settings = VllmSettings(url=process.url, folder=str(tmp_path), max_retries=20, backoff_seconds=1.0)
    policy = CausalLM(
        pretrained=model_folder, lora=LoraSettings(rank=2), max_prompt_tokens=8, max_new_tokens=3, vllm=settings
    )
    try:
        policy.build(())
        with torch.no_grad():
            for parameter in policy.parameters():
                if parameter.requires_grad:
                    parameter += 0.1
        _, before = draw(policy, ["x", "yy"])
        process.close()
        with ThreadPoolExecutor(1) as pool:
            restarted = pool.submit(ServerProcess, model_folder, process.port)
            _, after = draw(policy, ["x", "yy"])
            process = restarted.result()
        assert torch.equal(before.behaviour_log_pf_NT, after.behaviour_log_pf_NT)
    finally:
        process.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "localhost:8000"}, "vllm.url is 'localhost:8000', expected"),
        ({"url": "http://localhost:8000/v1"}, "leave out /v1"),
        ({"concurrency": 0}, "vllm.concurrency is 0"),
        ({"max_retries": -1}, "vllm.max_retries is -1"),
        ({"timeout_seconds": 0.0}, "vllm.timeout_seconds is 0.0"),
        ({"max_mismatch": float("nan")}, "vllm.max_mismatch is nan"),
        ({"key_variable": "NOT_THERE"}, "environment variable NOT_THERE is not set"),
    ],
)
def test_a_wrong_setting_names_itself(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        VllmSettings(**settings)


def test_what_vllm_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="vllm serves decoder-only models, Seq2SeqLM"):
        Seq2SeqLM(config={"model_type": "t5"}, vllm=VllmSettings())
    with pytest.raises(ValueError, match="set previous_adapter to merge"):
        CausalLM(config={"model_type": "llama"}, lora=LoraSettings(), previous_adapter="freeze", vllm=VllmSettings())


def test_the_folder_is_one_a_server() -> None:
    one, same, other = (VllmSettings(url=url).path for url in ("http://a:1", "http://a:1/", "http://a:2"))
    assert one == same != other and one.is_absolute()
