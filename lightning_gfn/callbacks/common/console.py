"""Lines on the console that leave progress bars whole."""

from __future__ import annotations

from typing import TextIO

from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


def write_line(text: str, *, file: TextIO) -> None:
    """Print text above the bars that are drawn on the same file, at once."""
    Tqdm.write(text, file=file)
    file.flush()
