"""Write `docs/reference/`, the pages of all parameters and options: `python -m scripts.reference [--check]`.

`scripts.parameters` holds what only people can say about a parameter: meaning, difference from the incumbent. Type,
default and template come from the operator itself. `kpo_async.options` declares the options. A test checks that the
pages are current and complete.
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

FOLDER = Path(__file__).parents[1] / "docs" / "reference"

NOTE = "<!-- Written by `python -m scripts.reference`; a test checks that it is current. -->\n\n"
PARAMETERS = """\
# Parameters of `KubernetesPodOperator`

All are keyword arguments. Those of every Airflow operator (`task_id`, `retries`, `execution_timeout`, ...) come on top.

- **Type**: a `Model` is a Kubernetes object as a dict in the API's spelling (`{"containerPort": 80}`) or in snake_case,
  or as a model of the `kubernetes` or `kubernetes_asyncio` package; all may be mixed. Unknown fields are refused.
- **T**: the value is a template, in models in the fields that the incumbent renders. Template fields take XComArgs.
  Under `render_template_as_native_obj=True` only a whole parameter becomes a list or dict; text within it stays text.
- **Mode**: `both`, or only when `deferred`; `-` is accepted so that no DAG must be changed, and does nothing.
- **Difference** is from apache-airflow-providers-cncf-kubernetes 10.25.0; an empty cell means none.

"""
OPTIONS_HEAD = """\
# Options of `[kpo_async]`

They stand in the section `[kpo_async]` of `airflow.cfg`, or in environment variables:

```sh
export AIRFLOW__KPO_ASYNC__MAX_PODS=500
airflow config list --section kpo_async --include-descriptions
```

Workers, triggerers and the dag-processor read them. An empty value means the default. A value of another type is
refused with a sentence that names the option.

"""
_CONFIGURED = {
    "deferrable": "`[operators] default_deferrable`",
    "end_from_trigger": "`[kpo_async] end_from_trigger`, or `False`",
    "retry_on_disruption": "`[kpo_async] retry_on_disruption`, or `0`",
}
TABLE = "| Parameter | Type | Default | T | Mode | Meaning | Difference |\n|---|---|---|---|---|---|---|\n"


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` compare them only. Return 1 if `--check` finds one that is stale, else 0."""
    stale = [path for path, page in render().items() if not path.exists() or path.read_text(encoding="utf-8") != page]
    for path in stale:
        if "--check" in arguments:
            print(f"{path} is not current: run python -m scripts.reference")
        else:
            path.write_text(render()[path], encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


def signature() -> dict[str, inspect.Parameter]:
    """Return the operator's own parameters, without those of every operator."""
    parameters = inspect.signature(KubernetesPodOperator.__init__).parameters
    return {name: found for name, found in parameters.items() if found.kind is found.KEYWORD_ONLY}


def render() -> dict[Path, str]:
    """Return the pages as Markdown, by their paths."""
    pages = {
        "parameters.md": PARAMETERS + "\n".join(_section(title, entries) for title, entries in SECTIONS.items()),
        "options.md": OPTIONS_HEAD + _options(),
    }
    return {FOLDER / name: NOTE + page for name, page in pages.items()}


def _options() -> str:
    rows = (
        f"| `{name}` | {option.type} | {_code(option.default)} | {_code(option.example)} "
        f"| {option.version_added} | {option.description} |"
        for name, option in OPTIONS.items()
    )
    head = ("| Option | Type | Default | Example | Since | Meaning |", "|---|---|---|---|---|---|")
    return "\n".join([*head, *rows, ""])


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
