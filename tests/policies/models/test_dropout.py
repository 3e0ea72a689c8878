"""Dropout: off outside supervised fine-tuning, in whatever place a model keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_gfn.policies.models.adapters import LoraSettings

NOISY: dict[str, dict[str, Any]] = {
    "llama": {"attention_dropout": 0.5},
    "gpt2": {"attn_pdrop": 0.5, "embd_pdrop": 0.5, "resid_pdrop": 0.5},
    "t5": {"dropout_rate": 0.5},
    "bart": {"dropout": 0.5, "attention_dropout": 0.5, "activation_dropout": 0.5, "decoder_layerdrop": 0.5},
    "falcon": {
        "model_type": "falcon",
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "attention_dropout": 0.5,
        "hidden_dropout": 0.5,
    },
    "gptj": {"model_type": "gptj", "attn_pdrop": 0.5, "resid_pdrop": 0.5, "embd_pdrop": 0.5, "rotary_dim": 4},
    "mixtral": {"model_type": "mixtral", "router_jitter_noise": 0.5, "attention_dropout": 0.5},
}


def two_scores(policy: Any, kit: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Two gradient passes in training mode."""
    policy.train()
    contexts = [policy.encode_prompt(text) for text in ("one and one", "x")]
    rows = kit.pad_rows(contexts, [policy.encode_completion(text) for text in ("two", "y = 5")])
    first, second = (policy.score(rows).log_pf_NT for _ in range(2))
    return first, second


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", NOISY)
def test_a_stage_without_dropout_scores_the_same_twice(
    make_policy: Any, kit: Any, monkeypatch: pytest.MonkeyPatch, name: str, lora: bool, checkpointing: bool
) -> None:
    alike = {"gptj": "gpt2", "mixtral": "llama"}
    base = {} if name == "falcon" else kit.CONFIGS[alike.get(name, name)]
    monkeypatch.setitem(kit.CONFIGS, name, {**base, **NOISY[name]})
    # PEFT takes no dropout where it adapts the stacked weights of experts.
    targets = ["q_proj"] if name == "mixtral" else None
    settings = LoraSettings(rank=2, dropout=0.5, target_modules=targets) if lora else None
    policy = make_policy(name, lora=settings, gradient_checkpointing=checkpointing)
    first, second = two_scores(policy, kit)
    assert not torch.equal(first, second), "the case must have dropout"
    policy.set_dropout(True)
    first, second = two_scores(policy, kit)
    assert not torch.equal(first, second)
    policy.set_dropout(False)
    first, second = two_scores(policy, kit)
    assert torch.equal(first, second)
    policy.eval()
    assert torch.equal(first, two_scores(policy.eval(), kit)[0])


@pytest.mark.parametrize(("setting", "asked", "noisy"), [(True, False, True), (False, True, False)])
def test_the_policy_s_own_setting_decides(make_policy: Any, kit: Any, setting: bool, asked: bool, noisy: bool) -> None:
    policy = make_policy("gpt2", config=NOISY["gpt2"], dropout=setting)
    policy.set_dropout(asked)
    first, second = two_scores(policy, kit)
    assert torch.equal(first, second) != noisy


def test_the_saved_configuration_keeps_its_dropout(make_policy: Any, tmp_path: Path) -> None:
    policy = make_policy("gpt2", config=NOISY["gpt2"])
    policy.set_dropout(False)
    policy.save_pretrained(tmp_path)
    assert '"resid_pdrop": 0.5' in (tmp_path / "config.json").read_text()
