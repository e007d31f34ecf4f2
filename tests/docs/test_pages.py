"""The documentation agrees with the code: pages build, code compiles, DAGs load, commands exist."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from kpo_async.cli import COMMANDS
from kpo_async.pod.causes import Category
from scripts.differences import AT_RUN_TIME, DIFFERENCES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SNIPPET = re.compile(r'^--8<-- "(.*)"$', re.MULTILINE)
DIFFERENCE_ROWS = "\n".join(f"| {row.name} | {row.incumbent} | {row.here} |" for row in DIFFERENCES + AT_RUN_TIME)
DIFFERENCE_TABLE = f"| | incumbent | kpo-async |\n|---|---|---|\n{DIFFERENCE_ROWS}\n"


def blocks(language: str) -> list[object]:
    """Return each block of code in this language, without its indentation, and with the files that it includes."""
    found_blocks = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in BLOCK.finditer(text):
            if found[2] == language:
                code = re.sub(f"^{found[1]}", "", found[3], flags=re.MULTILINE)
                code = SNIPPET.sub(lambda snippet: (ROOT / snippet[1]).read_text(encoding="utf-8"), code)
                line = text.count("\n", 0, found.start()) + 1
                found_blocks.append(pytest.param(code, id=f"{page.relative_to(ROOT)}:{line}"))
    return found_blocks


@pytest.mark.parametrize("code", blocks("python"))
def test_python_code_compiles_and_its_dags_load(code: str) -> None:
    assert "--8" not in code, "a file that is not included"
    compiled = compile(code, "the documentation", "exec", flags=0, dont_inherit=True)
    defines_dags = "KubernetesPodOperator(" in code or "@task.kubernetes" in code
    if defines_dags and "def test_" not in code:
        exec(compiled, {"__name__": "documentation"})


@pytest.mark.parametrize("code", blocks("sh"))
def test_commands_exist_with_their_options(code: str) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert words[1] in targets
        elif words[:1] == ["kpo-async"]:
            assert set(re.findall(r" (--[\w-]+)", line)) <= options_of(words[1])
        elif words[:1] == ["python"]:
            assert (ROOT / words[1]).exists()


def options_of(subcommand: str) -> set[str]:
    """Return the options of a subcommand of `kpo-async`."""
    (command,) = (known for known in COMMANDS if known.name == subcommand)
    parser = argparse.ArgumentParser()
    command.load().add_arguments(parser)
    return {option for action in parser._actions for option in action.option_strings}


def test_every_category_of_a_failure_has_a_cause_and_a_fix() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    described = re.findall(r"^### (\w+)\n\n\*\*Cause\.\*\* .*?\n\n\*\*Fix\.\*\* ", page, re.MULTILINE | re.DOTALL)
    assert sorted(described) == sorted(set(Category) - {Category.SUCCEEDED, Category.RUNNING})


def test_the_table_of_differences_is_the_one_the_parity_test_allows() -> None:
    page = (DOCS / "migrating.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- differences.*?-->\n(.*)<!-- end of differences -->", page, re.DOTALL)
    assert found
    assert found[1] == DIFFERENCE_TABLE


def test_the_readme_is_shorter_than_150_lines_and_its_links_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) < 150
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", readme):
        assert (ROOT / target).exists(), target
