"""Errors that users can mend: what is wrong and where, in a line or two instead of a traceback."""

from __future__ import annotations

import dis
import os
import sysconfig
import traceback
from pathlib import Path
from types import FrameType

from lightning.fabric.utilities.exceptions import MisconfigurationException

from lightning_gfn.finite import NotFiniteError

OURS = ("lightning_gfn", "datamodules")
REFUSALS = (ValueError, TypeError, OSError, ImportError)
"""What our own classes raise when they refuse something; other kinds are faults of ours and keep their traceback."""
RAISE = dis.opmap["RAISE_VARARGS"]


class UsageError(ValueError):
    """A command line that cannot be carried out; the message says what to do instead.

    Args:
        message: what is wrong, and the remedy.
        status: the exit status.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def package_of(frame: FrameType) -> str:
    """The top-level package whose code a frame runs."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def raised_in(error: BaseException) -> str:
    """The package whose code raised an error; empty if it was not raised."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return package_of(frames[-1]) if frames else ""


def is_raised_on_purpose(error: BaseException) -> bool:
    """True if a ``raise`` statement made an error, rather than an operation that went wrong."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_code[trace.tb_lasti] == RAISE


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

    None for any other error.
    """
    while error.__cause__ is not None and raised_in(error) == "jsonargparse":
        error = error.__cause__
    if raised_in(error) not in OURS or not isinstance(error, REFUSALS):
        return None
    meant = isinstance(error, (OSError, ImportError)) or is_raised_on_purpose(error)
    return str(error) if meant else None


def users_error(error: BaseException) -> str | None:
    """An error that came out of the user's own code: its kind and message, with file and line; None for any other."""
    libraries = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = frame.f_code.co_filename
        if package_of(frame) in OURS:
            return None
        if not file.startswith(("<", *libraries)) and Path(file).is_file():
            notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
            place = f"{os.path.relpath(file)}, line {line}, in {frame.f_code.co_name}"
            return f"{type(error).__name__}: {error} ({place}{notes})"
    return None


def explained(error: BaseException) -> str | None:
    """What a user reads in the place of a traceback; None where the traceback says more."""
    if isinstance(error, (NotFiniteError, MisconfigurationException)):
        return str(error)
    return refused_setting(error) or users_error(error)
