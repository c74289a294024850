"""The folder of a reference: formats, reading and writing of its parts."""

from ._columns import (
    CELL_ID,
    FIXED_COLUMNS,
    LABEL,
    STUDY,
    TERM_ID,
    as_text,
    check_columns,
    column_kinds,
    dictionary,
    distinct_values,
    join_cells,
    label_codes,
    to_frame,
)
from ._learned import landmarks_file, load_calibration, load_landmarks, save_calibration, save_landmarks
from ._manifest import (
    CELLS,
    ENCODER,
    FACTS,
    INDEX,
    LANDMARKS,
    MANIFEST,
    SEGMENT_FILES,
    SEGMENTS,
    VECTORS,
    ReferenceFolderError,
    Verify,
    check_file,
    is_small,
    read_manifest,
    verify,
    verify_with_index,
    write_manifest,
)
from ._names import (
    BUNDLED,
    ENDING,
    LONGEST_NAME,
    home,
    is_bundled,
    looks_like_name,
    named_path_or_none,
    path_of,
    path_of_reference,
    references,
)
from ._removed import findable_cells, load_living, save_living
from ._segments import SegmentWriter, n_empty, open_cells, open_vectors
from ._tables import read_table, take_rows

__all__ = [
    "BUNDLED", "CELL_ID", "CELLS", "ENCODER", "ENDING", "FACTS", "FIXED_COLUMNS", "INDEX", "LABEL", "LANDMARKS",
    "LONGEST_NAME", "MANIFEST", "SEGMENT_FILES", "SEGMENTS", "STUDY", "TERM_ID", "VECTORS",
    "ReferenceFolderError", "SegmentWriter", "Verify",
    "as_text", "check_columns", "check_file", "column_kinds", "dictionary", "distinct_values", "findable_cells",
    "home", "is_bundled", "is_small", "join_cells", "label_codes", "landmarks_file", "load_calibration",
    "load_landmarks", "load_living", "looks_like_name", "n_empty", "named_path_or_none", "open_cells",
    "open_vectors", "path_of", "path_of_reference", "read_manifest", "read_table", "references", "save_calibration",
    "save_landmarks", "save_living", "take_rows", "to_frame", "verify", "verify_with_index", "write_manifest",
]  # fmt: skip
