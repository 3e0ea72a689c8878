"""Contexts in which a model runs without dropout and without gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Inside, dropout is off; afterwards every submodule is in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def no_dropout_and_gradient(model: nn.Module) -> Iterator[None]:
    """``evaluation_mode`` without gradient."""
    with torch.no_grad(), evaluation_mode(model):
        yield
