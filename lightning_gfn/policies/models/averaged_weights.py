"""An exponential moving average of trained weights, and a context in which the model runs with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lightning_gfn.finite import whole


class AveragedWeights(nn.Module):
    """A copy of the trained parameters of a model (of its adapter alone, where the rest is frozen) that follows them.

    The copy is kept in float32 or better, as buffers, so that it moves to devices and into checkpoints with the model.
    Of a model that is cut over processes the copy is cut alike, and gathered where it is applied.

    Args:
        model: the model; its parameters that require gradients are copied as they are now.

    Raises:
        ValueError: if nothing is trained.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        trained = self.trained(model)
        if not trained:
            raise ValueError("the model has no trained parameter that a teacher could be an average of")
        for name, parameter in trained.items():
            dtype = torch.promote_types(parameter.dtype, torch.float32)
            self.register_buffer(name, parameter.detach().to(dtype, copy=True))

    @staticmethod
    def trained(model: nn.Module) -> dict[str, nn.Parameter]:
        """Trained parameters by a name that a buffer may have."""
        return {n.replace(".", "/"): p for n, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float) -> None:
        """Move every average: average = decay · average + (1 - decay) · parameter.

        Args:
            model: the model that the average was made of.
            decay: in [0, 1]; 1 leaves the average as it is, 0 copies the parameters.

        Raises:
            ValueError: if ``decay`` is out of range.

        Source: Feedback Distillation, arXiv:2605.30861.
        """
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay is {decay}, expected 0 <= decay <= 1")
        averages = dict(self.named_buffers())
        for name, parameter in self.trained(model).items():
            averages[name].lerp_(parameter.detach().to(averages[name].dtype), 1.0 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Inside, the model computes with the averages; afterwards its parameters are the very same tensors again.

        Only for passes without gradient, where a model that is cut over processes is whole.
        """
        averages = dict(self.named_buffers())
        own: list[tuple[nn.Parameter, Tensor]] = []
        try:
            for name, parameter in self.trained(model).items():
                own.append((parameter, parameter.data))
                parameter.data = whole(averages[name]).to(parameter.dtype)
            yield
        finally:
            for parameter, data in own:
                parameter.data = data
