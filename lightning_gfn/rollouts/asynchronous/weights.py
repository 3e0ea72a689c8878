"""Weights on their way to an actor: bytes that Ray shares between the processes of a machine without copying."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_gfn.interfaces import Policy


@dataclass(frozen=True)
class PackedTensor:
    """A tensor as bytes; numpy has no bfloat16.

    Args:
        data: the bytes, uint8.
        dtype: of the tensor.
        shape: of the tensor.
    """

    data: NDArray[Any]
    dtype: torch.dtype
    shape: tuple[int, ...]

    def tensor(self) -> Tensor:
        """A copy that may be written to."""
        made = torch.empty(self.shape, dtype=self.dtype)
        made.reshape(-1).view(torch.uint8).numpy()[:] = self.data
        return made


PackedState = dict[str, PackedTensor]


def packed(tensors: Mapping[str, Tensor]) -> PackedState:
    """Tensors as bytes in the memory of this process."""
    return {
        name: PackedTensor(
            value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy(), value.dtype, tuple(value.shape)
        )
        for name, value in tensors.items()
    }


def network_of(policy: Policy) -> nn.Module:
    """The policy as a module of weights.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(policy, nn.Module):
        raise TypeError(
            f"model.policy {type(policy).__name__} is no torch module, so that its weights cannot be sent to samplers: "
            "use CausalLM or Seq2SeqLM, or set model.asynchronous to null"
        )
    return policy


def whole_state(policy: Policy) -> PackedState:
    """Every weight that ``build`` does not give back."""
    network = network_of(policy)
    state = network.state_dict()
    if policy.base_is_reloadable:
        frozen = {name for name, p in network.named_parameters(remove_duplicate=False) if not p.requires_grad}
        state = {name: value for name, value in state.items() if name not in frozen}
    return packed(state)


def trained_state(policy: Policy) -> PackedState:
    """The weights that training changes."""
    return packed({name: p for name, p in network_of(policy).named_parameters() if p.requires_grad})


def load_state(policy: Policy, state: PackedState) -> None:
    """Overwrite the weights of a policy by those that were sent.

    Raises:
        RuntimeError: it has no place for one of them.
    """
    found = network_of(policy).load_state_dict({name: part.tensor() for name, part in state.items()}, strict=False)
    if found.unexpected_keys:
        raise RuntimeError(f"the sampler's policy has no weight {found.unexpected_keys[0]!r}: it was built differently")
