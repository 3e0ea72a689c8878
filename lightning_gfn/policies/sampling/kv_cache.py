"""A preallocated key-value cache whose rows can be repeated for the samples of a prompt and dropped when finished."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache


def move_rows_(tensor_N: Tensor, target_R: Tensor, source_R: Tensor) -> None:
    """Copy rows ``source_R`` over rows ``target_R`` of the first dimension, in place."""
    tensor_N.index_copy_(0, target_R, tensor_N.index_select(0, source_R))


def with_room(tensor_N: Tensor, room: int) -> Tensor:
    """The rows of a tensor, and empty ones up to ``room`` behind them."""
    rows = tensor_N.new_empty(room, *tensor_N.shape[1:])
    rows[: len(tensor_N)] = tensor_N
    return rows


class PreallocatedLayer(CacheLayerMixin):
    """Keys and values of one attention layer, written into memory that is allocated once.

    Holds every position, so it serves full and sliding-window attention alike (the mask decides what is seen).

    Args:
        capacity: positions to allocate.
    """

    is_sliding = False

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0
        self.num_rows = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate for the rows, heads and widths of the first states."""
        self.dtype, self.device = key_states.dtype, key_states.device
        rows, heads, _, key_width = key_states.shape
        self.keys = key_states.new_empty(rows, heads, self.capacity, key_width)
        self.values = value_states.new_empty(*value_states.shape[:2], self.capacity, value_states.shape[-1])
        self.num_rows = rows
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append states; returns views of everything held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        start, self.length = self.length, self.length + key_states.shape[-2]
        self.keys[: self.num_rows, :, start : self.length] = key_states
        self.values[: self.num_rows, :, start : self.length] = value_states
        return self.keys[: self.num_rows, :, : self.length], self.values[: self.num_rows, :, : self.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys that a query of this length sees."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Positions held."""
        return self.length

    def get_max_length(self) -> int:
        """Positions that fit."""
        return self.capacity

    def repeat_rows(self, rows_N: Tensor, capacity: int, room: int | None = None) -> None:
        """Make row i a copy of the present row ``rows_N[i]``, with room for ``capacity`` positions of ``room`` rows."""
        assert self.keys is not None and self.values is not None
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_empty(len(rows_N) if room is None else room, old.shape[1], capacity, old.shape[3])
            new[: len(rows_N), :, : self.length] = old[:, :, : self.length].index_select(0, rows_N)
            setattr(self, name, new)
        self.capacity, self.num_rows = capacity, len(rows_N)

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """Copy rows and go on with the first ``num_rows``."""
        assert self.keys is not None and self.values is not None
        for states in (self.keys, self.values):
            move_rows_(states[:, :, : self.length], target_R, source_R)
        self.num_rows = num_rows


class PreallocatedCache(Cache):
    """A layer of keys and values for every attention layer of a model.

    Args:
        num_layers: attention layers.
        capacity: positions to allocate for the prompt.
    """

    layer_class = PreallocatedLayer

    def __init__(self, num_layers: int, capacity: int) -> None:
        self.row_layers = [self.layer_class(capacity) for _ in range(num_layers)]
        super().__init__(layers=list(self.row_layers))

    def repeat_rows(self, rows_N: Tensor, capacity: int, room: int | None = None) -> None:
        """See ``PreallocatedLayer.repeat_rows``."""
        for layer in self.row_layers:
            layer.repeat_rows(rows_N, capacity, room)

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """See ``PreallocatedLayer.move_rows``."""
        for layer in self.row_layers:
            layer.move_rows(target_R, source_R, num_rows)


class CrossLayer(PreallocatedLayer):
    """Keys and values of a context: written once, and read as they are, so that they hold the present rows alone."""

    def repeat_rows(self, rows_N: Tensor, capacity: int, room: int | None = None) -> None:
        """See ``PreallocatedLayer.repeat_rows``."""
        super().repeat_rows(rows_N, capacity, room)
        assert self.keys is not None and self.values is not None
        self.whole = self.keys, self.values
        self.keep_rows(len(rows_N))

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """Copy rows and go on with the first ``num_rows``."""
        for states in self.whole:
            move_rows_(states, target_R, source_R)
        self.keep_rows(num_rows)

    def keep_rows(self, num_rows: int) -> None:
        """Look at the first rows alone from now on."""
        self.keys, self.values = (states[:num_rows] for states in self.whole)


class CrossCache(PreallocatedCache):
    """Keys and values of cross-attention, whose capacity is the length of the contexts."""

    layer_class = CrossLayer


class RecurrentCache(DynamicCache):
    """The library's own cache, for models that keep a recurrent state in some layers.

    Args:
        config: of the model; its layer types say what each layer keeps.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config=config)

    def repeat_rows(self, rows_N: Tensor, capacity: int, room: int | None = None) -> None:
        """Make row i a copy of the present row ``rows_N[i]``; room is made as positions and rows come."""
        self.reorder_cache(rows_N)

    def move_rows(self, target_R: Tensor, source_R: Tensor, num_rows: int) -> None:
        """Copy rows and keep the first ``num_rows``."""
        order_R = torch.arange(num_rows, device=target_R.device)
        order_R[target_R] = source_R
        self.reorder_cache(order_R)


def left_positions(mask_PC: Tensor) -> Tensor:
    """Position ids of left-padded prompts: 0 at the first token of each row."""
    return (mask_PC.cumsum(1) - 1).clamp_min(0)


def decoding_mask(mask_NC: Tensor, capacity: int) -> Tensor:
    """(N, capacity) bool: prompt padding stays hidden, every later position is seen."""
    generated = torch.ones(mask_NC.shape[0], capacity - mask_NC.shape[1], dtype=torch.bool, device=mask_NC.device)
    return torch.cat([mask_NC, generated], dim=1)
