"""The help of every command says all that its author wrote."""

from __future__ import annotations

import click
import pytest
import typer

from bract.cli.commands import app


def commands(group: click.Command, name: str = "bract") -> list[tuple[str, click.Command]]:
    inside = group.commands.items() if isinstance(group, click.Group) else ()
    return [(name, group), *(pair for key, each in inside for pair in commands(each, f"{name} {key}"))]


@pytest.mark.parametrize(("name", "command"), commands(typer.main.get_command(app)))
def test_no_word_of_a_help_is_taken_for_markup(name: str, command: click.Command) -> None:
    """The help is shown by rich, which takes words in brackets for styles, and shows nothing of them."""
    texts = [command.help, *(getattr(each, "help", None) for each in command.params)]
    assert not [text for text in texts if text and "[" in text], name
