"""Settings, folders, references, adapters and state of a policy."""

from __future__ import annotations

import copy
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationConfig

from lightning_gfn.interfaces import Policy
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.language_policy import LanguagePolicy
from lightning_gfn.policies.models import adapters
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.models.output_layer import OutputLayer
from lightning_gfn.policies.text.tokenizers import TokenizerSettings

LORA = LoraSettings(rank=2, alpha=2.0)
NAMES = ("llama", "qwen2", "qwen3", "mistral", "gpt2", "llama_biases_tied")


def score_of(policy: LanguagePolicy, kit: Any, **options: Any) -> Tensor:
    """log q of two fixed actions, stops included."""
    contexts = [policy.encode_prompt(text) for text in ("one and one", "x")]
    rows = kit.pad_rows(contexts, [policy.encode_completion(text) for text in ("two", "y = 5")])
    scores = policy.score(rows, **options)
    return scores.log_pf_NT.sum(1) + scores.log_pstop_NT1.sum(1)


def train_a_little(policy: LanguagePolicy, kit: Any) -> None:
    trainable = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    (-score_of(policy, kit).mean()).backward()
    optimizer.step()
    optimizer.zero_grad()


def reload_folder(folder: Path, policy_class: type[LanguagePolicy] = CausalLM, **settings: Any) -> Any:
    policy = policy_class(pretrained=str(folder), max_prompt_tokens=24, max_new_tokens=10, **settings)
    policy.build([])
    return policy.eval()


reload = partial(reload_folder, policy_class=CausalLM)


# -------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "exactly one of pretrained"),
        ({"pretrained": "a/b", "config": {"model_type": "llama"}}, ValueError, "exactly one of pretrained"),
        ({"config": {"hidden_size": 8}}, ValueError, "config.model_type is missing"),
        ({"pretrained": "./runs/nowhere/model"}, FileNotFoundError, "Train the earlier stage first"),
        ({"pretrained": "runs/nowhere/model"}, FileNotFoundError, "no such folder"),
        ({"pretrained": "tests/nowhere"}, FileNotFoundError, "no such folder"),
        ({"pretrained": "owner/model", "tokenizer": TokenizerSettings()}, ValueError, "its own tokenizer"),
        ({"pretrained": "owner/model", "max_new_tokens": 3, "min_new_tokens": 4}, ValueError, "min_new_tokens=4"),
        ({"pretrained": "owner/model", "max_new_tokens": 0}, ValueError, "max_new_tokens=0"),
        (
            {"pretrained": "owner/model", "decoder": "hugging_face", "sampling_dtype": "bfloat16"},
            ValueError,
            "needs the working copy",
        ),
    ],
)
def test_contradictions_fail_before_anything_is_loaded(
    settings: dict[str, Any], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(error, match=message):
        CausalLM(**settings)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither config.json nor adapter_config.json"):
        CausalLM(pretrained=str(tmp_path))


def test_construction_loads_nothing() -> None:
    policy = CausalLM(pretrained="owner/some-model-that-is-not-here", lora=LORA)
    assert not list(policy.parameters())
    with pytest.raises(RuntimeError, match="call build first"):
        _ = policy.device


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ({"hiden_size": 8}, {}, "config.hiden_size is no field"),
        ({"vocab_size": 100}, {}, "less than the 259 tokens"),
        ({"max_position_embeddings": 30}, {}, "exceed the 30 positions"),
        ({"model_type": "cohere"}, {"decoder": "fused"}, "CohereModel is not one of"),
        ({"hidden_act": "mish"}, {"sampling_dtype": "float32"}, "hidden_act='mish'"),
    ],
)
def test_impossible_models_are_refused(make_policy: Any, config: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy = make_policy("llama", config=config, **settings)
        policy.sample([[5]], torch.rand(1, 11))


def test_models_that_are_not_attention_alone_are_refused() -> None:
    block = {"model_type": "mamba", "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
    with pytest.raises(ValueError, match="model_type 'mamba' keeps a recurrent state.*qwen3_5_text"):
        CausalLM(config=block, max_prompt_tokens=4, max_new_tokens=4).build([])


def test_an_unknown_change_of_the_logits_is_refused(make_policy: Any) -> None:
    policy = make_policy("gemma2_soft_cap")
    with pytest.raises(ValueError, match="changes its logits"):
        policy.architecture.check_output_layer(policy.hugging_face, OutputLayer(policy.hugging_face.lm_head))


def test_long_prompts_are_refused(make_policy: Any) -> None:
    with pytest.raises(ValueError, match="max_prompt_tokens is 24"):
        make_policy("llama").encode_prompt("x" * 30)


def test_random_weights_follow_the_global_seed(make_policy: Any, kit: Any) -> None:
    assert torch.equal(score_of(make_policy("llama"), kit), score_of(make_policy("llama"), kit))


def test_adapters_stay_out_of_the_vision_tower(make_policy: Any) -> None:
    adapted = {}
    for targets in (None, ["q_proj"]):
        policy = make_policy("gemma3", lora=LoraSettings(rank=2, target_modules=targets))
        adapted[str(targets)] = [name for name, p in policy.named_parameters() if p.requires_grad]
        assert any("vision_tower" in name for name, _ in policy.named_parameters())
    for names in adapted.values():
        assert names and all(".language_model.layers." in name for name in names)
    assert len(adapted["None"]) == 7 * len(adapted["['q_proj']"])
    with pytest.raises(ValueError, match=r"no linear layer of the language model.*q_proj"):
        make_policy("gemma3", lora=LoraSettings(rank=2, target_modules=["fc9"]))


@pytest.mark.parametrize("name", ["gemma3", "qwen3_5"])
def test_positions_are_those_of_the_text_model(make_policy: Any, name: str) -> None:
    assert make_policy(name).num_positions == 64
    with pytest.raises(ValueError, match="exceed the 64 positions"):
        make_policy(name, max_prompt_tokens=60)


# -------------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2", "t5", "byt5"])
@pytest.mark.parametrize("settings", [{}, {"lora": LORA}, {"gradient_checkpointing": True}], ids=str)
def test_every_trainable_parameter_gets_a_gradient(make_policy: Any, kit: Any, name: str, settings: Any) -> None:
    policy = make_policy(name, **settings).train()
    policy.freeze_reference() if "lora" not in settings else None
    score_of(policy, kit).sum().backward()
    trainable = {name: p.grad for name, p in policy.named_parameters() if p.requires_grad}
    assert trainable and all(gradient is not None and gradient.any() for gradient in trainable.values())


def test_gradient_matches_plain_autograd(make_policy: Any, kit: Any) -> None:
    policy = make_policy("llama")
    score_of(policy, kit).sum().backward()
    given = {name: p.grad.clone() for name, p in policy.model.named_parameters()}
    policy.zero_grad()
    total = torch.zeros(())
    barred = policy.space.forbidden_ids
    for prompt, completion in (("one and one", "two"), ("x", "y = 5")):
        context, action = policy.encode_prompt(prompt), policy.encode_completion(completion)
        logits = policy.model(torch.tensor([context + action])).logits[0, len(context) - 1 :]
        log_p = logits.index_fill(1, barred, -torch.inf).log_softmax(1)
        total = total + log_p[range(len(action)), action].sum() + log_p[:, policy.space.stop_id].sum()
    total.backward()
    for name, parameter in policy.model.named_parameters():
        torch.testing.assert_close(given[name], parameter.grad, atol=1e-4, rtol=1e-3)


# -------------------------------------------------------------------- reference


@pytest.mark.parametrize("name", ["llama", "byt5"])
def test_reference_of_full_training_is_a_frozen_copy_in_the_state(make_policy: Any, kit: Any, name: str) -> None:
    policy = make_policy(name)
    with pytest.raises(RuntimeError, match="call freeze_reference"):
        score_of(policy, kit, reference=True)
    policy.freeze_reference()
    before = score_of(policy, kit).detach()
    train_a_little(policy, kit)
    given = score_of(policy, kit, reference=True)
    assert not given.requires_grad and not torch.allclose(score_of(policy, kit), before, atol=1e-3)
    torch.testing.assert_close(given, before, atol=1e-5, rtol=0)
    other = make_policy(name, config={"initializer_range": 0.02} if name == "llama" else {"initializer_factor": 0.1})
    other.freeze_reference()
    other.load_state_dict(policy.state_dict())
    torch.testing.assert_close(score_of(other, kit, reference=True), before, atol=1e-5, rtol=0)
    assert not any(p.requires_grad for p in policy.reference.parameters())


def fresh_lora(
    make_policy: Any, monkeypatch: pytest.MonkeyPatch, name: str = "llama", **settings: Any
) -> LanguagePolicy:
    """A policy whose adapter is still zero."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "std", lambda self: torch.ones(()))
        return make_policy(name, **{"lora": LORA, **settings})


@pytest.mark.parametrize("name", ["llama", "byt5"])
def test_reference_of_lora_is_the_model_without_it(
    make_policy: Any, kit: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    policy = fresh_lora(make_policy, monkeypatch, name, lora=LoraSettings(rank=2, dropout=0.5))
    policy.train()
    policy.freeze_reference()
    before = score_of(policy.eval(), kit).detach()
    policy.train()
    train_a_little(policy, kit)
    train_a_little(policy, kit)
    names = [name for name, p in policy.named_parameters() if p.requires_grad]
    torch.testing.assert_close(score_of(policy, kit, reference=True), before, atol=1e-5, rtol=0)
    assert [name for name, p in policy.named_parameters() if p.requires_grad] == names and names
    assert policy.training and all("lora_" in name for name in names)
    assert not torch.allclose(score_of(policy.eval(), kit), before, atol=1e-4)
    assert policy.reference is None
    with pytest.raises(RuntimeError, match="before the adapter is trained"):
        policy.freeze_reference()


# -------------------------------------------------------------------- folders


@pytest.mark.parametrize("name", [*NAMES, "t5", "byt5", "mt5", "bart"])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_saved_folder_gives_the_same_policy(make_policy: Any, kit: Any, tmp_path: Path, name: str, lora: Any) -> None:
    policy = make_policy(name, lora=lora)
    policy.save_pretrained(tmp_path / "model")
    loaded = reload_folder(tmp_path / "model", type(policy))
    assert loaded.encode_prompt("a b") == policy.encode_prompt("a b")
    torch.testing.assert_close(score_of(loaded, kit), score_of(policy, kit), atol=1e-5, rtol=0)
    assert not (tmp_path / "model" / "adapter_config.json").exists()
    assert loaded.space.end_ids.tolist() == policy.space.end_ids.tolist()


@pytest.mark.parametrize("how", ["merge", "freeze"])
@pytest.mark.parametrize("name", ["llama", "byt5"])
def test_stages_of_adapters(make_policy: Any, kit: Any, tmp_path: Path, name: str, how: Any) -> None:
    base, first, second = (tmp_path / folder for folder in ("base", "first", "second"))
    policy = make_policy(name)
    reload = partial(reload_folder, policy_class=type(policy))
    policy.save_pretrained(base)
    stage = reload(base, lora=LORA)
    kit.randomise(stage)
    stage.save_pretrained(first)
    after_first = score_of(stage, kit).detach()
    assert (first / "adapter_config.json").exists() and not (first / "model.safetensors").exists()
    torch.testing.assert_close(score_of(reload(first), kit), after_first, atol=1e-5, rtol=0)

    stage = reload(first, lora=LORA, previous_adapter=how)
    stage.freeze_reference()
    torch.testing.assert_close(score_of(stage, kit), after_first, atol=1e-5, rtol=0)
    names = [name for name, p in stage.named_parameters() if p.requires_grad]
    assert names and all(".default." in name for name in names)
    train_a_little(stage, kit)
    train_a_little(stage, kit)
    assert not torch.allclose(score_of(stage, kit), after_first, atol=1e-4)
    torch.testing.assert_close(score_of(stage, kit, reference=True), after_first, atol=1e-5, rtol=0)
    assert [name for name, p in stage.named_parameters() if p.requires_grad] == names
    now = score_of(stage, kit).detach()
    rows = kit.rows_of(stage, stage.sample([stage.encode_prompt(t) for t in kit.TEXTS], torch.rand(5, 11)))
    assert kit.largest_difference(stage.score(rows), kit.plain_log_probs(stage, rows)) < 1e-5
    stage.save_pretrained(second)
    torch.testing.assert_close(score_of(reload(second), kit), now, atol=1e-5, rtol=0)
    torch.testing.assert_close(score_of(stage, kit), now, atol=1e-6, rtol=0)


def test_an_adapter_without_a_base_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="base_model_name_or_path is empty"):
        adapters.base_of_adapter(tmp_path)


def test_which_base_is_reloadable(make_policy: Any, tmp_path: Path) -> None:
    full = make_policy("llama")
    full.save_pretrained(tmp_path)
    assert not full.base_is_reloadable and not make_policy("llama", lora=LORA).base_is_reloadable
    assert reload(tmp_path, lora=LORA).base_is_reloadable and not reload(tmp_path).base_is_reloadable


def test_end_tokens_of_the_generation_config_count(make_policy: Any, tmp_path: Path) -> None:
    policy = make_policy("llama")
    policy.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 77]}')
    assert reload(tmp_path).space.end_ids.tolist() == [2, 77]
    assert reload(tmp_path, end_tokens=["<eos>"]).space.end_ids.tolist() == [2]


@pytest.mark.parametrize("as_adapter", [False, True], ids=["whole", "adapter"])
@pytest.mark.parametrize("ends", [["<pad>"], ["<pad>", "<eos>"], ["a"], ["a", "<eos>"]], ids=str)
def test_end_tokens_survive_the_export(make_policy: Any, tmp_path: Path, ends: list[str], as_adapter: bool) -> None:
    """Plain ``generate`` stops at them, and two further stages end where the first did."""
    if as_adapter:
        make_policy("llama").save_pretrained(tmp_path / "base")
        policy = reload(tmp_path / "base", end_tokens=ends, lora=LORA)
    else:
        policy = make_policy("llama", end_tokens=ends)
    expected = policy.space.end_ids.tolist()
    policy.save_pretrained(tmp_path / "first")
    declared = GenerationConfig.from_pretrained(tmp_path / "first").eos_token_id
    assert (declared if isinstance(declared, list) else [declared]) == expected
    second = reload(tmp_path / "first", min_new_tokens=2)
    assert second.space.end_ids.tolist() == expected and second.space.min_new_tokens == 2
    second.save_pretrained(tmp_path / "second")
    for name in ("first", "second"):
        third = reload(tmp_path / name)
        assert third.space.end_ids.tolist() == expected
        assert third.encode_completion("a banana") == policy.encode_completion("a banana")
        assert third.tokenizer.eos_token == ("<pad>" if ends == ["<pad>"] else "<eos>")
    assert policy.tokenizer.eos_token == "<eos>"


def test_plain_generation_of_an_export_stops(make_policy: Any, tmp_path: Path) -> None:
    policy = make_policy("llama", end_tokens=["a"])
    policy.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[policy.space.stop_id] = model.model(torch.tensor([[5]])).last_hidden_state[0, -1]
    assert model.generate(torch.tensor([[5]]), max_new_tokens=8, do_sample=False).tolist() == [
        [5, policy.space.stop_id]
    ]


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_exported_files_obey_the_umask(make_policy: Any, tmp_path: Path, lora: Any) -> None:
    make_policy("llama").save_pretrained(tmp_path / "base")
    before = os.umask(0o027)
    try:
        reload(tmp_path / "base", lora=lora).save_pretrained(tmp_path / "model")
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "model").iterdir()}
    assert len(modes) > 3 and set(modes.values()) == {0o640}, modes


TARGETS = {
    "output layer": ["q_proj", "lm_head"],
    "embedding": ["q_proj", "embed_tokens"],
    "both": ["q_proj", "embed_tokens", "lm_head"],
}


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("name", ["llama", "llama_biases_tied"])
@pytest.mark.parametrize("as_adapter", [False, True], ids=["whole", "adapter"])
def test_adapters_of_tied_layers_are_saved_as_they_were_trained(
    make_policy: Any, kit: Any, tmp_path: Path, name: str, targets: list[str], as_adapter: bool
) -> None:
    lora = LoraSettings(rank=4, target_modules=targets)
    if as_adapter:
        make_policy(name).save_pretrained(tmp_path / "base")
        policy = reload(tmp_path / "base", lora=lora)
        kit.randomise(policy)
    else:
        policy = make_policy(name, lora=lora)
    trained = score_of(policy, kit).detach()
    sampled = policy.sample([policy.encode_prompt("x")], torch.rand(1, 11))
    rows = kit.rows_of(policy, sampled, ("x",))
    assert kit.largest_difference(sampled.scores, kit.plain_log_probs(policy, rows)) < 1e-4
    policy.save_pretrained(tmp_path / "first")
    for settings in ({}, {"lora": LORA}, {"lora": lora, "previous_adapter": "freeze"}, {"lora": lora}):
        stage = reload(tmp_path / "first", **settings)
        torch.testing.assert_close(score_of(stage, kit), trained, atol=1e-4, rtol=0)
        kit.randomise(stage)
        now = score_of(stage, kit).detach()
        stage.save_pretrained(tmp_path / "second")
        torch.testing.assert_close(score_of(reload(tmp_path / "second"), kit), now, atol=1e-4, rtol=0)
        shutil.rmtree(tmp_path / "second")


def test_a_stage_without_lora_trains_the_merged_weights(make_policy: Any, kit: Any, tmp_path: Path) -> None:
    make_policy("llama").save_pretrained(tmp_path / "base")
    first = reload(tmp_path / "base", lora=LORA)
    kit.randomise(first)
    first.save_pretrained(tmp_path / "first")
    stage = reload(tmp_path / "first")
    assert all(parameter.requires_grad for parameter in stage.parameters())
    before = score_of(stage, kit).detach()
    train_a_little(stage, kit)
    assert not torch.allclose(score_of(stage, kit), before, atol=1e-3)


# -------------------------------------------------------------------- state


def test_a_checkpoint_brings_its_trained_tokenizer(kit: Any) -> None:
    def make(texts: list[str]) -> CausalLM:
        policy = CausalLM(
            config={**kit.CONFIGS["llama"]},
            tokenizer=TokenizerSettings(kind="bpe", vocab_size=280),
            max_prompt_tokens=24,
            max_new_tokens=10,
        )
        policy.build(texts)
        return policy

    first, second = make(["one one one two two"] * 9), make(["entirely other words, others"] * 9)
    assert len(second.tokenizer) <= second.vocab_size == first.vocab_size == 280
    assert first.encode_completion("one two") != second.encode_completion("one two")
    second.load_state_dict(first.state_dict())
    second.load_tokenizer_state(first.tokenizer_state())
    torch.testing.assert_close(score_of(second, kit), score_of(first, kit))
    early = CausalLM(
        config={**kit.CONFIGS["llama"]},
        tokenizer=TokenizerSettings(kind="bpe", vocab_size=280),
        max_prompt_tokens=24,
        max_new_tokens=10,
    )
    early.load_tokenizer_state(first.tokenizer_state())
    early.build(["other texts"])
    assert early.encode_completion("one two") == first.encode_completion("one two")
    assert early.space.allowed_V.sum() == first.space.allowed_V.sum()


def test_a_state_of_another_kind_is_refused(make_policy: Any, tmp_path: Path) -> None:
    made = make_policy("llama")
    made.save_pretrained(tmp_path)
    loaded = reload(tmp_path)
    loaded.load_tokenizer_state(loaded.tokenizer_state())
    with pytest.raises(ValueError, match="made in another way"):
        loaded.load_tokenizer_state(made.tokenizer_state())
    with pytest.raises(ValueError, match="made in another way"):
        made.load_tokenizer_state(loaded.tokenizer_state())


@pytest.mark.parametrize("name", ["llama", "byt5"])
def test_a_policy_can_be_copied_and_stays_a_module(make_policy: Any, kit: Any, name: str) -> None:
    policy = make_policy(name)
    policy.sample([policy.encode_prompt("x")], torch.rand(1, 11))
    twin = copy.deepcopy(policy)
    assert isinstance(twin, nn.Module)
    assert torch.equal(score_of(twin, kit), score_of(policy, kit))


def test_a_policy_is_built_from_yaml(tmp_path: Path) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_subclass_arguments(Policy, "policy")
    (tmp_path / "policy.yaml").write_text(
        "class_path: lightning_gfn.policies.causal_lm.CausalLM\n"
        "init_args:\n"
        "  config: {model_type: llama, hidden_size: 16}\n"
        "  tokenizer: {kind: bpe, vocab_size: 300}\n"
        "  lora: {rank: 2, target_modules: [q_proj]}\n"
        "  max_new_tokens: 7\n"
        "  end_tokens: [<eos>, '.']\n"
    )
    arguments = ["--policy", str(tmp_path / "policy.yaml"), "--policy.init_args.min_new_tokens", "3"]
    policy = parser.instantiate(parser.parse_args(arguments)).policy
    assert isinstance(policy, CausalLM)
    assert policy.lora == LoraSettings(rank=2, target_modules=["q_proj"])
    assert policy.tokenizer_source == TokenizerSettings(kind="bpe", vocab_size=300)
    assert (policy.max_new_tokens, policy.min_new_tokens, policy.end_tokens) == (7, 3, ["<eos>", "."])
    with pytest.raises(SystemExit):
        parser.parse_args([*arguments, "--policy.init_args.max_new_token", "3"])
