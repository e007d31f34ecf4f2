"""Render text as text where Airflow renders native objects, and note whose secrets the templates read.

With `render_template_as_native_obj=True` Airflow evaluates the result of every template as Python: "3.10" becomes 3.1,
"00" becomes 0, JSON becomes a dict. Kubernetes takes only strings for an argument, an environment variable, a label,
and most else. Templates in such places are therefore replaced by a `TextTemplate` before Airflow renders them. All
others stay native, above all a parameter whose whole value is one template: it may be a list or a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kpo_async.pod.parameters import KINDS
from kpo_async.pod.schema import map_text

if TYPE_CHECKING:
    import jinja2

_TEXTS = (
    *("base_container_name", "cluster_context", "config_file", "hostname", "image", "kubernetes_conn_id", "name"),
    *("namespace", "pod_template_file"),
)
TEMPLATE_KINDS: Mapping[str, str] = {
    **KINDS,
    **dict.fromkeys(_TEXTS, "str"),
    **dict.fromkeys(("arguments", "cmds", "configmaps"), "[str]"),
    **dict.fromkeys(("annotations", "labels", "node_selector"), "{str}"),
}
"""The type of each parameter, in the notation of `pod.schema`; others are not Kubernetes' and stay native."""


_EXTENSIONS = {"jinja2.ext.ExprStmtExtension"}
"""Airflow's own. A user's extension may change text that has no template in it."""


class TextTemplate:
    """A template whose result is text. Airflow calls `resolve` instead of rendering an object that has it."""

    def __init__(self, template: str, environment: jinja2.Environment) -> None:
        self._template = template
        self._environment = environment

    def resolve(self, context: Mapping[str, Any]) -> str | None:
        """Return the rendered text; None if the whole template is one expression that is None."""
        template = self._environment.from_string(self._template)
        # As Airflow renders, without the evaluation that follows. `render` would copy the context, which warns.
        scope = self._environment.context_class(
            self._environment, {**template.globals, **context}, template.name, template.blocks
        )
        try:
            parts = list(template.root_render_func(scope))
        except Exception:
            self._environment.handle_exception()
        return None if len(parts) == 1 and parts[0] is None else "".join(map(str, parts))

    def __repr__(self) -> str:
        return repr(self._template)


def is_native(environment: object) -> bool:
    """Whether Airflow evaluates the results of templates that it renders with `environment`."""
    from jinja2.nativetypes import NativeEnvironment

    return isinstance(environment, NativeEnvironment)


def is_plain(text: str, environment: jinja2.Environment) -> bool:
    """Whether `text` is certainly rendered to itself. To compile it as a template takes 0.2 ms of CPU."""
    return (
        not any(character in text for character in "{#\r\n")
        and environment.variable_start_string[0] == environment.block_start_string[0] == "{"
        and environment.comment_start_string[0] in "{#"
        and environment.line_statement_prefix is environment.line_comment_prefix is None
        and environment.extensions.keys() <= _EXTENSIONS
        and not is_native(environment)
    )


def with_text(parameter: str, value: Any, environment: jinja2.Environment) -> Any:
    """Return the value of a parameter with a `TextTemplate` for each string where Kubernetes takes only strings."""
    return map_text(value, TEMPLATE_KINDS[parameter], _text_template(environment))


def text_of_model(value: Any, environment: jinja2.Environment) -> Any:
    """Do as `with_text` for a templated attribute of a model: all of them are strings or maps of strings."""
    return map_text(value, "{str}" if isinstance(value, dict) else "str", _text_template(environment))


def _text_template(environment: jinja2.Environment) -> Callable[[str], TextTemplate]:
    return lambda template: TextTemplate(template, environment)


class SecretNames:
    """The connections and variables that templates read as `conn.<id>`, `var.value.<key>` and `var.json.<key>`."""

    def __init__(self) -> None:
        self.connections: set[str] = set()
        self.variables: set[str] = set()

    def noted_in(self, context: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the context with a `conn` and a `var` that note here what is read of them."""
        noting = dict(context)
        if "conn" in noting:
            noting["conn"] = _Noting(noting["conn"], self.connections)
        if isinstance(noting.get("var"), Mapping):
            noting["var"] = {kind: _Noting(accessor, self.variables) for kind, accessor in noting["var"].items()}
        return noting


class _Noting:
    """Stands before Airflow's accessor of connections or variables, and notes their names."""

    def __init__(self, accessor: Any, names: set[str]) -> None:
        self._accessor = accessor
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):  # Jinja asks every value for such attributes
            self._names.add(name)
        return getattr(self._accessor, name)

    def __repr__(self) -> str:
        return repr(self._accessor)

    def get(self, name: str, *default: Any, **keywords: Any) -> Any:
        self._names.add(name)
        return self._accessor.get(name, *default, **keywords)
