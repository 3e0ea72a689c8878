"""Numbers that are not finite: finding them by one look at the device, and the error that ends a run for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class NotFiniteError(ArithmeticError):
    """A model or its training met NaN or infinity and cannot go on; the message says where and what to do."""


def own_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, which shares its memory: all of it unless it is cut into shards."""
    import torch

    if not hasattr(tensor, "to_local"):
        return tensor
    with torch.no_grad():
        part: Tensor = tensor.to_local()
    return part


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from the parts of all processes, which must call this together; itself if it is not cut."""
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered


def not_finite(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the floating-point tensors that hold NaN or infinity, found with one transfer from each device.

    Of tensors that are cut into shards, each process looks at its own.

    Args:
        named: tensors by name; others than floating-point ones are left out.
    """
    import torch

    parts = [(name, own_part(value.detach())) for name, value in named if value.is_floating_point()]
    chosen = [(name, value) for name, value in parts if value.numel()]
    by_device: dict[torch.device, list[tuple[str, Tensor]]] = {}
    for name, value in chosen:
        by_device.setdefault(value.device, []).append((name, value))
    found = []
    for pairs in by_device.values():
        largest = torch._foreach_norm([value for _, value in pairs], float("inf"))
        finite = torch.stack([value.float() for value in largest]).isfinite().tolist()
        found += [name for (name, _), good in zip(pairs, finite, strict=True) if not good]
    return found


def state_not_finite(module: nn.Module, optimizers: Iterable[Optimizer] = ()) -> list[str]:
    """Names of the parameters, and of the parameters' optimiser states, that are not finite."""
    import torch

    names = {id(parameter): name for name, parameter in module.named_parameters()}
    states = (
        (f"{key} of {names.get(id(parameter), 'a parameter')} in the optimiser", value)
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    )
    return not_finite(module.named_parameters()) or not_finite(states)


def largest_weight(module: nn.Module) -> float:
    """The largest absolute value of a trainable weight."""
    import torch

    parts = [own_part(parameter.detach()) for parameter in module.parameters() if parameter.requires_grad]
    trained = [part for part in parts if part.numel()]
    norms = torch._foreach_norm(trained, float("inf")) if trained else []
    return float(torch.stack([norm.float() for norm in norms]).max()) if trained else 0.0


def state_of_weights(model: nn.Module) -> str:
    """Which weights are not finite; or how large they are, where all are finite and what they compute is not."""
    broken = not_finite(model.named_parameters())
    if broken:
        return f"{len(broken)} of its weights are not finite, {broken[0]!r} among them"
    everything = ((name, parameter) for name, parameter in model.named_parameters())
    largest = max(((float(p.detach().abs().max()), name) for name, p in everything if p.numel()), default=(0.0, ""))
    return f"its weights are finite, the largest is {largest[0]:.3g} in {largest[1]!r}, what it computes overflows"
