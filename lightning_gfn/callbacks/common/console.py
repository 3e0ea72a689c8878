"""Lines on the console that leave progress bars whole."""

from __future__ import annotations

import sys

from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm


def write_line(text: str) -> None:
    """Print text above the bars that are drawn on the standard output, at once, whatever its encoding can show."""
    out = sys.stdout
    encoding = getattr(out, "encoding", None) or "utf-8"
    Tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=out)
    out.flush()
