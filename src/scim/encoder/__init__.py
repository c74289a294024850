"""Encoder: a frozen function from counts to unit vectors."""

from ._encoder import Encoder
from ._folder import WEIGHTS, EncoderFolderError
from ._normalized import blocked_rows
from ._run import embed_with, lognormal_profiles

__all__ = ["Encoder", "EncoderFolderError", "WEIGHTS", "blocked_rows", "embed_with", "lognormal_profiles"]
