"""Warnings name the user's own line, however deep in scim they are raised."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import pytest

from scim._warn import warn


def of_scim(body: str, name: str = "scim.somewhere") -> Callable[..., None]:
    """A function whose code belongs to a module of the given name."""
    space: dict[str, object] = {"__name__": name, "warn": warn}
    exec(f"def function(inner=None):\n    {body}", space)
    made = space["function"]
    assert callable(made)
    return made


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_warning_names_the_line_that_called_scim(depth: int) -> None:
    function = of_scim("warn('look here')")
    for _ in range(depth - 1):
        deeper = function
        outer = of_scim("inner()")
        function = lambda outer=outer, deeper=deeper: outer(deeper)  # noqa: E731
    with pytest.warns(UserWarning, match="look here") as caught:
        line = sys._getframe().f_lineno + 1
        function()
    assert caught[0].filename == __file__
    if depth == 1:
        assert caught[0].lineno == line


def test_command_line_counts_as_a_caller() -> None:
    with pytest.warns(UserWarning) as caught:
        of_scim("inner()", "scim.cli._verbs")(of_scim("warn('look here')"))
    assert caught[0].filename == "<string>"


def test_other_categories_and_filters_work() -> None:
    function = of_scim("warn('old', DeprecationWarning)")
    with pytest.warns(DeprecationWarning, match="old"):
        function()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DeprecationWarning):
            function()
