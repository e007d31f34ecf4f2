"""Rewrite one source text, and list what was not converted. Formatting and comments stay as they are.

Names are resolved through the file's imports, not by their spelling: `import ... as pod` and `from ... import x as y`
are followed, and a local function called KubernetesPodOperator does not change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import libcst as cst
from libcst import matchers
from libcst.helpers import get_full_name_for_node
from libcst.metadata import MetadataWrapper, PositionProvider, QualifiedNameProvider, QualifiedNameSource

from kpo_async.migrate import rules
from kpo_async.operators.deprecated import OVERRIDES_NEVER_CALLED

_IMPORT_PATH = re.compile(re.escape(rules.INCUMBENT) + r"[\w.:]*")


@dataclass(frozen=True, order=True)
class Finding:
    """Something that was not converted: its line (from 1), the name or text there, and why it stays."""

    line: int
    what: str
    reason: str


@dataclass(frozen=True)
class Rewritten:
    """The new source, equal to the old one if there was nothing to convert."""

    source: bytes
    findings: tuple[Finding, ...]


def rewrite(source: bytes, *, decorators: bool = False) -> Rewritten:
    """Rewrite the imports of `source`. `decorators`: also rename `@task.kubernetes` to `@task.kubernetes_async`.

    Raise `libcst.ParserSyntaxError` for a text that is not valid Python.
    """
    wrapper = MetadataWrapper(cst.parse_module(source))
    survey = _Survey(decorators=decorators)
    wrapper.visit(survey)
    module = wrapper.module.visit(_Rewriter(survey))
    return Rewritten(module.bytes, tuple(sorted(survey.findings)))


class _Survey(cst.CSTVisitor):
    """Decides what can be converted, which needs to have seen every use; changes nothing."""

    METADATA_DEPENDENCIES = (QualifiedNameProvider, PositionProvider)

    def __init__(self, *, decorators: bool) -> None:
        self.findings: set[Finding] = set()
        self.renamed_decorators: set[cst.Attribute] = set()
        self._decorators = decorators
        self._module_imports: dict[str, list[tuple[cst.CSTNode, cst.CSTNode]]] = {}
        self._used: dict[str, set[str]] = {}
        self._subclasses: set[str] = set()
        self._operators: set[str] = set()

    # -- imports

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        module = _module_of(node)
        if module is None:
            return False
        if isinstance(node.names, cst.ImportStar):
            if rules.concerns_us(module):
                self._report(node, f"from {module} import *", "name what is imported, then migrate again")
            return False
        for alias in node.names:
            name = f"{module}.{alias.evaluated_name}"
            if name in rules.MODULES:
                self._module_imports.setdefault(name, []).append((node, alias))
            elif rules.concerns_us(name) and name not in rules.MOVED:
                self._report(alias, name, rules.why_not(name))
        return False

    def visit_Import(self, node: cst.Import) -> bool:
        for alias in node.names:
            name = alias.evaluated_name
            if name in rules.MODULES and alias.asname is not None:
                self._module_imports.setdefault(name, []).append((node, alias))
            elif rules.concerns_us(name):
                self._report(alias, f"import {name}", rules.NAME_IT)
        return False

    # -- uses

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        for name in self._imported_names(node):
            if name in rules.DECORATORS:
                self._survey_decorator(node, name)
            module, _, attribute = name.rpartition(".")
            if module in rules.MODULES:
                self._used.setdefault(module, set()).add(attribute)
        if matchers.matches(node, _TASK_OF_CONTEXT) or (
            isinstance(node.value, cst.Name) and node.value.value in self._operators
        ):
            self._survey_attribute(node)
        return True

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        if isinstance(text := node.evaluated_value, str) and _IMPORT_PATH.fullmatch(text):
            self._report(node, node.value, rules.IN_A_STRING)

    def visit_FormattedStringText(self, node: cst.FormattedStringText) -> None:
        if rules.INCUMBENT in node.value:
            self._report(node, node.value, rules.IN_A_STRING)

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        if any(self._is_operator(base.value) for base in node.bases):
            self._subclasses.add(node.name.value)
            self._survey_subclass(node)
        return True

    def _is_operator(self, base: cst.BaseExpression) -> bool:
        """Whether `base` is the incumbent's operator, or a subclass of it in this file."""
        if isinstance(base, cst.Name) and base.value in self._subclasses:
            return True
        return any(
            name.endswith(".KubernetesPodOperator") and name in rules.MOVED for name in self._imported_names(base)
        )

    def _survey_subclass(self, node: cst.ClassDef) -> None:
        for method in node.body.body:
            if isinstance(method, cst.FunctionDef) and method.name.value in OVERRIDES_NEVER_CALLED:
                what = f"{node.name.value}.{method.name.value}"
                self._report(method.name, what, "overrides a method that kpo_async never calls")
        for use in matchers.findall(node, _OWN_ATTRIBUTE):
            self._survey_attribute(cst.ensure_type(use, cst.Attribute), f"{node.name.value}: ")
        for call in matchers.findall(node, _SUPERS_MANIFEST):
            self._report(call, f"{node.name.value}.build_pod_request_obj", rules.MANIFEST_IS_A_DICT)

    def visit_Assign(self, node: cst.Assign) -> None:
        """Note the variables that hold an operator."""
        if isinstance(node.value, cst.Call) and self._is_operator(node.value.func):
            self._operators |= {target.target.value for target in node.targets if isinstance(target.target, cst.Name)}

    def _survey_attribute(self, node: cst.Attribute, place: str = "") -> None:
        """Report an attribute of an operator that kpo_async's does not have."""
        if reason := rules.MISSING.get(node.attr.value):
            self._report(node, f"{place}{_code(node)}", reason)

    # -- verdicts

    def movable_module(self, name: str) -> str | None:
        """Return the new module for the module `name` if it has every name that the file uses, else None."""
        moved = {rules.MOVED.get(f"{name}.{attribute}") for attribute in self._used.get(name, set())}
        return rules.MODULES[name] if moved <= {rules.MODULES[name]} else None

    def leave_Module(self, original_node: cst.Module) -> None:
        for name, places in self._module_imports.items():
            if self.movable_module(name) is None:
                for _, alias in places:
                    for attribute in sorted(self._used[name]):
                        full = f"{name}.{attribute}"
                        if full not in rules.MOVED:
                            self._report(alias, full, rules.why_not(full))
                        elif rules.MOVED[full] != rules.MODULES[name]:
                            self._report(alias, full, rules.ELSEWHERE)

    def _survey_decorator(self, node: cst.Attribute, name: str) -> None:
        if self._decorators:
            self.renamed_decorators.add(node)
            return
        old = f"@task.{node.attr.value}"
        self._report(node, old, f"stays the incumbent's while that is installed; --decorators makes it {old}_async")

    def _imported_names(self, node: cst.CSTNode) -> Iterable[str]:
        names = self.get_metadata(QualifiedNameProvider, node, set())
        return [name.name for name in names if name.source is QualifiedNameSource.IMPORT]

    def _report(self, node: cst.CSTNode, what: str, reason: str) -> None:
        self.findings.add(Finding(self.get_metadata(PositionProvider, node).start.line, what, reason))


class _Rewriter(cst.CSTTransformer):
    """Applies the survey's decisions."""

    def __init__(self, survey: _Survey) -> None:
        self._survey = survey

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.BaseExpression:
        if original_node in self._survey.renamed_decorators:
            return updated_node.with_changes(attr=cst.Name(f"{original_node.attr.value}_async"))
        return updated_node

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import) -> cst.Import:
        names = [self._moved_module_alias(alias) for alias in updated_node.names]
        return updated_node.with_changes(names=names)

    def _moved_module_alias(self, alias: cst.ImportAlias) -> cst.ImportAlias:
        name = alias.evaluated_name
        if alias.asname is None or name not in rules.MODULES or not (new := self._survey.movable_module(name)):
            return alias
        return alias.with_changes(name=_dotted(new))

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.FlattenSentinel[cst.SimpleStatementLine]:
        """Write several imports for one on several lines; all comments go to the first."""
        parts = [part for statement in updated_node.body for part in self._split(statement)]
        if len(parts) == len(updated_node.body):
            return updated_node.with_changes(body=parts)
        lines = [cst.SimpleStatementLine([part.with_changes(semicolon=cst.MaybeSentinel.DEFAULT)]) for part in parts]
        inner = [comment for statement in updated_node.body for comment in matchers.findall(statement, _ANY_COMMENT)]
        first = lines[0].with_changes(
            leading_lines=[
                *updated_node.leading_lines,
                *(cst.EmptyLine(comment=cst.ensure_type(comment, cst.Comment)) for comment in inner),
            ],
            trailing_whitespace=updated_node.trailing_whitespace,
        )
        return cst.FlattenSentinel([first, *lines[1:]])

    def leave_SimpleStatementSuite(
        self, original_node: cst.SimpleStatementSuite, updated_node: cst.SimpleStatementSuite
    ) -> cst.SimpleStatementSuite:
        """Keep `try: from ... import ...` on one line."""
        return updated_node.with_changes(
            body=[part for statement in updated_node.body for part in self._split(statement)]
        )

    def _split(self, statement: cst.BaseSmallStatement) -> Sequence[cst.BaseSmallStatement]:
        module = _module_of(statement) if isinstance(statement, cst.ImportFrom) else None
        if not isinstance(statement, cst.ImportFrom) or module is None or isinstance(statement.names, cst.ImportStar):
            return [statement]
        targets: dict[str, list[cst.ImportAlias]] = {}
        for alias in statement.names:
            targets.setdefault(self._target(module, alias) or module, []).append(alias)
        if len(targets) == 1:
            (target,) = targets
            return [statement if target == module else statement.with_changes(module=_dotted(target))]
        return [_import_from(target, aliases) for target, aliases in targets.items()]

    def _target(self, module: str, alias: cst.ImportAlias) -> str | None:
        name = f"{module}.{alias.evaluated_name}"
        if name in rules.MODULES and (new := self._survey.movable_module(name)):
            parent, _, last = new.rpartition(".")
            return parent if last == alias.evaluated_name else None
        return rules.MOVED.get(name)


def _module_of(node: cst.ImportFrom) -> str | None:
    """Return the module's full name, None for a relative import."""
    if node.relative or node.module is None:
        return None
    return get_full_name_for_node(node.module)


def _import_from(module: str, aliases: Sequence[cst.ImportAlias]) -> cst.ImportFrom:
    last = len(aliases) - 1
    names = [
        alias.with_changes(comma=cst.MaybeSentinel.DEFAULT if index == last else _COMMA)
        for index, alias in enumerate(aliases)
    ]
    return cst.ImportFrom(module=_dotted(module), names=names)


_ANY_COMMENT = matchers.Comment()
_OWN_ATTRIBUTE = matchers.Attribute(value=matchers.Name("self") | matchers.Call(func=matchers.Name("super")))
_TASK_OF_CONTEXT = matchers.Attribute(value=matchers.Attribute(attr=matchers.Name("task")))
_SUPERS_MANIFEST = matchers.Attribute(
    value=matchers.Call(func=matchers.Name("super")), attr=matchers.Name("build_pod_request_obj")
)
_COMMA = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


def _code(node: cst.CSTNode) -> str:
    return cst.Module([]).code_for_node(node)


def _dotted(name: str) -> cst.Attribute | cst.Name:
    first, *rest = name.split(".")
    node: cst.Attribute | cst.Name = cst.Name(first)
    for part in rest:
        node = cst.Attribute(node, cst.Name(part))
    return node
