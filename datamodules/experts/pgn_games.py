"""Games from PGN files, filtered by the players' ratings: the next move of a game as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datamodules.common.base import ProblemDataModule, Split
from datamodules.common.order import keyed_hash
from datamodules.generators.splits import SHARES
from lightning_gfn.types import Problem

if TYPE_CHECKING:
    import chess
    from chess.pgn import Game

Side = Literal["white", "black", "both"]
Notation = Literal["san", "uci"]


class PgnGames(ProblemDataModule):
    """The moves of games in PGN files; a problem is a game up to a move (``1.e4 e5 2.``), its solution the move.

    Games are kept if both players' ratings are known and at most ``max_rating``, as the paper filters its data at 1000,
    1300 and 1500. A hash of a game's moves decides its split. Right is the move that was played;
    ``metadata["legal_moves"]`` of validation and test problems lets ``EndgameMoves`` measure the legal-move rate.
    Main lines alone are read, comments and variations left out.

    Args:
        path: a PGN file, or a folder whose ``*.pgn`` files are read.
        max_rating: highest rating of a player; None keeps all games.
        max_games: games read at most, after the filter; None for all.
        side: whose moves are learnt.
        notation: moves as ``Nf3`` (``san``) or ``g1f3`` (``uci``).
        first_move: first full move of a game that is learnt.
        last_move: last one; longer prompts need a longer ``max_prompt_tokens``.
        settings: arguments of ``ProblemDataModule``.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: the package ``chess`` is not installed.
        ValueError: a game cannot be read; names file and game.

    Source: Zhang et al. 2024, arXiv:2406.11741, section 3 and appendix (data).
    """

    def __init__(
        self,
        path: str,
        *,
        max_rating: int | None = None,
        max_games: int | None = None,
        side: Side = "both",
        notation: Notation = "san",
        first_move: int = 1,
        last_move: int = 40,
        prompt_template: str = "{question}",
        **settings: Any,
    ) -> None:
        super().__init__(prompt_template=prompt_template, **settings)
        if side not in ("white", "black", "both") or notation not in ("san", "uci"):
            raise ValueError(f"data.side is {side!r} (white, black, both), data.notation {notation!r} (san, uci)")
        if not 1 <= first_move <= last_move:
            raise ValueError(f"data.first_move={first_move}, data.last_move={last_move}: 1 <= first <= last must hold")
        self.path, self.max_rating, self.max_games = Path(path), max_rating, max_games
        self.side, self.notation = side, notation
        self.first_move, self.last_move = first_move, last_move
        self.left_out = 0
        """Games that the filter of ratings left out."""
        self._games: list[Game] | None = None

    def files(self) -> list[Path]:
        """The files, in order of name.

        Raises:
            FileNotFoundError: there is none.
        """
        found = sorted(self.path.glob("*.pgn")) if self.path.is_dir() else [self.path]
        if not found or not found[0].is_file():
            raise FileNotFoundError(f"data.path: {self.path} is no PGN file and no folder with *.pgn files")
        return found

    def games(self) -> list[Game]:
        """The games that pass the filter, read once."""
        if self._games is None:
            self._games = []
            for path in self.files():
                for game in read_games(path):
                    if self.max_games is not None and len(self._games) >= self.max_games:
                        break
                    if self.max_rating is None or is_below(game, self.max_rating):
                        self._games.append(game)
                    else:
                        self.left_out += 1
        return self._games

    def load_split(self, split: Split) -> list[Problem]:
        """The moves of the games of a split."""
        low, high = SHARES[split]
        problems: dict[str, Problem] = {}
        for game in self.games():
            key = keyed_hash("pgn", game.board().fen(), *(move.uci() for move in game.mainline_moves()))
            if low <= key / 2**64 < high:
                problems |= {problem.id: problem for problem in self._moves(game, f"{key:016x}", split)}
        return list(problems.values())

    def _moves(self, game: Game, key: str, split: Split) -> Iterator[Problem]:
        board = game.board()
        text = "" if board.fen() == type(board)().fen() else f"{board.fen()} "
        for ply, move in enumerate(game.mainline_moves()):
            number, is_white = board.fullmove_number, board.turn
            if is_white or not ply:
                text += f"{number}." if is_white else f"{number}..."
            written = self._written(board, move)
            if self.side in ("both", "white" if is_white else "black") and (
                self.first_move <= number <= self.last_move
            ):
                known: dict[str, Any] = {}
                if split != "train":
                    known["legal_moves"] = tuple(self._written(board, legal) for legal in board.legal_moves)
                yield Problem(
                    id=f"pgn/{key}/{ply}",
                    prompt=self.prompt(text),
                    solutions=(written,),
                    target={written: 0.0},
                    answer_style="(.+)",
                    metadata=known,
                )
            text += f"{written} "
            board.push(move)

    def _written(self, board: chess.Board, move: chess.Move) -> str:
        return board.san(move) if self.notation == "san" else move.uci()


def read_games(path: Path) -> Iterator[Game]:
    """The games of a PGN file.

    Raises:
        ModuleNotFoundError: the package ``chess`` is not installed.
        ValueError: a game has a move that is not legal; names file and game.
    """
    try:
        import chess.pgn
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "PgnGames reads files with the package chess: pip install lightning-gfn[chess]"
        ) from error
    with path.open(encoding="utf-8", errors="replace") as file:
        number = 0
        while (game := chess.pgn.read_game(file)) is not None:
            number += 1
            if game.errors:
                players = " – ".join(game.headers.get(name, "?") for name in ("White", "Black"))
                raise ValueError(f"{path}, game {number} ({players}): {game.errors[0]}; correct or remove it")
            yield game


def is_below(game: Game, rating: int) -> bool:
    """True if both players' ratings are known and at most this one."""
    found = [game.headers.get(name, "") for name in ("WhiteElo", "BlackElo")]
    return all(value.isdigit() and int(value) <= rating for value in found)
