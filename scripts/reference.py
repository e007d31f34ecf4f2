"""Write `kpo_async/REFERENCE.md`, the page of all parameters and options: `python -m scripts.reference [--check]`.

`scripts.parameters` holds what only people can say about a parameter: meaning, difference from the incumbent. Type,
default and template come from the operator itself. `kpo_async.options` declares the options. A test checks that the
page is current and complete.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path

from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.options import OPTIONS
from scripts.parameters import SECTIONS, Entry

PATH = Path(__file__).parents[1] / "kpo_async" / "REFERENCE.md"

HEAD = """\
<!-- Written by `python -m scripts.reference`; a test checks that it is current. -->

# Parameters of `KubernetesPodOperator`

All are keyword arguments. Those of every Airflow operator (`task_id`, `retries`, `execution_timeout`, ...) come on top.

- **Type**: a `Model` is a Kubernetes object as a dict in the API's spelling (`{"containerPort": 80}`) or in snake_case,
  or as a model of the `kubernetes` or `kubernetes_asyncio` package; all may be mixed. Unknown fields are refused.
- **T**: the value is a template, in models in the fields that the incumbent renders. Template fields take XComArgs.
  Under `render_template_as_native_obj=True` only a whole parameter becomes a list or dict; text within it stays text.
- **Mode**: `both`, or only when `deferred`; `-` is accepted so that no DAG must be changed, and does nothing.
- **Difference** is from apache-airflow-providers-cncf-kubernetes 10.25.0; an empty cell means none.

"""
_CONFIGURED = {
    "deferrable": "`[operators] default_deferrable`",
    "end_from_trigger": "`[kpo_async] end_from_trigger`, or `False`",
    "retry_on_disruption": "`[kpo_async] retry_on_disruption`, or `0`",
}
TABLE = "| Parameter | Type | Default | T | Mode | Meaning | Difference |\n|---|---|---|---|---|---|---|\n"


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` only compare it. Return 0 if it is current, 1 if `--check` found that not."""
    page = render()
    if "--check" in arguments:
        current = PATH.exists() and PATH.read_text(encoding="utf-8") == page
        print(f"{PATH} is {'current' if current else 'not current: run python -m scripts.reference'}")
        return 0 if current else 1
    PATH.write_text(page, encoding="utf-8")
    return 0


def signature() -> dict[str, inspect.Parameter]:
    """Return the operator's own parameters, without those of every operator."""
    parameters = inspect.signature(KubernetesPodOperator.__init__).parameters
    return {name: found for name, found in parameters.items() if found.kind is found.KEYWORD_ONLY}


def render() -> str:
    """Return the page as Markdown."""
    sections = [_section(title, entries) for title, entries in SECTIONS.items()]
    return HEAD + "\n".join([*sections, _options()])


def _options() -> str:
    rows = (
        f"| `{name}` | {option.type} | {_code(option.default)} | {_code(option.example)} "
        f"| {option.version_added} | {option.description} |"
        for name, option in OPTIONS.items()
    )
    head = ("| Option | Type | Default | Example | Since | Meaning |", "|---|---|---|---|---|---|")
    return "\n".join(["## Options of `[kpo_async]`", "", *head, *rows, ""])


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def _section(title: str, entries: Mapping[str, Entry]) -> str:
    return f"## {title}\n\n{TABLE}" + "".join(_rows(entries))


def _rows(entries: Mapping[str, Entry]) -> Iterator[str]:
    parameters = signature()
    for name, entry in entries.items():
        kind = str(parameters[name].annotation).replace("|", "\\|")
        template = "T" if name in KubernetesPodOperator.template_fields else ""
        cells = (
            f"`{name}`",
            f"`{kind}`",
            _default(parameters[name]),
            template,
            entry.mode,
            entry.meaning,
            entry.difference,
        )
        yield f"| {' | '.join(cells)} |\n"


def _default(parameter: inspect.Parameter) -> str:
    if parameter.name in _CONFIGURED:
        return _CONFIGURED[parameter.name]
    value = parameter.default
    return f"`{value.value if isinstance(value, Enum) else value!r}`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
