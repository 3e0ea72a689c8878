"""A trained reward network by its path: the folder that its run left, or a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_gfn.interfaces import RewardNetwork
from lightning_gfn.policies.decoder_factory import DTypeName
from lightning_gfn.policies.models.adapters import LoraSettings
from lightning_gfn.policies.reward_models.network import (
    HEAD_FILE,
    SETTINGS_FILE,
    LanguageRewardNetwork,
    Seq2SeqRewardNetwork,
)
from lightning_gfn.policies.text.tokenizers import TokenizerSettings
from lightning_gfn.sharding.checkpoint_folder import is_checkpoint_folder, read_rest, read_whole

STATE_KEY, MODEL_NAME = "lightning_gfn", "network"
"""Where ``RewardModelModule`` keeps the network in a checkpoint."""


class TrainedRewardNetwork(RewardNetwork):
    """A trained reward network by its path; its weights are loaded when it is first used, and frozen.

    Args:
        path: run folder of a reward model, its folder ``model``, or one of its checkpoint files.
        dtype: of the language model's weights.
        max_rows: solutions judged at once.

    Raises:
        FileNotFoundError: there is no reward network.
    """

    def __init__(self, path: str, *, dtype: DTypeName = "float32", max_rows: int = 256) -> None:
        self.path = find_reward_network(path)
        self.dtype: DTypeName = dtype
        self.max_rows = max_rows
        self.network: LanguageRewardNetwork | None = None
        self.saved = read_saved(self.path)
        self.is_calibrated = bool(self.saved["is_calibrated"])
        self.separator, self.prompt_template = (self.saved.get(name) for name in ("separator", "prompt_template"))

    def load(self) -> LanguageRewardNetwork:
        """The network with its trained weights, loaded once."""
        if self.network is None:
            make = from_folder if (self.path / SETTINGS_FILE).is_file() else from_checkpoint
            self.network = make(self.path, self.saved, dtype=self.dtype, max_rows=self.max_rows)
            self.network.requires_grad_(False).eval()
        return self.network

    def score_steps(self, prompts: Sequence[str], steps: Sequence[Sequence[str]], device: Any) -> list[list[float]]:
        """Scores of B solutions, one for each step; none for one without steps."""
        return self.load().score_steps(prompts, steps, device)


def find_reward_network(name: str) -> Path:
    """The folder or checkpoint that a path means.

    Raises:
        FileNotFoundError: saying what was looked for.
    """
    path = Path(name).expanduser()
    for folder in (path, path / "model"):
        if (folder / SETTINGS_FILE).is_file():
            return folder
    if path.is_file() or is_checkpoint_folder(path):
        return path
    raise FileNotFoundError(
        f"path={name!r}: no reward network there. Give the run folder of a reward model (its folder model holds "
        f"{SETTINGS_FILE} when training has ended), that folder, or a checkpoint file; train one with "
        "experiments/math/process_reward.yaml"
    )


def read_saved(path: Path) -> dict[str, Any]:
    """What a folder or a checkpoint says of its reward network.

    Raises:
        ValueError: the checkpoint holds none.
    """
    if (path / SETTINGS_FILE).is_file():
        return dict(json.loads((path / SETTINGS_FILE).read_text(encoding="utf-8")))
    state = (read_rest(path) if path.is_dir() else read_whole(path)).get(STATE_KEY, {})
    if "network" not in state:
        raise ValueError(f"{path} holds no reward network: it is no checkpoint of RewardModelModule")
    return dict(state["network"])


def class_and_settings(saved: Mapping[str, Any]) -> tuple[type[LanguageRewardNetwork], dict[str, Any]]:
    """The class of a saved network, and the settings that it takes; older folders are decoder-only."""
    settings = dict(saved)
    for name in ("is_calibrated", "separator", "prompt_template"):
        settings.pop(name, None)
    return Seq2SeqRewardNetwork if settings.pop("encoder_decoder", False) else LanguageRewardNetwork, settings


def from_folder(folder: Path, saved: Mapping[str, Any], *, dtype: DTypeName, max_rows: int) -> LanguageRewardNetwork:
    """The network of a folder that ``save_pretrained`` wrote.

    Args:
        folder: weights, tokenizer and settings.
        saved: its settings.
        dtype: of the language model's weights.
        max_rows: solutions judged at once.
    """
    make, settings = class_and_settings(saved)
    network = make(pretrained=str(folder), dtype=dtype, max_rows=max_rows, **settings)
    network.build(())
    network.output.load_state_dict(torch.load(folder / HEAD_FILE, map_location="cpu", weights_only=True))
    return network


def from_checkpoint(file: Path, saved: Mapping[str, Any], *, dtype: DTypeName, max_rows: int) -> LanguageRewardNetwork:
    """The network of a checkpoint that ``RewardModelModule`` wrote.

    Args:
        file: the checkpoint.
        saved: the network's settings in it.
        dtype: of the language model's weights.
        max_rows: solutions judged at once.

    Raises:
        ValueError: trained weights are missing.
    """
    checkpoint = read_whole(file)
    make, settings = class_and_settings(saved)
    settings["dtype"] = dtype
    if isinstance(settings["tokenizer"], dict):
        settings["tokenizer"] = TokenizerSettings(**settings["tokenizer"])
    if settings["lora"] is not None:
        settings["lora"] = LoraSettings(**settings["lora"])
    network = make(max_rows=max_rows, **settings)
    network.load_tokenizer_state(checkpoint[STATE_KEY]["tokenizer"])
    network.build(())
    start = f"{MODEL_NAME}."
    weights = {k.removeprefix(start): v for k, v in checkpoint["state_dict"].items() if k.startswith(start)}
    missing, _ = network.load_state_dict(weights, strict=False)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    if lost := sorted(trained & set(missing)):
        raise ValueError(f"{file} lacks {len(lost)} trained weights of its reward network, {lost[0]!r} among them")
    return network
