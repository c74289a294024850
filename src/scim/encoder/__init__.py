"""Encoder: a frozen function from counts to unit vectors."""

from __future__ import annotations

from ._encoder import Encoder
from ._folder import EncoderFolderError

__all__ = ["Encoder", "EncoderFolderError"]
