"""What holds for the whole command line: it starts fast, and its page is current."""

from __future__ import annotations

import re

from kpo_async.cli import COMMANDS
from scripts.commands import PAGE, page
from tests.commands.conftest import CommandLine

EXIT_CODES = ("0", "1", "2", "130")


async def test_help_imports_nothing_that_takes_time(command_line: CommandLine) -> None:
    command_line.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    shown = await command_line("--help")
    assert shown.code == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown.err.splitlines()}
    assert imported & {"kpo_async"}
    assert not imported & {"airflow", "aiohttp", "msgspec", "rich", "sqlalchemy", "yaml"}
    assert all(command.name in shown.out for command in COMMANDS)


async def test_looking_at_a_cluster_by_its_kubeconfig_does_not_import_airflow(command_line: CommandLine) -> None:
    command_line.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    shown = await command_line("ps", "--kubeconfig", "/none/such")
    assert shown.code == 2
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in shown.err.splitlines()}
    assert "aiohttp" in imported
    assert not imported & {"airflow", "sqlalchemy"}


async def test_every_command_explains_itself(command_line: CommandLine) -> None:
    programs = {command.name: await command_line.start(command.name, "--help") for command in COMMANDS}
    for name, program in programs.items():
        out, _ = await program.communicate()
        assert program.returncode == 0, name
        assert b"usage: kpo-async " + name.encode() in out


def test_the_options_on_the_page_are_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text), "run `python -m scripts.commands`"


def test_the_page_describes_every_command_and_exit_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for command in COMMANDS:
        assert re.search(rf"^\| `{command.name}\b", text, re.MULTILINE), command.name
    assert tuple(re.findall(r"^\| (\d+) \|", text, re.MULTILINE)) == EXIT_CODES
