"""A function as a payload: packed here, then run as in a pod, by a shell and a Python without kpo_async."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kpo_async.decorators.payload import LIMIT, PART, Payload, Serializer, pack
from kpo_async.exceptions import ManifestError

Decorate = Callable[[Callable[..., Any]], Callable[..., Any]]
MAX_ARG_STRLEN = 128 * 1024


@dataclass(frozen=True)
class Ran:
    """What a pod leaves: its exit code, its log, its result file."""

    code: int
    log: str
    result: str | None


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A directory that holds only `sh` and `python3`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    (programs / "python3").symlink_to(sys.executable)
    return programs


@pytest.fixture
def run(image: Path, tmp_path: Path) -> Callable[..., Ran]:
    def run(function: Callable[..., Any], *args: Any, serializer: Serializer = Serializer.PICKLE, **kwargs: Any) -> Ran:
        result = tmp_path / "return.json"
        payload = pack(function, args, kwargs, serializer=serializer, result=str(result))
        done = start(payload, image)
        return Ran(done.returncode, done.stdout, result.read_text() if result.exists() else None)

    return run


def start(payload: Payload, image: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(image), **payload.environment}
    command = [str(image / payload.command[0]), *payload.command[1:]]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.run(command, env=environment, cwd=image, text=True, **streams)


def task(function: Callable[..., Any]) -> Callable[..., Any]:
    """Stand in for a task decorator: the function that it is applied to is packed, as by Airflow."""
    return function


task_with: Callable[..., Decorate] = lambda **_: task  # noqa: E731  as users alias decorators


# -- functions that are packed


def greet(name: str = "nobody", *, times: int = 1) -> dict[str, str]:
    # a comment
    return {"said": f"hello {name}" * times}


@task
@task_with(image="x", nested=(1, 2))
def decorated(text: str = "text at column 0:\n{}") -> str:
    """A docstring with
    lines further left than the code."""
    return text.format(1)


def returns_nothing() -> None:
    print("working")


def returns_no_json() -> object:
    return object()


def raises() -> None:
    x = 0
    1 / x


def needs_an_import() -> str:
    return json.dumps({})


def exits() -> None:
    raise SystemExit(99)


async def sleeps() -> str:
    import asyncio

    await asyncio.sleep(0)
    return "woke"


def typed(frame: pandas.DataFrame) -> Undefined:  # noqa: F821  type hints of the DAG file
    return len(frame)


def length(text: str) -> int:
    return len(text)


def test_arguments_go_in_and_the_result_comes_out(run):
    assert run(greet, "Bob", times=2) == Ran(0, "", '{"said": "hello Bobhello Bob"}')


def test_a_function_without_arguments_needs_no_pickle(run):
    assert run(greet).result == '{"said": "hello nobody"}'


def test_task_decorators_are_removed_by_any_name_and_strings_keep_their_columns(run):
    assert run(decorated) == Ran(0, "", json.dumps("text at column 0:\n1"))


def test_a_function_defined_inside_another_can_be_sent(run):
    @task_with(image="x")
    def inner(x: int) -> int:
        return x + 1

    assert run(inner, 1).result == "2"


def test_a_decorator_below_the_tasks_is_kept():
    def twice(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(function)(lambda *args: function(*args) * 2)

    @task
    @twice
    def inner() -> int:
        return 1

    from kpo_async.decorators.source import function_source

    assert "@twice\n    def inner" in function_source(inner).text.replace("    @", "@")
    assert "@task" not in function_source(inner).text


def test_the_function_prints_to_the_log_and_none_is_an_empty_result(run):
    assert run(returns_nothing) == Ran(0, "working\n", "")


def test_an_async_function_is_awaited(run):
    assert run(sleeps).result == '"woke"'


def test_type_hints_need_not_exist_in_the_image(run):
    assert run(typed, [1, 2]).result == "2"


def test_a_result_that_is_not_json_serializable_fails_with_the_reason(run):
    ran = run(returns_no_json)
    assert (ran.code, ran.result) == (1, None)
    assert ran.log == (
        "kpo_async: the function's result (object) cannot be an XCom: Object of type object is not JSON serializable\n"
    )


def test_a_traceback_has_the_lines_of_the_dag_file_and_no_frames_of_kpo_async(run):
    ran = run(raises)
    line = raises.__code__.co_firstlineno + 2
    assert ran.code == 1
    assert f'File "{__file__}", line {line}, in raises\n    1 / x' in ran.log
    assert ran.log.endswith("ZeroDivisionError: division by zero\n")
    assert ran.log.count("File ") == 1


def test_a_name_error_is_explained(run):
    ran = run(needs_an_import)
    assert "NameError: name 'json' is not defined" in ran.log
    assert ran.log.endswith(
        "kpo_async: only the function itself is in the pod: import and define what it needs inside of it\n"
    )


def test_the_functions_own_exit_code_is_kept(run):
    assert run(exits) == Ran(99, "", None)


def test_the_function_does_not_inherit_the_payload(run):
    def names() -> list[str]:
        import os

        return [name for name in os.environ if "KPO_ASYNC" in name]

    assert run(names).result == "[]"


def test_arguments_larger_than_one_environment_variable_are_sent(run):
    noise = os.urandom(450_000).hex()
    assert run(length, noise).result == "900000"


def test_no_string_of_a_large_payload_exceeds_the_limit_of_linux():
    payload = pack(length, [os.urandom(450_000).hex()], {})
    strings = [f"{name}={value}" for name, value in payload.environment.items()]
    assert len(strings) > 5
    assert max(len(string) for string in (*strings, *payload.command)) < MAX_ARG_STRLEN
    assert sum(len(string) for string in strings) < LIMIT + PART


def test_arguments_too_large_for_a_pod_are_refused_with_sizes_and_advice():
    with pytest.raises(
        ManifestError, match=r"length: .* arguments \(2,000,0\d\d bytes\).* a pod can carry 1,400,000.*object store"
    ):
        pack(length, [os.urandom(1_000_000).hex()], {})


def test_the_same_input_gives_the_same_payload():
    assert pack(greet, ["Bob"], {}) == pack(greet, ["Bob"], {})


def test_kubernetes_finds_no_variable_reference_in_the_payload():
    payload = pack(greet, ["$(HOME) $$"], {})
    assert not any("$(" in text or "$$" in text for text in (*payload.environment.values(), *payload.command))


def test_an_image_whose_python_is_not_called_python3_works(image: Path):
    (image / "python3").rename(image / "python")
    assert start(pack(greet, [], {}), image).returncode == 0


def test_an_image_without_python_fails_with_the_reason(image: Path):
    (image / "python3").unlink()
    done = start(pack(greet, [], {}), image)
    assert (done.returncode, done.stdout) == (127, "kpo_async: this image has no python3 and no python\n")


@pytest.mark.parametrize("version", ["3.7", "3.8", "3.9", "3.10", "3.12", "3.13"])
def test_other_versions_of_python_run_the_payload(version: str, image: Path):
    found = subprocess.run(
        ["sh", "-c", f"python{version} -c 'import sys; print(sys.executable)'"], capture_output=True, text=True
    )
    if found.returncode:
        pytest.skip(f"no Python {version} here")
    (image / "python3").unlink()
    (image / "python3").symlink_to(found.stdout.strip())
    done = start(pack(greet, ["Bob"], {"times": 2}), image)
    assert (done.returncode, done.stdout) == (0, "")


class Point:
    """A class of the DAG file: no pod can import it."""

    def __init__(self, x: int) -> None:
        self.x = x


def x_of(point: Any) -> int:
    return point.x


def test_an_argument_that_cannot_be_pickled_is_refused_on_the_worker():
    with pytest.raises(ManifestError, match="arguments of length cannot be sent to a pod"):
        pack(length, [lambda: None], {})


def test_an_argument_whose_class_is_not_in_the_image_is_explained(run):
    ran = run(x_of, Point(1))
    assert ran.code == 1
    assert "cannot be unpickled in this image, which lacks" in ran.log


@pytest.mark.parametrize("serializer", [Serializer.CLOUDPICKLE, Serializer.DILL])
def test_other_serializers_are_used_where_the_image_has_them(serializer: Serializer, image: Path, tmp_path: Path):
    pytest.importorskip(serializer.value)
    (image / "python3").unlink()
    (image / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')  # the venv is this image's Python
    (image / "python3").chmod(0o755)
    result = tmp_path / "return.json"
    done = start(pack(sorted_by, [[2, 1], lambda x: x], {}, serializer=serializer, result=str(result)), image)
    assert (done.stdout, result.read_text()) == ("", "[1, 2]")


def sorted_by(values: list[int], key: Callable[[int], int]) -> list[int]:
    return sorted(values, key=key)


def test_cloudpickle_sends_classes_of_the_dag_file_by_value(image: Path, tmp_path: Path):
    pytest.importorskip("cloudpickle")
    (image / "python3").unlink()
    (image / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (image / "python3").chmod(0o755)
    result = tmp_path / "return.json"
    done = start(pack(x_of, [Point(5)], {}, serializer=Serializer.CLOUDPICKLE, result=str(result)), image)
    assert (done.stdout, result.read_text()) == ("", "5")


def _closure() -> Callable[..., Any]:
    outside = 1
    return lambda: outside


def _nested() -> Callable[..., Any]:
    outside = 1

    def inner() -> int:
        return outside

    return inner


REFUSED = {
    "a lambda": (_closure(), "is not defined by `def`"),
    "a builtin": (len, "has no source"),
    "a closure": (_nested(), r"uses variables of the function around it \(outside\)"),
}


@pytest.mark.parametrize(("function", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_function_without_usable_source_is_refused_with_the_reason(function: Callable[..., Any], reason: str):
    with pytest.raises(ManifestError, match=reason):
        pack(function, [], {})
