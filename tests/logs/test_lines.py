"""Bytes become lines, each once, whatever the cuts, the order of the timestamps and the bytes."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.logs.lines import CONTINUED, MAX_LINE, Cursor, LineReader, LogLine


def stamp(nanoseconds: int, zone: int = 0) -> str:
    """A timestamp so many nanoseconds after nine o'clock, written in a zone so many hours ahead."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    offset = "Z" if zone == 0 else f"{'+' if zone > 0 else '-'}{abs(zone):02d}:00"
    return f"2026-11-21T{9 + zone:02d}:{seconds // 60:02d}:{seconds % 60:02d}.{fraction:09d}{offset}"


@dataclass(frozen=True)
class Entry:
    """A line in the log file of a node."""

    nanoseconds: int
    text: bytes
    zone: int = 0

    @property
    def raw(self) -> bytes:
        return stamp(self.nanoseconds, self.zone).encode() + b" " + self.text + b"\n"


def answer(entries: list[Entry], since: str) -> bytes:
    """What the API server sends: in the order of the file, from the whole second on."""
    first = 0
    if since:
        assert since.endswith("Z")
        assert "." not in since, "the kubelet is asked in whole seconds, whatever we ask the API server"
        hours, minutes, seconds = (int(part) for part in since[11:-1].split(":"))
        first = ((hours - 9) * 3600 + minutes * 60 + seconds) * 10**9
    return b"".join(entry.raw for entry in entries if entry.nanoseconds >= first)


def read_whole(data: bytes, cursor: Cursor | None = None) -> list[LogLine]:
    reader = LineReader("base", cursor)
    return [*reader.feed(data), *reader.end()]


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def notes(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines if line.position is None]


def read_with_cuts(entries: list[Entry], cuts: list[tuple[int, int]], chunk: int) -> list[LogLine]:
    """Read a log that grows while the connection is cut: each cut says after how many lines, and bytes more of them."""
    cursor = Cursor()
    seen: list[LogLine] = []
    for lines, extra in [*cuts, (len(entries), 0)]:
        reader = LineReader("base", cursor)
        whole = answer(entries[:lines], cursor.since)
        data = whole + answer(entries[lines:], cursor.since)[:extra]
        for start in range(0, len(data), chunk):
            seen += reader.feed(data[start : start + chunk])
        assert not notes(seen)
        cursor = msgspec.convert(msgspec.to_builtins(reader.cursor), Cursor)
    return seen


# Lines of one log come nearly in order: stdout and stderr are stamped apart.
jittered = st.lists(
    st.tuples(st.integers(0, 3 * 10**8), st.integers(-4 * 10**8, 0), st.text(max_size=8)), min_size=1, max_size=40
)


@given(
    steps=jittered,
    cuts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), max_size=6),
    chunk=st.sampled_from([1, 7, 64, 4096]),
)
def test_each_line_comes_once_and_in_the_order_of_the_file_whatever_the_cuts(
    steps: list[tuple[int, int, str]], cuts: list[tuple[int, int]], chunk: int
) -> None:
    now, entries = 10**9, []
    for number, (pause, jitter, text) in enumerate(steps):
        now += pause
        content = f"{number} {text}".replace("\n", " ").replace("\r", " ")
        entries.append(Entry(now + jitter, content.encode("utf-8", "replace")))
    seen = read_with_cuts(entries, sorted(cuts), chunk)
    assert texts(seen) == [entry.text.decode() for entry in entries]
    assert [line.timestamp for line in seen] == [stamp(entry.nanoseconds) for entry in entries]


@given(
    sizes=st.lists(
        st.sampled_from([0, 1, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 3 * MAX_LINE + 5]), min_size=1, max_size=4
    ),
    cuts=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4 * MAX_LINE)), max_size=4),
    chunk=st.sampled_from([1000, 65536, 10**6]),
    letter=st.sampled_from(["x", "\u00fc", "\U0001f600"]),
)
def test_the_pieces_of_a_long_line_add_up_whatever_the_cuts(
    sizes: list[int], cuts: list[tuple[int, int]], chunk: int, letter: str
) -> None:
    entries = [Entry(number * 10**8, (letter * size).encode()[:size]) for number, size in enumerate(sizes, 10)]
    pieces = read_with_cuts(entries, sorted(cuts), chunk)
    assert all(len(piece.text.encode()) <= MAX_LINE + 2 * len(CONTINUED.encode()) + 3 * 4 for piece in pieces)
    whole: list[str] = []
    for piece in pieces:
        text = piece.text
        if text.startswith(CONTINUED):
            whole[-1] += text.removeprefix(CONTINUED).removesuffix(CONTINUED)
        else:
            whole.append(text.removesuffix(CONTINUED))
    assert whole == [entry.text.decode("utf-8", "backslashreplace") for entry in entries]


def test_reading_resumes_alike_on_nodes_that_stamp_in_another_zone() -> None:
    entries = [Entry(n * 4 * 10**8, b"%d" % n, zone=2 if n < 5 else 1) for n in range(10)]
    assert texts(read_with_cuts(entries, [(3, 0), (5, 20), (6, 0), (9, 3)], 64)) == [str(n) for n in range(10)]


def test_a_whole_second_of_equal_timestamps_is_counted() -> None:
    entries = [Entry(5 * 10**9, b"%d" % n) for n in range(100)]
    assert texts(read_with_cuts(entries, [(37, 0), (80, 15)], 4096)) == [str(n) for n in range(100)]


def test_a_line_that_the_runtime_stamped_a_little_early_is_not_lost_by_a_cut_just_before_it() -> None:
    entries = [Entry(6 * 10**9 + 5, b"stdout"), Entry(6 * 10**9 - 5, b"stderr"), Entry(7 * 10**9, b"end")]
    assert texts(read_with_cuts(entries, [(1, 0), (2, 0)], 64)) == ["stdout", "stderr", "end"]


def test_lines_that_were_rotated_away_are_a_gap_and_no_new_line_is_skipped() -> None:
    old = [Entry(n * 10**8, b"old %d" % n) for n in range(50, 60)]
    reader = LineReader("base")
    reader.feed(answer(old, ""))
    new = [Entry(n * 10**8, b"new %d" % n) for n in range(60, 65)]
    resumed = LineReader("base", reader.cursor)
    lines = resumed.feed(answer(new, reader.cursor.since))
    gap, *shown = texts(lines)
    assert shown == [f"new {n}" for n in range(60, 65)]
    assert gap == (
        f"(kpo-async: lines written between {stamp(59 * 10**8)} and {stamp(60 * 10**8)} (0.100 s) may be missing: "
        "the log was rotated before they were read, or the container restarted)"
    )


def test_an_answer_without_anything_new_yields_no_line_and_no_gap() -> None:
    entries = [Entry(n * 10**8, b"%d" % n) for n in range(20)]
    reader = LineReader("base")
    reader.feed(answer(entries, ""))
    resumed = LineReader("base", reader.cursor)
    assert resumed.feed(answer(entries, reader.cursor.since)) == []
    assert resumed.cursor == reader.cursor
    assert not resumed.replaying
    assert resumed.end() == []


def test_a_cut_during_the_replay_of_known_lines_does_not_move_the_cursor() -> None:
    entries = [Entry(5 * 10**9 + n, b"%d" % n) for n in range(10)]
    first = LineReader("base")
    first.feed(answer(entries, ""))
    second = LineReader("base", first.cursor)
    second.feed(answer(entries[:4], first.cursor.since))
    assert second.cursor == first.cursor


def test_the_last_line_may_lack_its_end_once_the_log_is_whole() -> None:
    data = Entry(0, b"one").raw + Entry(1, b"two").raw.rstrip(b"\n")
    reader = LineReader("base")
    assert texts(reader.feed(data)) == ["one"]
    assert texts(reader.end()) == ["two"]
    again = LineReader("base", reader.cursor)
    assert [*again.feed(data), *again.end()] == []


def test_a_line_without_a_timestamp_inherits_the_one_before_it() -> None:
    data = Entry(0, b"one").raw + b"unable to retrieve container logs\n" + Entry(1, b"two").raw
    assert [(line.timestamp, line.text) for line in read_whole(data)] == [
        (stamp(0), "one"),
        (stamp(0), "unable to retrieve container logs"),
        (stamp(1), "two"),
    ]


def test_lines_without_timestamps_are_not_counted_when_resuming() -> None:
    reader = LineReader("base")
    reader.feed(Entry(0, b"one").raw + b"the kubelet says\n" + Entry(1, b"two").raw)
    again = Entry(0, b"one").raw + Entry(1, b"two").raw + Entry(2, b"three").raw
    assert texts(read_whole(again, reader.cursor)) == ["three"]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        pytest.param(b"", "", id="empty"),
        pytest.param(b" indented", " indented", id="leading space"),
        pytest.param(b"\xff\xfeend", "\\xff\\xfeend", id="invalid UTF-8"),
        pytest.param("gr\u00fcn".encode(), "gr\u00fcn", id="UTF-8"),
        pytest.param(b"with CRLF\r", "with CRLF", id="CRLF"),
        pytest.param(b" 10%\r 50%\r100%", "100%", id="progress bar"),
        pytest.param(b" 10%\r 50%\r", " 50%", id="progress bar with a final return"),
        pytest.param(b"50%\r   \r", "50%", id="progress bar that wipes itself"),
        pytest.param(b"\r", "", id="only a return"),
        pytest.param(b"nul\0 inside", "nul\0 inside", id="NUL"),
        pytest.param(b"2026-11-21T09:00:00Z again", "2026-11-21T09:00:00Z again", id="its own timestamp"),
    ],
)
def test_a_line_looks_as_in_a_terminal(raw: bytes, shown: str) -> None:
    assert texts(read_whole(Entry(0, raw).raw)) == [shown]


@given(st.binary(max_size=300), st.integers(1, 40))
def test_any_bytes_can_be_read(data: bytes, chunk: int) -> None:
    reader = LineReader("base")
    for start in range(0, len(data), chunk):
        reader.feed(data[start : start + chunk])
    reader.end()
    assert msgspec.convert(msgspec.to_builtins(reader.cursor), Cursor) == reader.cursor
