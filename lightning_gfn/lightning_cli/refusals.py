"""Errors that users can mend: one message and exit status 2 instead of a traceback."""

from __future__ import annotations

import traceback


class UsageError(ValueError):
    """A command line that cannot be carried out; the message says what to do instead."""


def raised_in(error: BaseException) -> str:
    """The package whose code raised an error; empty if it was not raised."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")).partition(".")[0] if frames else ""


def raised_while_restoring(error: BaseException) -> bool:
    """True if an error comes out of Lightning's restoring of a checkpoint."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        str(frame.f_globals.get("__name__", "")).endswith("connectors.checkpoint_connector")
        and "restore" in frame.f_code.co_name
        for frame in frames
    )


def one_line(error: BaseException) -> str:
    """Class and message of an error in at most 300 characters of one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def refused_setting(error: BaseException) -> str | None:
    """What a class of ours says against its settings, without the parser's account of how it came to build the class.

    None for any other error: those of the user's own classes keep their traceback.
    """
    while error.__cause__ is not None and raised_in(error) == "jsonargparse":
        error = error.__cause__
    ours = raised_in(error) in ("lightning_gfn", "datamodules")
    return str(error) if ours and isinstance(error, (ValueError, TypeError, OSError, ImportError)) else None
