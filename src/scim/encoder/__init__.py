"""Encoder: a frozen function from counts to unit vectors."""

from ._encoder import Encoder
from ._folder import WEIGHTS, EncoderFolderError
from ._normalized import blocked_rows
from ._of_values import embed_value_blocks, embed_values
from ._run import embed_with, lognormal_profiles

__all__ = [
    "WEIGHTS",
    "Encoder",
    "EncoderFolderError",
    "blocked_rows",
    "embed_value_blocks",
    "embed_values",
    "embed_with",
    "lognormal_profiles",
]
