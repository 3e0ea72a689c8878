"""Argument checks that the objectives share; each error names the argument and the remedy."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["mean", "sum"]


def check_shapes(**arguments: tuple[Tensor, tuple[int, ...]]) -> None:
    """Compare the shape of each named tensor with the one expected of it.

    Args:
        arguments: name = (tensor, expected shape).

    Raises:
        ValueError: names the first argument whose shape differs.
    """
    for name, (tensor, shape) in arguments.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")


def check_mask(name: str, mask: Tensor) -> None:
    """Refuse a mask that is not boolean: arithmetic on 0/1 masks would turn -inf under them into nan.

    Raises:
        ValueError: names the mask.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} has dtype {mask.dtype}, expected torch.bool: pass {name}.bool()")


def check_action_mask(mask_BT: Tensor) -> None:
    """Refuse an action mask that is not boolean or not padded on the right.

    Raises:
        ValueError: names ``mask_BT`` and the first row that breaks the rule.
    """
    check_mask("mask_BT", mask_BT)
    broken_B = (mask_BT[:, 1:] & ~mask_BT[:, :-1]).any(1)
    if bool(broken_B.any()):
        row = int(broken_B.nonzero()[0])
        raise ValueError(f"mask_BT is not padded on the right in row {row}: action tokens must come before all padding")


def batch_and_length(name: str, tensor: Tensor) -> tuple[int, int]:
    """(B, T) of a two-dimensional argument.

    Raises:
        ValueError: names the argument if it has another number of dimensions.
    """
    if tensor.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected two dimensions (trajectories, positions)")
    return tensor.shape[0], tensor.shape[1]


def check_lam(lam: float) -> None:
    """Refuse a λ outside (0, 1].

    Raises:
        ValueError: names ``lam``.
    """
    if not 0.0 < lam <= 1.0:
        raise ValueError(f"lam is {lam}, expected 0 < lam <= 1 (for adjacent prefixes alone use detailed balance)")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        ValueError: names the argument and the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(choices)}")


def check_positive(**values: float) -> None:
    """Refuse coefficients that are not above 0.

    Args:
        values: name = coefficient.

    Raises:
        ValueError: names the argument.
    """
    for name, value in values.items():
        if not value > 0.0:
            raise ValueError(f"{name} is {value}, expected a number above 0")


def check_smoothing(label_smoothing: float) -> None:
    """Refuse a share of wrong labels that would turn the preference over.

    Raises:
        ValueError: names ``label_smoothing``.
    """
    if not 0.0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}, expected 0 <= label_smoothing < 0.5")
