"""Install references from archives and the Hugging Face Hub, and push them to the Hub."""

from ._install import install_reference
from ._push import push_reference

__all__ = ["install_reference", "push_reference"]
