"""What a checkpoint of an adapter holds: nothing that its base gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from lightning_gfn.modules.sft import SFTModule
from lightning_gfn.policies.causal_lm import CausalLM
from lightning_gfn.policies.models.adapters import LoraSettings


def test_an_adapter_s_checkpoint_leaves_out_tied_layers_too(
    make_policy: Any, make_trainer: Any, letters: Any, tmp_path: Path
) -> None:
    config = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": True,
    }  # fmt: skip
    base = make_policy(config=config)
    base.build(())
    base.save_pretrained(tmp_path / "base")
    policy = CausalLM(
        pretrained=str(tmp_path / "base"), max_prompt_tokens=8, max_new_tokens=4, lora=LoraSettings(rank=2)
    )
    module, trainer = SFTModule(policy), make_trainer(1)
    trainer.fit(module, DataLoader(letters, batch_size=3, collate_fn=list))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert kept and all("lora_" in name for name in kept), sorted(kept)
    assert (tmp_path / "last.ckpt").stat().st_mode & 0o777 == (tmp_path / "base/config.json").stat().st_mode & 0o777
