"""Validation that all objects share (names, labels, annotations, metadata), with the texts of a real server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kpo_async.localcluster.api.errors import Cause
from kpo_async.localcluster.store.objects import Object

_LABEL_FORM = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN_FORM = rf"{_LABEL_FORM}(\.{_LABEL_FORM})*"
_NAME_FORM = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE_FORM = f"({_NAME_FORM[: -len('[A-Za-z0-9]')]}[A-Za-z0-9])?"
_CONFIG_KEY_FORM = "[-._a-zA-Z0-9]+"

DNS_LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL_FORM}')"
)
DNS_SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN_FORM}')"
)
_QUALIFIED = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_NAME_FORM}')"
)
_LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', "
    f"regex used for validation is '{_VALUE_FORM}')"
)
_CONFIG_KEY = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    f"or 'key-name', regex used for validation is '{_CONFIG_KEY_FORM}')"
)
ANNOTATIONS_LIMIT = 256 * 1024
DATA_LIMIT = 1024 * 1024


def required(field: str, message: str = "") -> Cause:
    return Cause("FieldValueRequired", field, f"Required value: {message}" if message else "Required value")


def invalid(field: str, value: object, message: str) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueInvalid", field, f"Invalid value: {shown}: {message}")


def unsupported(field: str, value: object, supported: Iterable[str]) -> Cause:
    listed = ", ".join(f'"{item}"' for item in supported)
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueNotSupported", field, f"Unsupported value: {shown}: supported values: {listed}")


def duplicate(field: str, value: str) -> Cause:
    return Cause("FieldValueDuplicate", field, f'Duplicate value: "{value}"')


def missing(field: str, value: str) -> Cause:
    return Cause("FieldValueNotFound", field, f'Not found: "{value}"')


def too_long(field: str, limit: int) -> Cause:
    return Cause("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")


def dns_label(text: str) -> Iterator[str]:
    """Yield the problems of an RFC 1123 label."""
    if len(text) > 63:
        yield "must be no more than 63 characters"
    if not re.fullmatch(_LABEL_FORM, text):
        yield DNS_LABEL


def dns_subdomain(text: str) -> Iterator[str]:
    """Yield the problems of an RFC 1123 subdomain."""
    if len(text) > 253:
        yield "must be no more than 253 characters"
    if not re.fullmatch(_SUBDOMAIN_FORM, text):
        yield DNS_SUBDOMAIN


def qualified_name(text: str) -> Iterator[str]:
    """Yield the problems of a label or annotation key: `[prefix/]name`."""
    parts = text.split("/")
    if len(parts) > 2:
        example = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        yield f"a qualified name {_QUALIFIED}{example}"
        return
    if len(parts) == 2:
        if not parts[0]:
            yield "prefix part must be non-empty"
        else:
            yield from (f"prefix part {problem}" for problem in dns_subdomain(parts[0]))
    name = parts[-1]
    if not name:
        yield "name part must be non-empty"
    elif len(name) > 63:
        yield "name part must be no more than 63 characters"
    if not re.fullmatch(_NAME_FORM, name):
        yield f"name part {_QUALIFIED}"


def label_value(text: str) -> Iterator[str]:
    """Yield the problems of a label's value."""
    if len(text) > 63:
        yield "must be no more than 63 characters"
    if not re.fullmatch(_VALUE_FORM, text):
        yield _LABEL_VALUE


def labels(found: dict[str, str], field: str) -> Iterator[Cause]:
    """Yield the invalid labels of a field."""
    for key, value in found.items():
        yield from (invalid(field, key, problem) for problem in qualified_name(key))
        yield from (invalid(field, value, problem) for problem in label_value(value))


def metadata(meta: Object, *, subdomain: bool = True) -> Iterator[Cause]:
    """Yield what is invalid in `metadata`; `subdomain` is False for kinds whose names are DNS labels."""
    check = dns_subdomain if subdomain else dns_label
    if prefix := meta.get("generateName"):
        for problem in check(prefix[:-1] + "a" if prefix.endswith("-") else prefix):
            yield invalid("metadata.generateName", prefix, problem)
    name = meta.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from (invalid("metadata.name", name, problem) for problem in check(name))
    yield from labels(meta.get("labels") or {}, "metadata.labels")
    annotations: dict[str, str] = meta.get("annotations") or {}
    for key in annotations:
        yield from (invalid("metadata.annotations", key, problem) for problem in qualified_name(key.lower()))
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > ANNOTATIONS_LIMIT:
        yield too_long("metadata.annotations", ANNOTATIONS_LIMIT)
    for owner in meta.get("ownerReferences") or []:
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                yield invalid(f"metadata.ownerReferences.{key}", "", "must not be empty")
    for index, finalizer in enumerate(meta.get("finalizers") or []):
        where = f"metadata.finalizers[{index}]"
        yield from (invalid(where, finalizer, problem) for problem in qualified_name(finalizer))
        if "/" not in finalizer and finalizer not in ("orphan", "foregroundDeletion", "kubernetes"):
            yield invalid(where, finalizer, "name is neither a standard finalizer name nor is it fully qualified")


def immutable_metadata(new: Object, old: Object) -> Iterator[Cause]:
    """Yield the changes of `metadata` that an update may not make."""
    for key in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if new.get(key) != old.get(key):
            yield invalid(f"metadata.{key}", new.get(key) or "null", "field is immutable")


def config_data(obj: Object) -> Iterator[Cause]:
    """Yield what is invalid in a ConfigMap's data."""
    total = 0
    for field in ("data", "binaryData"):
        for key, value in (obj.get(field) or {}).items():
            total += len(value.encode())
            yield from config_key(key, f"{field}[{key}]")
    if total > DATA_LIMIT:
        yield too_long("[]", DATA_LIMIT)


def secret_data(obj: Object) -> Iterator[Cause]:
    """Yield what is invalid in a Secret's data."""
    total = 0
    for key, value in (obj.get("data") or {}).items():
        total += len(value) * 3 // 4
        yield from config_key(key, f"data[{key}]")
    if total > DATA_LIMIT:
        yield too_long("data", DATA_LIMIT)


def config_key(key: str, field: str) -> Iterator[Cause]:
    """Yield what is invalid in a key of a ConfigMap or a Secret."""
    if len(key) > 253:
        yield invalid(field, key, "must be no more than 253 characters")
    if not re.fullmatch(_CONFIG_KEY_FORM, key):
        yield invalid(field, key, _CONFIG_KEY)
    elif key in (".", "..") or key.startswith(".."):
        yield invalid(field, key, f"must not be '{key}'" if key in (".", "..") else "must not start with '..'")
