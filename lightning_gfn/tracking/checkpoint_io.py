"""Checkpoints are written beside their place, forced to the disk and renamed; nothing passes through TMPDIR."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lightning_gfn.sharding.checkpoint_folder import is_checkpoint_folder, read_folder
from lightning_gfn.whole_files import put_in_place

PARTIAL = ".partial"


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's files, written straight to ``<name>.partial`` in the same folder, so that its disk alone counts.

    A name that ends in ``.partial`` already is left to the caller to rename. Addresses of other file systems are
    written as Lightning writes them.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint, whole or not at all.

        Args:
            checkpoint: state of model and trainer.
            path: the file.
            storage_options: none are known.
        """
        if storage_options is not None or not _is_local_file_protocol(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target if target.name.endswith(PARTIAL) else target.with_name(target.name + PARTIAL)
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException as error:
            partial.unlink(missing_ok=True)
            if isinstance(error, RuntimeError) and isinstance(error.__context__, OSError):
                raise error.__context__ from error  # torch's writer complains of the file that it could not end
            raise
        if partial != target:
            put_in_place(partial, target)

    def load_checkpoint(self, path: Any, *more: Any, **options: Any) -> dict[str, Any]:
        """Read a file, or a folder that processes with shards of the weights have written."""
        if _is_local_file_protocol(path) and is_checkpoint_folder(Path(path)):
            return read_folder(Path(path))
        return super().load_checkpoint(path, *more, **options)
