"""Reward networks: scores by position, causality, padding, adapters, saving and loading without unpickling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.reward_models.network import HEAD_FILE, LanguageRewardNetwork
from lightning_gfn.policies.reward_models.trained import TrainedRewardNetwork
from lightning_gfn.policies.text.tokenizers import TokenizerSettings

LLAMA = {
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 96, "initializer_range": 0.2,
}  # fmt: skip
PROMPTS = ["1 + 1?\n", "What is 2 + 2?\n", "x\n"]
STEPS = [["1 + 1 = 2.\n", "The answer is: 2"], ["The answer is: 4"], ["a\n", "bc\n", "d"]]
Maker = Callable[..., LanguageRewardNetwork]


@pytest.fixture
def make() -> Maker:
    """Builder of a small network whose output is not zero."""

    def make(**changes: Any) -> LanguageRewardNetwork:
        torch.manual_seed(0)
        settings: dict[str, Any] = {
            "config": LLAMA, "tokenizer": TokenizerSettings(kind="byte"), "max_prompt_tokens": 32,
            "max_completion_tokens": 48,
        }  # fmt: skip
        network = LanguageRewardNetwork(**{**settings, **changes})
        network.build(())
        for parameter in network.output.parameters():
            torch.nn.init.normal_(parameter)
        return network

    return make


def test_scores_are_read_at_the_last_token_of_each_step(make: Maker) -> None:
    """A written forward pass, one solution at a time, finds the same numbers."""
    network = make()
    score_BS, mask_BS, tokens = network(PROMPTS, STEPS)
    assert mask_BS.tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    total = 0
    for b, (prompt, steps) in enumerate(zip(PROMPTS, STEPS, strict=True)):
        ids = network.codec.encode_prompt(prompt)
        for k, step in enumerate(steps):
            ids = ids + network.codec.encode_completion(step)
            hidden = network.hugging_face.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            torch.testing.assert_close(score_BS[b, k], network.output(hidden)[0], atol=1e-5, rtol=1e-4)
        total += len(ids)
    assert tokens == total
    assert torch.equal(score_BS[~mask_BS], torch.zeros(3))


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2, alpha=4.0)], ids=["full", "lora"])
def test_scores_and_gradients_do_not_depend_on_the_pass(make: Maker, lora: LoraSettings | None) -> None:
    found = []
    for name in ("fused", "hugging_face"):
        network = make(scoring=name, lora=lora)
        for label, parameter in network.named_parameters():
            if "lora_B" in label:
                torch.nn.init.constant_(parameter, 0.05)
        score_BS, _, _ = network([PROMPTS[0], *PROMPTS], [STEPS[2], *STEPS])
        (score_BS * torch.arange(score_BS.numel()).view(score_BS.shape)).sum().backward()
        assert len(network.scoring.copies.known) == (name == "fused")
        found.append((score_BS.detach(), {n: p.grad for n, p in network.named_parameters() if p.grad is not None}))
    (fused, fused_gradients), (own, own_gradients) = found
    torch.testing.assert_close(fused, own, atol=1e-5, rtol=1e-5)
    assert fused_gradients.keys() == own_gradients.keys()
    for label, gradient in own_gradients.items():
        assert (gradient - fused_gradients[label]).abs().max() < 1e-4 * gradient.abs().max(), label


def test_the_position_matters(make: Maker) -> None:
    """The test above can fail: one token earlier the numbers differ."""
    network = make()
    score = network(["p\n"], [["abc", "d"]])[0]
    assert (score - network(["p\n"], [["ab", "d"]])[0]).abs().min() > 1e-3


def test_special_texts_in_a_step_change_nothing_about_positions(make: Maker) -> None:
    network = make()
    _, solution, ends = network.encode("p\n", ["a +", " - ки", "<eos>\n"])
    lengths = [len("a +"), len(" - ки".encode()), len("<eos>\n")]
    assert ends == [sum(lengths[: k + 1]) for k in range(3)] and len(solution) == ends[-1]


def test_later_steps_and_other_rows_do_not_matter(make: Maker) -> None:
    network = make()
    together = network.score_steps(PROMPTS, STEPS, "cpu")
    for prompt, steps, expected in zip(PROMPTS, STEPS, together, strict=True):
        assert network.score_steps([prompt], [steps], "cpu")[0] == pytest.approx(expected, abs=1e-5)
        for k in range(1, len(steps)):
            assert network.score_steps([prompt], [steps[:k]], "cpu")[0] == pytest.approx(expected[:k], abs=1e-5)
    network.max_rows = 1
    for one, all_ in zip(network.score_steps(PROMPTS, STEPS, "cpu"), together, strict=True):
        assert one == pytest.approx(all_, abs=1e-5)


def test_a_solution_without_steps_has_no_scores(make: Maker) -> None:
    scores = make().score_steps(["p\n", "q\n"], [[], ["a"]], "cpu")
    assert scores[0] == [] and len(scores[1]) == 1


def test_scoring_keeps_dropout_off_and_modes(make: Maker) -> None:
    network = make(config={**LLAMA, "attention_dropout": 0.5})
    assert network.training
    assert network.score_steps(PROMPTS, STEPS, "cpu") == network.score_steps(PROMPTS, STEPS, "cpu")
    assert network.training and network.hugging_face.training
    assert not torch.equal(network(PROMPTS, STEPS)[0], network(PROMPTS, STEPS)[0]), "dropout is on in training"


@pytest.mark.parametrize("changes", [{}, {"width": 8}, {"lora": LoraSettings(rank=2)}], ids=["full", "wide", "lora"])
def test_every_trainable_weight_gets_a_gradient(make: Maker, changes: dict[str, Any]) -> None:
    network = make(**changes)
    network(PROMPTS, STEPS)[0].square().sum().backward()
    for name, parameter in network.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name
    assert all(p.requires_grad for p in network.output.parameters())
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert any("embed_tokens" in name for name in trained) == ("lora" not in changes)
    assert not any("lm_head" in name for name in trained)


def test_tied_words_stay_trainable(make: Maker) -> None:
    network = make(config={**LLAMA, "tie_word_embeddings": True})
    assert network.hugging_face.get_input_embeddings().weight.requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["p"], [["a", ""]]), "a step is empty"),
        ((["p" * 40], [["a"]]), "a prompt has 41 tokens, max_prompt_tokens of the reward network is 32"),
        ((["p"], [["a" * 40, "b" * 9]]), "a completion has 49 tokens, max_completion_tokens"),
    ],
)
def test_what_cannot_be_judged_is_named(make: Maker, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(*arguments)


@pytest.mark.parametrize("changes", [{}, {"width": 8}], ids=["linear", "wide"])
def test_a_saved_folder_gives_the_same_scores(make: Maker, tmp_path: Path, changes: dict[str, Any]) -> None:
    network = make(**changes)
    network.save_pretrained(tmp_path / "run" / "model")
    for path in (tmp_path / "run", tmp_path / "run" / "model"):
        loaded = TrainedRewardNetwork(str(path))
        assert loaded.network is None, "construction loads nothing"
        expected = network.score_steps(PROMPTS, STEPS, "cpu")
        for found, wanted in zip(loaded.score_steps(PROMPTS, STEPS, "cpu"), expected, strict=True):
            assert found == pytest.approx(wanted, abs=1e-6)
        assert loaded.is_calibrated
        assert not any(p.requires_grad for p in loaded.load().parameters()) and not loaded.load().training


def test_an_adapter_is_saved_with_its_output_and_loads_merged(make: Maker, tmp_path: Path) -> None:
    base = make()
    base.save_pretrained(tmp_path / "base")
    adapted = make(config=None, tokenizer=None, pretrained=str(tmp_path / "base"), lora=LoraSettings(rank=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.is_calibrated = False
    adapted.save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    loaded = TrainedRewardNetwork(str(tmp_path / "adapter"))
    assert not loaded.is_calibrated
    expected = adapted.score_steps(PROMPTS, STEPS, "cpu")
    for found, wanted in zip(loaded.score_steps(PROMPTS, STEPS, "cpu"), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)
    assert base.score_steps(PROMPTS, STEPS, "cpu")[0] != pytest.approx(expected[0], abs=1e-2)


def test_no_code_is_unpickled(make: Maker, tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    torch.save({"0.weight": Path("/"), "0.bias": 0}, tmp_path / HEAD_FILE)
    with pytest.raises(Exception, match="weights_only|Weights only"):
        TrainedRewardNetwork(str(tmp_path)).load()


def test_wrong_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no reward network there"):
        TrainedRewardNetwork(str(tmp_path))
    torch.save({"lightning_gfn": {"tokenizer": json.dumps({})}}, tmp_path / "policy.ckpt")
    with pytest.raises(ValueError, match="holds no reward network"):
        TrainedRewardNetwork(str(tmp_path / "policy.ckpt"))
