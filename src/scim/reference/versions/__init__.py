"""Turn segments into a version of a reference."""

from ._change import living_tables
from ._commit import commit, compile_terms
from ._create import create
from ._version import Version
from ._writer import add_segment, sweep, writing

__all__ = ["Version", "add_segment", "commit", "compile_terms", "create", "living_tables", "sweep", "writing"]
