"""Linear layers laid side by side in the type that products are computed in, with the gradients of their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gfn.policies.fused.norms import Norm
from lightning_gfn.policies.fused.operations import add_linear_, linear_
from lightning_gfn.policies.models.adapters import TRAINED
from lightning_gfn.policies.numerics.outer_sum import outer_sum, wider
from lightning_gfn.policies.numerics.processor import cached_rows


def interleave_halves(weight_A: Tensor, head_width: int) -> Tensor:
    """Reorder each head's rows from (x_0 … x_{D/2-1}, y_0 …) to (x_0, y_0, x_1, y_1, …).

    Rotary position embedding turns the pairs (x_i, y_i); side by side they are complex numbers and a turn is one
    product. Queries and keys are reordered alike, so their inner products stay the same.
    """
    heads = weight_A.shape[0] // head_width
    pairs = weight_A.view(heads, 2, head_width // 2, *weight_A.shape[1:])
    return pairs.transpose(1, 2).reshape(weight_A.shape)


def is_linear(module: Any) -> bool:
    """True for the linear layers that are known: PyTorch's, and GPT-2's, whose weight is (inputs, outputs)."""
    return type(module) is nn.Linear or type(module).__name__ == "Conv1D"


@dataclass(frozen=True)
class Source:
    """One linear layer, adapted or not.

    Args:
        module: the layer.
        head_width: of heads whose rows are interleaved for the rotation of positions; None to leave the order.
    """

    module: Any
    head_width: int | None = None

    @property
    def base(self) -> Any:
        """The layer without its adapters."""
        return self.module.get_base_layer() if hasattr(self.module, "get_base_layer") else self.module

    @property
    def is_transposed(self) -> bool:
        """True if the layer keeps its weight as (inputs, outputs)."""
        return not isinstance(self.base, nn.Linear)

    @property
    def weight_OI(self) -> Tensor:
        """The weight of the layer."""
        return self.base.weight.t() if self.is_transposed else self.base.weight

    def adapters(self) -> list[str]:
        """Names of the adapters that are not merged, active or not, the trained one last."""
        names = list(self.module.lora_A) if hasattr(self.module, "get_base_layer") else []
        merged = self.module.merged_adapters if names else ()
        return sorted((name for name in names if name not in merged), key=lambda name: name == TRAINED)

    def adapters_of_reference(self) -> list[str]:
        """Names of the adapters but for the trained one."""
        return [name for name in self.adapters() if name != TRAINED]

    def active(self) -> list[str]:
        """Names of the active adapters, the trained one last."""
        if not hasattr(self.module, "get_base_layer") or self.module.disable_adapters:
            return []
        return [name for name in self.adapters() if name in self.module.active_adapters]

    def ordered(self, rows_O: Tensor) -> Tensor:
        """Rows in the order of the working copy."""
        return rows_O if self.head_width is None else interleave_halves(rows_O, self.head_width)

    def restored(self, rows_O: Tensor) -> Tensor:
        """The reverse of ``ordered``."""
        if self.head_width is None:
            return rows_O
        heads = rows_O.shape[0] // self.head_width
        pairs = rows_O.reshape(heads, self.head_width // 2, 2, *rows_O.shape[1:])
        return pairs.transpose(1, 2).reshape(rows_O.shape)


@dataclass(frozen=True)
class Adapter:
    """Where one adapter of one layer stands in the working copy.

    Args:
        source: the layer.
        name: of the adapter.
        rows: its outputs.
        columns: its low-rank values, counted from the first one.
    """

    source: Source
    name: str
    rows: slice
    columns: slice

    @property
    def down(self) -> nn.Parameter:
        """A."""
        return self.source.module.lora_A[self.name].weight

    @property
    def up(self) -> nn.Parameter:
        """B."""
        return self.source.module.lora_B[self.name].weight

    @property
    def scale(self) -> float:
        """Factor on B."""
        return float(self.source.module.scaling[self.name])


class WorkingLinear:
    """y = [x, x A] [W; B] + b of several layers that read the same inputs, and the gradients of what is trained.

    Adapters are further rows of the same matrix: W x and their update are added up before anything is rounded. The
    weight of a norm before the layers is multiplied into W and A, its bias goes into b and into one of x A.

    Args:
        sources: the layers, whose outputs stand side by side.
        norm: of the inputs; None if there is none.
        dtype: that products are computed in.
    """

    def __init__(self, sources: Sequence[Source], norm: Norm | None, dtype: torch.dtype) -> None:
        self.sources, self.norm, self.dtype = sources, norm, dtype
        self.num_inputs = sources[0].weight_OI.shape[1]
        outputs = [source.weight_OI.shape[0] for source in sources]
        ends = [sum(outputs[: i + 1]) for i in range(len(outputs))]
        self.rows = [slice(end - size, end) for end, size in zip(ends, outputs, strict=True)]
        self.adapters: list[Adapter] = []
        rank = 0
        for trained in (False, True):  # so that the others are the first columns, and a model without the trained one
            for source, rows in zip(sources, self.rows, strict=True):
                for name in source.adapters():
                    if (name == TRAINED) is trained:
                        more = source.module.lora_A[name].weight.shape[0]
                        self.adapters.append(Adapter(source, name, rows, slice(rank, rank + more)))
                        rank += more
        self.fill_base(ends[-1], rank)
        self.fill_adapters()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Every parameter, in the order of ``gradients``."""
        found: list[Any] = [source.base.weight for source in self.sources]
        found += [source.base.bias for source in self.sources if source.base.bias is not None]
        for adapter in self.adapters:
            found += [adapter.down, adapter.up]
        return found if self.norm is None else [*found, *self.norm.parameters]

    @property
    def num_base_parameters(self) -> int:
        """Weights and biases of the layers, which come first among ``parameters``."""
        return len(self.sources) + sum(source.base.bias is not None for source in self.sources)

    @property
    def input_bias_I(self) -> Tensor | None:
        """What the norm adds to the inputs."""
        return None if self.norm is None or self.norm.bias_I is None else self.norm.bias_I.detach()

    @torch.no_grad()
    def fill_base(self, num_outputs: int, rank: int) -> None:
        """Copy weights and biases into memory that is ordered as the layers' is; transposed copies are far slower."""
        like = self.sources[0].base.weight
        width, turned = self.num_inputs + rank, self.sources[0].is_transposed
        memory = like.new_zeros((width, num_outputs) if turned else (num_outputs, width), dtype=self.dtype)
        self.weight_KO = memory if turned else memory.t()
        bias_O, shift_I = like.new_zeros(num_outputs, dtype=wider(like.dtype)), self.input_bias_I
        for source, rows in zip(self.sources, self.rows, strict=True):
            weight_OI = source.ordered(source.weight_OI)
            self.write_with_norm(self.weight_KO[: self.num_inputs, rows].t(), weight_OI)
            if source.base.bias is not None:
                bias_O[rows] = source.ordered(source.base.bias).to(bias_O.dtype)
            if shift_I is not None:
                bias_O[rows] += weight_OI.to(bias_O.dtype) @ shift_I.to(bias_O.dtype)
        biased = shift_I is not None or any(source.base.bias is not None for source in self.sources)
        self.bias_O = bias_O.to(self.dtype) if biased else None

    @torch.no_grad()
    def fill_adapters(self) -> None:
        """Copy adapters; the weights stay."""
        rank = self.weight_KO.shape[0] - self.num_inputs
        self.down_IR = self.weight_KO.new_empty(self.num_inputs, rank)
        shift_I = self.input_bias_I
        self.shift_R = None if shift_I is None else self.weight_KO.new_empty(rank)
        for adapter in self.adapters:
            wide = slice(self.num_inputs + adapter.columns.start, self.num_inputs + adapter.columns.stop)
            self.weight_KO[wide, adapter.rows] = (adapter.source.ordered(adapter.up) * adapter.scale).t()
            self.down_IR[:, adapter.columns] = self.with_norm(adapter.down).t()
            if shift_I is not None and self.shift_R is not None:
                self.shift_R[adapter.columns] = adapter.down @ shift_I.to(adapter.down.dtype)

    def with_present_adapters(self) -> WorkingLinear:
        """The same layers with adapters as they are now; a graph that was made before keeps the former ones."""
        other = object.__new__(WorkingLinear)
        other.__dict__.update(self.__dict__)
        other.weight_KO = self.weight_KO.clone()
        other.fill_adapters()
        return other

    def without_trained(self) -> WorkingLinear:
        """The same layers without the trained adapter; the copies are shared."""
        other = object.__new__(WorkingLinear)
        other.__dict__.update(self.__dict__)
        other.adapters = [adapter for adapter in self.adapters if adapter.name != TRAINED]
        rank = other.adapters[-1].columns.stop if other.adapters else 0
        other.weight_KO, other.down_IR = self.weight_KO[: self.num_inputs + rank], self.down_IR[:, :rank]
        other.shift_R = None if self.shift_R is None else self.shift_R[:rank]
        return other

    def with_norm(self, weight_OI: Tensor) -> Tensor:
        """A matrix that reads normalised inputs instead of those that the norm's weight scaled."""
        return weight_OI if self.norm is None else weight_OI * self.norm.factor_I(weight_OI)

    def write_with_norm(self, out_OI: Tensor, weight_OI: Tensor) -> None:
        """Write ``with_norm`` into memory of another type without a copy between."""
        if self.norm is None:
            out_OI.copy_(weight_OI)
        else:
            torch.mul(weight_OI, self.norm.factor_I(weight_OI), out=out_OI)

    def new_inputs(self, like_MX: Tensor) -> Tensor:
        """Memory for inputs and what A makes of them, (M, I + R).

        The latter is 0 at first: matrix units read a few numbers beyond a row, times 0, which may not be NaN.
        """
        inputs_MK = like_MX.new_empty(like_MX.shape[0], self.weight_KO.shape[0], dtype=self.dtype)
        inputs_MK[:, self.num_inputs :] = 0
        return inputs_MK

    def forward(self, inputs_MK: Tensor) -> Tensor:
        """Outputs (M, O); writes x A behind the inputs x."""
        self.fill_low_rank(inputs_MK)
        if self.bias_O is None:
            return inputs_MK @ self.weight_KO
        return torch.addmm(self.bias_O, inputs_MK, self.weight_KO)

    def forward_(self, out_MO: Tensor, inputs_MK: Tensor) -> None:
        """Write outputs into memory of the caller's."""
        self.fill_low_rank(inputs_MK)
        linear_(out_MO, inputs_MK, self.weight_KO, self.bias_O)

    def add_(self, y_MO: Tensor, inputs_MK: Tensor) -> None:
        """Add outputs to y."""
        self.fill_low_rank(inputs_MK)
        add_linear_(y_MO, inputs_MK, self.weight_KO, self.bias_O)

    def fill_low_rank(self, inputs_MK: Tensor) -> None:
        """Write x A behind the inputs x."""
        if self.adapters:
            linear_(inputs_MK[:, self.num_inputs :], inputs_MK[:, : self.num_inputs], self.down_IR, self.shift_R)

    def input_gradient(self, grad_MO: Tensor) -> tuple[Tensor, Tensor]:
        """∂x (M, I), and ∂(x A) (M, R)."""
        grad_MK = grad_MO @ self.weight_KO.t()
        grad_x, grad_MR = grad_MK[:, : self.num_inputs], grad_MK[:, self.num_inputs :]
        if self.adapters:
            grad_x = grad_x.addmm_(grad_MR, self.down_IR.t())
        return grad_x, grad_MR

    def gradients(
        self, grad_MO: Tensor, grad_MR: Tensor, inputs_MK: Tensor, needed: Sequence[bool]
    ) -> list[Tensor | None]:
        """Gradients of the parameters, float32 or wider.

        Args:
            grad_MO: of the outputs.
            grad_MR: of x A, as ``input_gradient`` gives it.
            inputs_MK: x and x A.
            needed: of each parameter, whether its gradient is wanted.

        Returns:
            one for each of ``parameters``; None where none is wanted.
        """
        x_MI, low_MR = inputs_MK[:, : self.num_inputs], inputs_MK[:, self.num_inputs :]
        norm = _NormGradient(self.norm, needed, x_MI)
        found: list[Tensor | None] = []
        is_trained = norm.is_wanted or any(needed[: self.num_base_parameters])
        sums = [
            self.sum_of(source, grad_MO[:, rows]) if is_trained else None
            for source, rows in zip(self.sources, self.rows, strict=True)
        ]
        for source, rows, sum_O in zip(self.sources, self.rows, sums, strict=True):
            wanted = needed[len(found)] or norm.is_wanted
            found.append(self.weight_gradient(source, grad_MO[:, rows], x_MI, sum_O, norm) if wanted else None)
        for source, sum_O in zip(self.sources, sums, strict=True):
            if source.base.bias is not None:
                found.append(sum_O if needed[len(found)] else None)
        for adapter in self.adapters:
            if not needed[len(found)]:
                found += [None, None]
                continue
            up = outer_sum(grad_MO[:, adapter.rows], low_MR[:, adapter.columns])
            found.append(self.down_gradient(grad_MR[:, adapter.columns], x_MI))
            found.append(adapter.source.restored(up) * adapter.scale)
        return [*found, *norm.gradients]

    def sum_of(self, source: Source, grad_MO: Tensor) -> Tensor | None:
        """Σ_m ∂y_m in the order of the layer, if a bias of the layer or of the norm needs it."""
        if source.base.bias is None and self.input_bias_I is None:
            return None
        return source.restored(grad_MO.sum(0, dtype=wider(grad_MO.dtype)))

    def down_gradient(self, grad_MR: Tensor, x_MI: Tensor) -> Tensor:
        """Gradient of A of one adapter."""
        grad_RI = self.with_norm(outer_sum(grad_MR, x_MI))
        if (shift_I := self.input_bias_I) is not None:
            grad_RI.addr_(grad_MR.sum(0, dtype=grad_RI.dtype), shift_I.to(grad_RI.dtype))
        return grad_RI

    def weight_gradient(
        self, source: Source, grad_MO: Tensor, x_MI: Tensor, sum_O: Tensor | None, norm: _NormGradient
    ) -> Tensor:
        """Gradient of the weight of one layer; adds those of the norm, if they are wanted."""
        if source.is_transposed:  # so that the gradient lies in memory as the weight does
            grad_OI = source.restored(outer_sum(x_MI, grad_MO).t())
        else:
            grad_OI = source.restored(outer_sum(grad_MO, x_MI))
        if self.norm is not None:
            factor_I, weight_OI = self.norm.factor_I(grad_OI).detach(), source.weight_OI.detach()
            for rows in cached_rows(grad_OI.shape[0], 3 * grad_OI[:1].nbytes, grad_OI.device):
                norm.add(grad_OI[rows], weight_OI[rows], None if sum_O is None else sum_O[rows])
                grad_OI[rows] *= factor_I
        if sum_O is not None and (shift_I := self.input_bias_I) is not None:
            grad_OI.addr_(sum_O, shift_I.to(grad_OI.dtype))
        return grad_OI.t() if source.is_transposed else grad_OI


class _NormGradient:
    """Gradients of a norm that is multiplied into the layers after it, added up over these.

    Args:
        norm: None if there is none.
        needed: of each parameter, the norm's last, whether its gradient is wanted.
        x_MI: normalised inputs.
    """

    def __init__(self, norm: Norm | None, needed: Sequence[bool], x_MI: Tensor) -> None:
        parameters = [] if norm is None else norm.parameters
        wanted = needed[len(needed) - len(parameters) :]
        self.gradients = [
            x_MI.new_zeros(x_MI.shape[1], dtype=wider(x_MI.dtype)) if is_wanted else None for is_wanted in wanted
        ]
        self.weight_I, self.bias_I = (*self.gradients, None, None)[:2]
        self.is_wanted = any(wanted)

    def add(self, grad_OI: Tensor, weight_OI: Tensor, sum_O: Tensor | None) -> None:
        """Add what some rows of a layer give.

        Args:
            grad_OI: gradient of its weight as it reads normalised inputs.
            weight_OI: its weight.
            sum_O: sum of the gradients of its outputs.
        """
        if self.weight_I is not None:
            self.weight_I += (grad_OI * weight_OI).sum(0)
        if self.bias_I is not None and sum_O is not None:
            self.bias_I += sum_O @ weight_OI.to(sum_O.dtype)
