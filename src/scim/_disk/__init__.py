"""Write files and folders whole, and check what is read against hashes."""

from ._atomic import check_target, explain_full_disk, move_into_place, new_folder, new_parents, replace_file, sync
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
    "BLOCK_BYTES", "LOCK", "WRITER",
    "CheckedFile", "FolderError", "IndexFileError",
    "check_blocks", "check_files", "check_target", "describe_files", "explain_full_disk", "load_arrays",
    "move_into_place", "new_folder", "new_parents", "one_writer", "plain", "read_json", "replace_file", "sha256",
    "sync", "write_json", "write_tensors",
]  # fmt: skip
