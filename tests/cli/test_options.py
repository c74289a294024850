"""Options that several commands share."""

from __future__ import annotations

import typer.main
from typer.core import TyperOption

from scim.cli import app


def options() -> list[tuple[str, TyperOption]]:
    commands = typer.main.get_command(app).commands
    return [(name, o) for name, command in commands.items() for o in command.params if o.opts[0].startswith("--")]


def test_every_option_and_argument_has_help() -> None:
    commands = typer.main.get_command(app).commands
    bare = [f"{name} {p.name}" for name, command in commands.items() for p in command.params if not p.help]
    assert not bare


def test_an_option_is_of_one_kind_in_all_commands() -> None:
    kinds: dict[str, set[str]] = {}
    for _, option in options():
        kinds.setdefault(option.opts[0], set()).add(
            "flag" if option.is_flag else "list" if option.multiple else "value"
        )
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}


def test_an_argument_of_the_package_has_one_option() -> None:
    spelled: dict[str, set[str]] = {}
    for _, option in options():
        spelled.setdefault(str(option.name), set()).add(option.opts[0])
    assert {name: found for name, found in spelled.items() if len(found) > 1} == {}
