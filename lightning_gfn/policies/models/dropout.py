"""Dropout and other noise of training, switched off for good."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

NOISE = ("drop", "jitter")
"""Parts of the names under which models keep the rates of noise that they add in training mode."""


def rates_of(holder: Any) -> dict[str, float]:
    """The noise rates above 0 among the attributes of a module or configuration."""
    return {
        name: value
        for name, value in vars(holder).items()
        if isinstance(value, float) and value > 0 and any(part in name for part in NOISE)
    }


def switch_off_dropout(model: nn.Module) -> None:
    """Set every noise rate inside a model to 0; its training mode stays, since gradient checkpointing needs it.

    Rates live in dropout layers, in attributes of other layers and in configurations that layers read as they run. The
    model's own configuration, which is saved with it, keeps them.

    Args:
        model: the model, with its adapter.
    """
    quiet: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name in rates_of(module):
            setattr(module, name, 0.0)
        config = vars(module).get("config")
        if config is None or module is model or not hasattr(config, "__dict__") or not rates_of(config):
            continue
        if id(config) not in quiet:
            quiet[id(config)] = copy.copy(config)
            for name in rates_of(config):
                setattr(quiet[id(config)], name, 0.0)
        module.config = quiet[id(config)]
