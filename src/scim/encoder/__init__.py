"""Encoder: a frozen function from counts to unit vectors."""

from ._encoder import Encoder
from ._folder import WEIGHTS, EncoderFolderError
from ._forward import has_amx
from ._normalized import blocked_rows, to_blocked_lognormal
from ._run import embed_with

__all__ = ["Encoder", "EncoderFolderError", "WEIGHTS", "blocked_rows", "embed_with", "has_amx", "to_blocked_lognormal"]
