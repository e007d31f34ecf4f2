"""Lists and lines of a watch become pods, however they are split and encoded."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.exceptions import ApiError, ExpiredError
from kpo_async.kube.errors import Action
from kpo_async.kube.watch.decode import EventType, LineSplitter, PodListDecoder, decode_line
from tests.kube.scripted_server import bookmark, error, line, marker, modified, pod

WATCH = Action("watch", "pods", namespace="ns")


def encode(body: Any, indent: int | None = None) -> bytes:
    separators = (",", ":") if indent is None else None
    return json.dumps(body, separators=separators, indent=indent).encode()


def pod_list(pods: list[dict[str, Any]], **extra: Any) -> dict[str, Any]:
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "77", **extra}, "items": pods}


def read(body: bytes, size: int) -> tuple[list[str], PodListDecoder]:
    decoder = PodListDecoder()
    names = [
        pod.metadata.name for start in range(0, len(body), size) for pod in decoder.feed(body[start : start + size])
    ]
    return names + [pod.metadata.name for pod in decoder.finish()], decoder


@given(count=st.integers(0, 40), size=st.integers(1, 5000), filler=st.text(max_size=50))
def test_a_list_is_decoded_whole_however_it_is_split(count: int, size: int, filler: str) -> None:
    tricky = '},{"metadata":{' + filler
    pods = [pod(f"p{i}", i, annotations={"a": tricky}, labels={tricky: filler}) for i in range(count)]
    names, decoder = read(encode(pod_list(pods)) + b"\n", size)
    assert names == [f"p{i}" for i in range(count)]
    assert decoder.version == "77"


def test_a_long_list_is_decoded_while_it_arrives() -> None:
    body = encode(pod_list([pod(f"p{i}", i, annotations={"a": "x" * 3000}) for i in range(100)]))
    decoder = PodListDecoder()
    early = [pod.metadata.name for pod in decoder.feed(body[: len(body) // 2])]
    assert early == [f"p{i}" for i in range(len(early))]
    assert 40 <= len(early) <= 50


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(encode(pod_list([pod("a", 1), pod("b", 2)]), indent=2), id="indented"),
        pytest.param(encode(dict(reversed(pod_list([pod("a", 1), pod("b", 2)]).items()))), id="items first"),
        pytest.param(
            encode({"metadata": {"resourceVersion": "77"}, "items": [pod("a", 1), pod("b", 2)]}), id="no kind"
        ),
        pytest.param(
            encode(pod_list([{"kind": "Pod", **pod("a", 1)}, {"kind": "Pod", **pod("b", 2)}])), id="kind in items"
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_a_list_of_another_encoder_is_decoded_too(body: bytes, size: int) -> None:
    names, decoder = read(body, size)
    assert names == ["a", "b"]
    assert decoder.version == "77"


def test_a_list_without_items_is_empty() -> None:
    assert read(b'{"kind":"PodList","metadata":{"resourceVersion":"77"},"items":null}', 10)[0] == []


def test_a_page_holds_the_token_of_the_next_page() -> None:
    assert read(encode(pod_list([], **{"continue": "abc"})), 20)[1].continue_token == "abc"


@pytest.mark.parametrize("missing", [1, 2, 40, 5000])
def test_a_list_that_ends_early_is_an_error(missing: int) -> None:
    body = encode(pod_list([pod(f"p{i}", i) for i in range(50)]))
    with pytest.raises(msgspec.DecodeError):
        read(body[:-missing], 1000)


def test_an_undecodable_pod_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    odd = pod("odd", 2) | {"status": "what?"}
    assert read(encode(pod_list([pod("a", 1), odd, pod("b", 3)])), 100_000)[0] == ["a", "b"]
    assert decode_line(line("MODIFIED", odd), WATCH) is None
    assert caplog.text.count("pod ns/odd cannot be decoded") == 2


def test_bookmarks_are_told_from_pods_and_the_last_one_from_others() -> None:
    plain, end = decode_line(bookmark(9), WATCH), decode_line(marker(10), WATCH)
    assert plain is not None
    assert end is not None
    assert (plain.type, plain.object.metadata.resource_version) == (EventType.BOOKMARK, "9")
    assert not plain.ends_initial_events
    assert end.ends_initial_events


def test_managed_fields_and_undeclared_fields_are_skipped() -> None:
    managed = [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}]
    decoded = decode_line(modified("a", 1, managedFields=managed, selfLink="x"), WATCH)
    assert decoded is not None
    assert msgspec.to_builtins(decoded.object.metadata) == {
        "name": "a", "namespace": "ns", "uid": "uid-a", "resourceVersion": "1"}  # fmt: skip


def test_an_error_line_raises_the_error_of_its_code() -> None:
    with pytest.raises(ExpiredError) as raised:
        decode_line(error(410, "Expired"), WATCH)
    assert raised.value.reason == "Expired"


@pytest.mark.parametrize("garbage", [b"<html>", b"{}", b'{"type":"ADDED"}', b'{"type":"ADDED","object":3}', b"\xff"])
def test_a_line_that_no_api_server_sends_is_malformed(garbage: bytes) -> None:
    with pytest.raises(ApiError, match="not what an API server sends"):
        decode_line(garbage, WATCH)


@given(lines=st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=20), data=st.data())
def test_lines_come_out_whole_however_they_are_split(lines: list[bytes], data: st.DataObject) -> None:
    body, splitter, out = b"".join(one + b"\n" for one in lines) + b"rest", LineSplitter(), []
    while body:
        size = data.draw(st.integers(1, len(body)))
        out += splitter.feed(body[:size])
        body = body[size:]
    assert out == [one for one in lines if one]


def test_a_stream_without_line_ends_is_not_buffered_for_ever() -> None:
    splitter = LineSplitter()
    for _ in range(16):
        splitter.feed(b"x" * 2**20)
    with pytest.raises(ValueError, match="no line end"):
        splitter.feed(b"x")
