"""GGUF files: their weights, tokenizers, and what policies make of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.language_model import LanguageModel
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.policies.text.tokenizers import load_tokenizer
from lightning_gfn.pretrained import gguf as reading
from lightning_gfn.pretrained.gguf import check_gguf, read_model, read_tokenizer

IDS = torch.tensor([[1, 40, 41, 42, 90, 91, 5, 2]])
Write = Callable[..., Path]
LIMITS = {"max_prompt_tokens": 32, "max_new_tokens": 16}


def built(policy_class: type[LanguageModel], file: Path, **settings: Any) -> Any:
    policy = policy_class(pretrained=str(file), **{**LIMITS, **settings})
    policy.build(())
    return policy


def test_weights_are_the_stored_ones(tiny_gguf: Path, llama: Any) -> None:
    model = read_model(tiny_gguf, "AutoModelForCausalLM", dtype=torch.float32)
    stored = llama.state_dict()
    found = model.state_dict()
    assert found.keys() == stored.keys() and all(torch.equal(found[name], stored[name]) for name in stored)
    with torch.no_grad():
        assert torch.allclose(model(IDS).logits, llama(IDS).logits, atol=1e-5)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_rows_in_another_order_would_be_noticed(write: Write, llama: Any) -> None:
    """The oracle can fail: a file whose query rows are not interleaved holds other weights."""
    file = write(interleave=False)
    model = read_model(file, "AutoModelForCausalLM", dtype=torch.float32)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(model.state_dict()[name], llama.state_dict()[name])


def test_quantised_weights_are_dequantised_exactly(write: Write, llama: Any) -> None:
    model = read_model(write(quantised=True), "AutoModelForCausalLM", dtype=torch.float32)
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"):
        original = llama.state_dict()[name].numpy()
        kind = gguf.GGMLQuantizationType.Q4_1
        expected = gguf.quants.dequantize(gguf.quants.quantize(original, kind), kind)
        assert np.array_equal(model.state_dict()[name].numpy(), expected) and not np.array_equal(original, expected)


def test_dtype_is_the_requested_one(tiny_gguf: Path) -> None:
    policy = built(CausalLM, tiny_gguf, dtype="bfloat16")
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("quantised", [False, True])
def test_a_trained_policy_leaves_a_clean_folder(write: Write, tmp_path: Path, quantised: bool) -> None:
    policy = built(CausalLM, write(quantised=quantised))
    with torch.no_grad():
        policy.hugging_face.model.norm.weight.mul_(1.5)
    policy.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "quantization_config" not in config and config["architectures"] == ["LlamaForCausalLM"]
    again = built(CausalLM, tmp_path / "model")
    assert again.encode_prompt("ab 12") == policy.encode_prompt("ab 12")
    with torch.no_grad():
        assert torch.equal(again.hugging_face(IDS).logits, policy.hugging_face.eval()(IDS).logits)


def test_weights_get_gradients(tiny_gguf: Path) -> None:
    policy = built(CausalLM, tiny_gguf)
    policy.hugging_face(IDS, labels=IDS).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in policy.parameters())


def test_an_adapter_names_its_file_wherever_it_is_loaded(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_gguf.parent)
    policy = built(CausalLM, Path(tiny_gguf.name), lora=LoraSettings(rank=2))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    policy.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    again = built(CausalLM, tmp_path / "model")
    with torch.no_grad():
        assert torch.allclose(again.hugging_face(IDS).logits, policy.model.eval()(IDS).logits, atol=1e-4)
    config = tmp_path / "model" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(tiny_gguf.resolve()), str(tmp_path / "gone.gguf")))
    with pytest.raises(FileNotFoundError, match=r"gone.gguf.*no such file"):
        CausalLM(pretrained=str(tmp_path / "model"))


def test_reward_networks_read_them(tiny_gguf: Path) -> None:
    network = LanguageRewardNetwork(pretrained=str(tiny_gguf), max_prompt_tokens=32, max_completion_tokens=16)
    network.build(())
    assert len(network.score_steps(["ab"], [["c", "d"]], "cpu")[0]) == 2


def test_what_cannot_be_read_is_refused_before_anything_is_loaded(
    tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"pretrained='.*none.gguf': no such file"):
        CausalLM(pretrained=str(tmp_path / "none.gguf"))
    (tmp_path / "other.gguf").write_text("text")
    with pytest.raises(ValueError, match="is no GGUF file: it does not begin with GGUF"):
        CausalLM(pretrained=str(tmp_path / "other.gguf"))
    with pytest.raises(ValueError, match="tokenizer='.*other.gguf' is no GGUF"):
        CausalLM(config={"model_type": "llama"}, tokenizer=str(tmp_path / "other.gguf"))
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package gguf; run: pip install gguf"):
        check_gguf(str(tiny_gguf))


def test_tokenizer_of_the_file(tiny_gguf: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_gguf))
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert tokenizer.model_max_length == 128
    assert tokenizer.tokenize("a  1\n\n23 he") == ["a", "ĠĠ", "1", "ĊĊ", "2", "3", "Ġ", "he"]
    assert tokenizer.encode("<|im_end|>") == [2]


def test_transformers_alone_would_split_digits_otherwise(tiny_gguf: Path) -> None:
    """Why the split is set: before a digit, white space falls apart without it."""
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(str(tiny_gguf.parent), gguf_file=tiny_gguf.name)
    assert plain.tokenize("a  1") != read_tokenizer(tiny_gguf).tokenize("a  1")


def test_an_unknown_rule_of_splitting_is_a_warning(write: Write) -> None:
    with pytest.warns(UserWarning, match="splits words by the rule 'other', which is not known"):
        read_tokenizer(write(rule="other"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_tokenizer(write(rule="gpt-2"))
        read_tokenizer(write(rule="qwen2"))
