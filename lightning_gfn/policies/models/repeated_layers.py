"""The layers that a model repeats, and their compilation."""

from __future__ import annotations

import shutil

from torch import nn


def repeated_layers(root: nn.Module) -> list[nn.Module]:
    """The layers that Hugging Face models below ``root`` declare as their unit, in order."""
    names = {name for module in root.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in root.modules() if type(module).__name__ in names]


def compile_layers(root: nn.Module) -> None:
    """Let ``torch.compile`` make kernels for each layer, for any number of rows and positions, when it first runs.

    Raises:
        ValueError: there are no layers that repeat, or no C++ compiler for the processor.
    """
    layers = repeated_layers(root)
    if not layers:
        raise ValueError(f"compile_layers: {type(root).__name__} declares no layers that repeat; set it to false")
    if next(root.parameters()).device.type == "cpu" and shutil.which("g++") is None and shutil.which("clang++") is None:
        raise ValueError("compile_layers needs a C++ compiler (g++) on a processor: install one or set it to false")
    for layer in layers:
        layer.compile(dynamic=True)
