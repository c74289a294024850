"""Errors and warnings of the package in words of the command line.

Options are called like arguments of the package and commands like its functions, so that patterns find both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Functions of the package that are an option.
_FUNCTIONS = {"scim.pp.harmonize_labels": "--harmonize"}
#: A function, and its arguments if it is called: ``Reference.reindex()``, ``scim.tl.annotate``.
_FUNCTION = re.compile(r"(?<![\w.])(?:scim\.(?:tl\.)?|Reference\.)(?P<name>\w+)\b(?:\((?P<arguments>[^()]*)\))?")
#: An argument: ``labels_key``, ``labels_key=``, ``k=5``, ``overwrite=True``; not in paths, quotes and longer names.
_ARGUMENT = re.compile(
    r"(?<![\w/'\"\[.-])(?:(?P<long>[a-z]+(?:_[a-z]+)+)\b|(?P<short>[a-z]+)(?==))"
    r"(?:=True\b|(?P<off>=False\b)|=(?=[\s.,:;)]|$))?"
)
#: An argument that begins a message: ``where: no cell has age=9.``
_SUBJECT = re.compile(r"([a-z]\w*)(?=: | must | names )")


class Words:
    """Words of the command line for the arguments and functions of the package; ``commands`` are typer's, by name."""

    def __init__(self, commands: Mapping[str, Any]) -> None:
        options = [o for command in commands.values() for o in command.params if o.opts[0].startswith("--")]
        self._commands = {name.replace("-", "_"): name for name in commands}
        self._options = {str(option.name): option.opts[0] for option in options}
        self._off = {str(option.name): option.secondary_opts[0] for option in options if option.secondary_opts}

    def one_line(self, error: BaseException) -> str:
        """Return the message of an error and its notes on one line, without the quotes that KeyError adds."""
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        return self.translated(" ".join([str(message), *getattr(error, "__notes__", ())])) or type(error).__name__

    def translated(self, text: str) -> str:
        """Return a message on one line, with options for its arguments and commands for its functions."""
        text = " ".join(text.split())
        for function, option in _FUNCTIONS.items():
            text = text.replace(function, option)
        text = _FUNCTION.sub(self._command, text)
        if found := _SUBJECT.match(text):
            text = self._options.get(found[0], found[0]) + text[found.end() :]
        return _ARGUMENT.sub(self._option, text)

    def _command(self, found: re.Match[str]) -> str:
        command = self._commands.get(found["name"])
        return found[0] if command is None else f"`scim {command} {found['arguments'] or ''}".rstrip() + "`"

    def _option(self, found: re.Match[str]) -> str:
        name = found["long"] or found["short"]
        return (self._off if found["off"] else self._options).get(name, found[0])
