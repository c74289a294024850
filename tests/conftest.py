"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder beside the checkout with ontologies, gene tables and a peer's fixture; skips where there is none."""
    if not _SHARED.is_dir():
        pytest.skip("needs the folder `shared` beside the checkout")
    return _SHARED


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real labelled studies, from SCIM_DATA or beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("SCIM_DATA", _SHARED / "data"))
    if not folder.is_dir():
        pytest.skip("needs the real studies: set SCIM_DATA to their folder")
    return folder
