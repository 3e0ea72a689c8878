"""Replies of an endpoint on disk, so that no request is paid for twice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What an endpoint answered.

    Args:
        text: the message.
        tokens: tokens of request and reply together, as the endpoint counts them.
    """

    text: str
    tokens: int


class ReplyCache:
    """A SQLite file of replies by request; safe against kills and against several processes and threads.

    Args:
        path: the file; made with its folder when first used. None keeps nothing.
    """

    def __init__(self, path: str | None) -> None:
        self.path = Path(path).expanduser() if path is not None else None

    @staticmethod
    def key(request: dict[str, Any]) -> str:
        """Digest of everything that decides the reply; credentials are no part of it."""
        return sha256(json.dumps(request, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def get(self, key: str) -> Reply | None:
        """The reply, or None."""
        if self.path is None:
            return None
        with self._connection(self.path) as connection:
            row = connection.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return Reply(**json.loads(row[0])) if row is not None else None

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; the first one under a key stays."""
        if self.path is None:
            return
        with self._connection(self.path) as connection:
            connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, json.dumps(asdict(reply))))

    @contextmanager
    def _connection(self, path: Path) -> Iterator[sqlite3.Connection]:
        """A connection of this call alone: none crosses a thread or a fork; commits at the end."""
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=60.0)
        try:
            with connection:
                connection.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)")
                yield connection
        finally:
            connection.close()
