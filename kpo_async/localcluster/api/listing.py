"""LIST: consistent snapshots, selectors, pages, and the meaning of `resourceVersion` (measured on 1.34)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass

from kpo_async.localcluster.api import errors, selectors
from kpo_async.localcluster.api.resources import Resource
from kpo_async.localcluster.store.objects import Object, WatchEventType
from kpo_async.localcluster.store.store import Store, StoredObject, VersionExpired

FUTURE_WAIT = 3.0
"""Seconds that a request for a version in the future waits before it is refused."""

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


@dataclass(frozen=True)
class ContinueToken:
    """Where the next page starts, and at which version (None: the current state)."""

    start: tuple[str, str]
    version: int | None

    def encode(self) -> str:
        """Return the token's text."""
        raw = json.dumps({"v": "meta.k8s.io/v1", "rv": self.version or -1, "start": "/".join(self.start)})
        return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> ContinueToken:
        """Parse a token. Raises StatusError (400)."""
        try:
            raw = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            namespace, _, name = raw["start"].partition("/")
            return cls((namespace, name), None if raw["rv"] == -1 else int(raw["rv"]))
        except (binascii.Error, ValueError, KeyError, TypeError, AttributeError):
            message = "invalid continue token: continue key is not valid"
            raise errors.bad_request(message) from None


@dataclass(frozen=True)
class ListOptions:
    """meta/v1 ListOptions of a LIST."""

    matches: selectors.Matcher | None = None
    limit: int = 0
    token: ContinueToken | None = None
    version: str = ""
    exact: bool = False

    @classmethod
    def parse(cls, resource: Resource, query: Mapping[str, str]) -> ListOptions:
        """Read the options from a query. Raises StatusError (400, 422)."""
        if "sendInitialEvents" in query:
            message = "Forbidden: sendInitialEvents is forbidden for list"
            raise errors.invalid_options("ListOptions", "sendInitialEvents", message)
        matches, _ = selectors.parse(resource.name, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
        check_version_match(version, match)
        token = ContinueToken.decode(query["continue"]) if query.get("continue") else None
        if token and version not in ("", "0"):
            raise errors.bad_request("specifying resource version is not allowed when using continue")
        if version:
            parse_version(version, "invalid resource version: ", 400)
        return cls(matches, parse_int(query.get("limit", "")), token, version, match == "Exact")


def check_version_match(version: str, match: str) -> None:
    """Raise StatusError (422) for a `resourceVersionMatch` that the version does not allow."""
    if not match:
        return
    if not version:
        message = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise errors.invalid_options("ListOptions", "resourceVersionMatch", f"Forbidden: {message}")
    if match not in ("Exact", "NotOlderThan"):
        message = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan", ""'
        raise errors.invalid_options("ListOptions", "resourceVersionMatch", message, "FieldValueNotSupported")
    if match == "Exact" and version == "0":
        message = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        raise errors.invalid_options("ListOptions", "resourceVersionMatch", f"Forbidden: {message}")


def parse_int(text: str) -> int:
    """Parse an integer query parameter; "" is 0. Raises StatusError (400)."""
    try:
        return int(text or 0)
    except ValueError:
        raise errors.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def parse_version(text: str, prefix: str = "", code: int = 500) -> int:
    """Parse a resourceVersion. Raises StatusError; a real server answers a GET or a watch with 500 and no reason."""
    if text.isascii() and text.isdigit():
        return int(text)
    message = f'{prefix}resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
    raise errors.StatusError(code, message, reason="" if code == 500 else None)


async def wait_for(store: Store, version: int) -> None:
    """Wait a while for a version. Raises StatusError (504) if the store does not reach it."""
    if version > store.version:
        await asyncio.sleep(FUTURE_WAIT)
        if version > store.version:
            raise errors.too_large_version(version, store.version)


@dataclass(frozen=True)
class Page:
    """A part of a list."""

    items: list[StoredObject]
    version: int
    token: ContinueToken | None = None
    remaining: int | None = None

    def metadata(self) -> Object:
        """Return the list's `metadata`."""
        metadata: Object = {"resourceVersion": str(self.version)}
        if self.token:
            metadata["continue"] = self.token.encode()
            if self.remaining is not None:
                metadata["remainingItemCount"] = self.remaining
        return metadata


async def page(store: Store, resource: Resource, namespace: str | None, options: ListOptions) -> Page:
    """Return the objects of a LIST, sorted by namespace and name. Raises StatusError (410, 504)."""
    token = options.token
    version = None
    if token and token.version is not None:
        version = token.version
    elif options.version and not token:
        wanted = parse_version(options.version)
        await wait_for(store, wanted)
        version = wanted if options.exact else None
    items = _snapshot(store, resource.name, namespace, version, token)
    if token:
        items = [item for item in items if _key(item) >= token.start]
    if options.matches is not None:
        items = [item for item in items if options.matches(item.object)]
    list_version = store.version if version is None else version
    # A list from the cache (version 0) has no pages.
    if not options.limit or options.limit < 0 or len(items) <= options.limit or options.version == "0":
        return Page(items, list_version)
    rest = len(items) - options.limit
    following = ContinueToken(_key(items[options.limit]), list_version)
    return Page(items[: options.limit], list_version, following, None if options.matches else rest)


def _snapshot(
    store: Store, resource: str, namespace: str | None, version: int | None, token: ContinueToken | None
) -> list[StoredObject]:
    if version is None:
        return sorted(store.scan(resource, namespace), key=_key)
    try:
        return sorted(_past(store, resource, namespace, version), key=_key)
    except VersionExpired:
        if token is None:
            raise errors.expired("The resourceVersion for the provided list is too old.") from None
        error = errors.expired(_TOO_OLD)
        error.continue_token = ContinueToken(token.start, None).encode()
        raise error from None


def _past(store: Store, resource: str, namespace: str | None, version: int) -> list[StoredObject]:
    """The objects as they were at a version: later writes undone, newest first. Raises VersionExpired."""
    objects = {_key(item): item for item in store.scan(resource, namespace)}
    for write in reversed(store.history(resource, version)):
        key = _key(write.stored)
        if namespace is not None and key[0] != namespace:
            continue
        if write.type is WatchEventType.ADDED:
            objects.pop(key, None)
        elif write.previous_stored is not None:
            objects[key] = write.previous_stored
    return list(objects.values())


def _key(stored: StoredObject) -> tuple[str, str]:
    metadata = stored.object["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def current(
    store: Store, resource: str, namespace: str | None, matches: selectors.Matcher | None
) -> list[StoredObject]:
    """Return all matching objects as they are now, sorted by namespace and name."""
    items = sorted(store.scan(resource, namespace), key=_key)
    return items if matches is None else [item for item in items if matches(item.object)]


def render(resource: Resource, found: Page) -> bytes:
    """Encode a `PodList` or the like; its items have neither kind nor apiVersion, as on a real server."""
    head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": found.metadata()}
    prefix = item_prefix(resource)
    items = [b"{" + item.json[len(prefix) :] if item.json.startswith(prefix) else item.json for item in found.items]
    return json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"items":[' + b",".join(items) + b"]}\n"


def item_prefix(resource: Resource) -> bytes:
    """Return the beginning of the JSON of every stored object of a resource."""
    return f'{{"kind":"{resource.kind}","apiVersion":"{resource.api_version}",'.encode()
