"""How good the moves of an endgame are, where the value of every legal move is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_gfn.metrics.base import PerProblemMetric
from lightning_gfn.types import EvalRecord


class EndgameMoves(PerProblemMetric):
    """Legal moves, moves that keep the win, and how much later mate comes than with best play.

        legal_move_rate, winning_move_rate: shares of the samples
        mate_delay = mean over winning moves of plies to mate after the move − plies after the best one

    Reads ``metadata["moves"]`` of the problem: every legal move, mapped to the plies to mate after it, 255 where the
    win is gone. Where only the legal moves are known, ``metadata["legal_moves"]``, there is their rate alone. Other
    problems have no values; one without a winning sample has no ``mate_delay``.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        return ("legal_move_rate", "winning_move_rate", "mate_delay")

    def row(self, record: EvalRecord) -> Sequence[float]:
        moves = record.problem.metadata.get("moves")
        count = len(record.completions)
        if not moves:
            known = record.problem.metadata.get("legal_moves")
            legal_share = sum(text in known for text in record.completions) / count if known else math.nan
            return [legal_share, math.nan, math.nan]
        shortest = min(moves.values())
        legal = [moves[text] for text in record.completions if text in moves]
        winning = [plies for plies in legal if plies < 255]
        delay = sum(winning) / len(winning) - shortest if winning else math.nan
        return [len(legal) / count, len(winning) / count, delay]
