"""The examples in the docstrings run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "scim"
MODULES = sorted(
    ".".join(["scim", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)

#: Modules whose examples fetch from the network: they are only shown.
NOT_RUN = {f"scim.reference.sharing.{name}" for name in ("_hub", "_install", "_push")}


# The bundled cells have few of the genes of the bundled reference.
@pytest.mark.filterwarnings("ignore:The data have 737 of the encoder's 8,559 genes:UserWarning")
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Examples may write files; they do it in a folder of their own.
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0 or name in NOT_RUN
    assert found.failed == 0
