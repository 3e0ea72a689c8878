"""Squares of a board of up to eight by eight: neighbours, lines, and what stands between."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

NONE = -1
"""Stands for a square that is not on the board."""


class Geometry:
    """Tables of squares; square s lies on rank s // size and file s % size.

    Args:
        size: ranks and files, at most 8.

    Raises:
        ValueError: the size is out of range.
    """

    def __init__(self, size: int = 8) -> None:
        if not 2 <= size <= 8:
            raise ValueError(f"Geometry: size={size} must lie between 2 and 8")
        self.size, self.squares = size, size * size
        self.steps_S8: NDArray[np.int64] = np.full((self.squares, 8), NONE)
        """Squares a king's step away; NONE where there are fewer."""
        self.lines_SL: NDArray[np.int64] = np.full((self.squares, 2 * (size - 1)), NONE)
        """The other squares of a square's rank and file."""
        self.near_SS = np.zeros((self.squares, self.squares), dtype=bool)
        self.aligned_SS = np.zeros((self.squares, self.squares), dtype=bool)
        self.between_SS = np.zeros((self.squares, self.squares), dtype=np.uint64)
        """Squares strictly between two of one line, one bit each."""
        for square in range(self.squares):
            self._fill(square)

    def _fill(self, square: int) -> None:
        rank, file = divmod(square, self.size)
        around = [(rank + up, file + right) for up in (-1, 0, 1) for right in (-1, 0, 1) if up or right]
        steps = [r * self.size + f for r, f in around if 0 <= r < self.size and 0 <= f < self.size]
        self.steps_S8[square, : len(steps)] = steps
        self.near_SS[square, steps] = True
        line = [r * self.size + file for r in range(self.size) if r != rank]
        line += [rank * self.size + f for f in range(self.size) if f != file]
        self.lines_SL[square] = line
        for other in line:
            self.aligned_SS[square, other] = True
            low, high = sorted((square, other))
            stride = self.size if (high - low) % self.size == 0 else 1
            bits = sum(1 << between for between in range(low + stride, high, stride))
            self.between_SS[square, other] = np.uint64(bits)

    def sees(
        self, rook: NDArray[np.int64], square: NDArray[np.int64], *blockers: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """True where a rook attacks a square past these pieces, elementwise."""
        free = self.aligned_SS[rook, square]
        between = self.between_SS[rook, square]
        for blocker in blockers:
            free = free & ((between >> blocker.astype(np.uint64)) & np.uint64(1) == 0)
        return free


@lru_cache(maxsize=8)
def geometry(size: int = 8) -> Geometry:
    """The tables of a size, made once."""
    return Geometry(size)
