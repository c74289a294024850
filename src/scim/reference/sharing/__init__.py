"""Archives of references, and the Hugging Face Hub."""

from ._install import install_reference
from ._push import push_reference

__all__ = ["install_reference", "push_reference"]
