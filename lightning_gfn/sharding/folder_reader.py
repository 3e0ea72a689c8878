"""Reading a checkpoint folder without executing anything in it."""

from __future__ import annotations

import enum
import pickle
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

NAMES = {
    "torch.distributed.checkpoint.metadata": {
        "Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata", "TensorProperties",
        "ChunkStorageMetadata", "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "pathlib": {"PosixPath", "PurePosixPath", "Path", "WindowsPath"},
    "pathlib._local": {"PosixPath", "PurePosixPath", "Path", "WindowsPath"},
}  # fmt: skip
"""What the list of a folder's tensors is made of, beside types of numbers."""


class PlainUnpickler(pickle.Unpickler):
    """Makes nothing but lists of tensors."""

    def find_class(self, module: str, name: str) -> Any:
        """A class by its name.

        Raises:
            pickle.UnpicklingError: it is no part of a list of tensors.
        """
        if (module, name) == ("builtins", "getattr"):
            return member
        if name in NAMES.get(module, ()) or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a list of tensors")


def member(kind: Any, name: str) -> enum.Enum:
    """A member of an enumeration, which Python up to 3.11.3 pickles as a call of ``getattr``.

    Raises:
        pickle.UnpicklingError: it is something else.
    """
    if not (isinstance(kind, enum.EnumMeta) and name in kind.__members__):
        raise pickle.UnpicklingError(f"attribute {name!r} of {kind!r} is no part of a list of tensors")
    return kind.__members__[name]


class FolderReader(FileSystemReader):
    """Reads tensors alone; the library would unpickle whatever stands in the list of them."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The list of tensors.

        Raises:
            pickle.UnpicklingError: the list holds something else.
        """
        with self.fs.create_stream(self._get_metadata_path(kwargs.get("rank")), "rb") as file:
            metadata: Metadata = PlainUnpickler(file).load()
        others = [name for name, f in metadata.state_dict_metadata.items() if not isinstance(f, TensorStorageMetadata)]
        if others or metadata.storage_meta is None:
            raise pickle.UnpicklingError(f"{others[0] if others else 'the list'} is no tensor")
        metadata.storage_meta.load_id = self.load_id
        return metadata
