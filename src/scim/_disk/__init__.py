"""What is on disk is whole, and is what was written."""

from ._atomic import check_target, explain_full_disk, move_into_place, new_folder, new_parents, sync
from ._checksums import (
    BLOCK_BYTES,
    CheckedFile,
    FolderError,
    IndexFileError,
    check_blocks,
    check_files,
    describe_files,
    sha256,
)
from ._documents import load_arrays, plain, read_json, write_json, write_tensors
from ._lock import LOCK, WRITER, one_writer

__all__ = [
    "CheckedFile",
    "FolderError",
    "IndexFileError",
    "LOCK",
    "BLOCK_BYTES",
    "WRITER",
    "check_blocks",
    "check_files",
    "check_target",
    "describe_files",
    "load_arrays",
    "move_into_place",
    "new_folder",
    "new_parents",
    "one_writer",
    "plain",
    "read_json",
    "sha256",
    "sync",
    "explain_full_disk",
    "write_json",
    "write_tensors",
]
