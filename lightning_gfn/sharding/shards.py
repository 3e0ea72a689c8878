"""Parameters cut over processes by FSDP2: gathered layer by layer where a model is trained, whole where it samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed, nn
from torch.autograd.graph import increment_version
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from lightning_gfn.finite import own_part

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Found = TypeVar("Found")
RUN = "run_function"
"""The method by which ``Shards.run`` enters a module."""


class Shards:
    """The modules whose parameters are cut over the processes, each holding its part of every parameter.

    Passes with gradient gather one layer at a time, so that every process must take as many of them as the others.
    Inside ``whole`` each process has all weights and waits for nobody: sampling and scoring without gradient take place
    there.

    Args:
        mesh: the processes, in one dimension.
    """

    def __init__(self, mesh: DeviceMesh) -> None:
        self.mesh = mesh
        self.roots: list[nn.Module] = []
        self.is_whole = False
        self.states: dict[int, tuple[int, int]] = {}

    def cut(self, root: nn.Module, layers: Sequence[nn.Module] = (), method: str | None = None) -> None:
        """Cut a module, its layers one by one; the first process's values count.

        Args:
            root: entered by its forward pass and by ``run``.
            layers: parts of it whose weights are gathered apart.
            method: a further method that it is entered by.
        """
        for module in (*layers, root):
            take_from_first(module, self.mesh)
            fully_shard(module, mesh=self.mesh)
        setattr(root, RUN, MethodType(run_function, root))
        for name in (RUN, *([method] if method is not None else [])):
            self._enter_by(root, name)
        self.roots.append(root)

    def _enter_by(self, root: nn.Module, method: str) -> None:
        """Let a method gather the weights that no layer holds; where they are whole, it is called as it is."""
        plain = getattr(root, method)
        setattr(root, method, lambda *given, **named: no_views(plain(*given, **named)))
        register_fsdp_forward_method(root, method)
        gathering = getattr(root, method)
        setattr(root, method, lambda *given, **named: (plain if self.is_whole else gathering)(*given, **named))

    def run(self, root: nn.Module | None, function: Callable[[], Found]) -> Found:
        """What a function returns that runs parts of a module, such as its layers without the output layer; or none."""
        found: Found = getattr(root, RUN)(function) if root is not None else function()
        return found

    def most(self, number: int) -> int:
        """The largest number that any process gives; every process must ask."""
        largest = torch.tensor(number, device=next(self.roots[0].parameters()).device)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX, group=self.mesh.get_group())
        return int(largest)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, every parameter is whole on every process, and no layer gathers anything.

        All processes must enter it together. Changes of the whole parameters are lost at the end.
        """
        if self.is_whole:
            yield
            return
        modules = [module for root in self.roots for module in root.modules() if isinstance(module, FSDPModule)]
        changed = self._changed()
        for module in modules:
            module.unshard()
        increment_version([p for p, differs in zip(self._parameters(), changed, strict=True) if differs])
        with ExitStack() as stack:
            for module in modules:
                stack.callback(module.reshard)
                stack.enter_context(without_hooks(module))
            self.is_whole = True
            try:
                yield
            finally:
                self.is_whole = False

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for root in self.roots for parameter in root.parameters()]

    def _changed(self) -> list[bool]:
        """Of each parameter, whether its part was written since the last time; whole ones are written without trace."""
        states = {id(p): (p._version, own_part(p)._version) for p in self._parameters()}
        before, self.states = self.states, states
        return [before.get(key) != state for key, state in states.items()]


def run_function(root: nn.Module, function: Callable[[], Found]) -> Found:
    """What a function returns."""
    return function()


def no_views(found: Any) -> Any:
    """A tensor, or values by name, in memory of their own: FSDP's hooks would get lost by writing into views."""
    if isinstance(found, Mapping):
        return {name: no_views(value) for name, value in found.items()}
    return found.clone() if isinstance(found, torch.Tensor) and found._is_view() else found


@torch.no_grad()
def take_from_first(module: nn.Module, mesh: DeviceMesh) -> None:
    """Move what is not cut yet to the device, with the values of the first process."""
    device = torch.device(mesh.device_type, torch.cuda.current_device()) if mesh.device_type == "cuda" else "cpu"
    for parameter in module.parameters():
        if not isinstance(parameter, DTensor):
            parameter.data = parameter.data.to(device)
            distributed.broadcast(parameter.data, src=0, group=mesh.get_group())


@contextmanager
def without_hooks(module: Any) -> Iterator[None]:
    """Inside, a cut module is called as if it were not: nothing is gathered, and nothing let go of."""
    state = module._get_fsdp_state()
    before, after = state._pre_forward_hook_handle.id, state._post_forward_hook_handle.id
    gather, let_go = module._forward_pre_hooks.pop(before), module._forward_hooks.pop(after)
    try:
        yield
    finally:
        module._forward_pre_hooks[before], module._forward_hooks[after] = gather, let_go
        module._forward_pre_hooks.move_to_end(before, last=False)
