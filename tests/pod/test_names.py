"""Names and label values: the incumbent's where those are legal, and legal always."""

from __future__ import annotations

import itertools
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.exceptions import ManifestError
from kpo_async.pod import names
from kpo_async.pod.names import TaskIdentity

TASK = TaskIdentity("0190c6f2", "my.dag", "a.b", "manual__2026-01-02T03:04:05+00:00", 3)
KEYS = st.text(st.characters(categories=("L", "N"), include_characters="_.-"), min_size=1, max_size=250)


@pytest.mark.parametrize(
    ("given_name", "cleaned"),
    [
        ("Hello_Bob_x", "hello-bob-x"),
        ("a.b__c", "a-b-c"),
        ("a-_-b", "a---b"),
        ("ünï", "-n-"),
        ("trailing_", "trailing-"),
        ("newline\n", "newline-"),
    ],
)
def test_a_users_name_is_cleaned_as_the_incumbent_does(given_name: str, cleaned: str) -> None:
    assert names.clean(given_name) == cleaned


@pytest.mark.parametrize("bad", ["", "a b", "a/b", "a..b", "x" * 221, 5, None], ids=repr)
def test_a_name_that_airflow_does_not_accept_as_a_key_is_refused(bad: object) -> None:
    with pytest.raises(ManifestError, match="name"):
        names.clean(bad)


@pytest.mark.parametrize(
    ("task_id", "name"),
    [
        ("outer.inner.setup", "outer-inner-setup"),
        ("Überweisung_1", "uberweisung-1"),
        ("任务", "ren-wu"),
        ("x" * 100, "x" * 63),
        ("_", ""),
    ],
)
def test_without_a_name_the_task_id_is_the_name(task_id: str, name: str) -> None:
    assert names.from_task_id(task_id) == name


@given(KEYS)
def test_task_ids_become_names_as_python_slugify_makes_them(task_id: str) -> None:
    slugify = pytest.importorskip("slugify").slugify
    assert names.from_task_id(task_id) == slugify(task_id)[:63].strip("-")


@pytest.mark.parametrize(
    ("base", "unique", "name"),
    [
        ("hello-bob", "abcdefgh", "hello-bob-abcdefgh"),
        ("x" * 70, "abcdefgh", "x" * 54 + "-abcdefgh"),
        ("y" * 53 + "-z", "abcdefgh", "y" * 53 + "-abcdefgh"),
        ("-a-", "abcdefgh", "a-abcdefgh"),
        ("", "abcdefgh", "abcdefgh"),
        ("---", "abcdefgh", "abcdefgh"),
        ("plain", None, "plain"),
        ("x" * 100, None, "x" * 100),
        ("-plain-", None, "plain"),
        ("Template_Name", None, "template-name"),
        ("a.-b", None, "a.b"),
        ("-", None, "pod"),
    ],
)
def test_a_pods_name_is_repaired_only_where_it_would_be_refused(base: str, unique: str | None, name: str) -> None:
    assert names.pod_name(base, unique) == name


@given(st.text(max_size=300), st.booleans())
def test_a_pods_name_is_always_legal(base: str, with_suffix: bool) -> None:
    name = names.pod_name(base, names.suffix(TASK) if with_suffix else None)
    assert names.is_pod_name(name)
    assert not with_suffix or len(name) <= 63


def test_the_suffix_is_stable_for_a_try_and_differs_between_tries() -> None:
    assert names.suffix(TASK) == names.suffix(replace(TASK, id="another")) == "3gxxz3w3"
    others = [replace(TASK, try_number=4), replace(TASK, map_index=3), replace(TASK, run_id="r"), TASK]
    assert len({names.suffix(other) for other in others} | {names.suffix(TASK, 1), names.suffix(TASK, 2)}) == 6


@given(st.text(), st.integers(0, 99), st.integers(0, 99))
def test_a_suffix_is_eight_lower_case_letters_and_digits(run_id: str, try_number: int, number: int) -> None:
    task = replace(TASK, run_id=run_id, try_number=try_number)
    for suffix in (names.suffix(task, number), names.random_suffix()):
        assert len(suffix) == 8
        assert set(suffix) <= set(string.ascii_lowercase + string.digits)


def test_a_name_that_is_taken_for_good_is_replaced_by_another_of_the_same_try() -> None:
    name = names.pod_name("job", names.suffix(TASK))
    chain = list(itertools.islice(names.names_of_try(name, TASK), 4))
    assert chain[0] == name
    assert len(set(chain)) == 4
    assert all(names.is_pod_name(other) and other.startswith("job-") for other in chain)


def test_a_users_own_name_is_not_replaced() -> None:
    assert list(names.names_of_try("fixed", TASK)) == ["fixed"]
    assert names.name_in_try("fixed", TASK, 1) == "fixed"


@given(st.text(string.ascii_lowercase + "-.", max_size=100), st.integers(1, 9))
def test_a_try_knows_the_names_of_the_earlier_ones(base: str, try_number: int) -> None:
    earlier = replace(TASK, id="another", try_number=try_number)
    name = names.pod_name(base, names.suffix(TASK))
    assert names.name_in_try(name, TASK, try_number) == names.pod_name(base, names.suffix(earlier))


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("", ""),
        ("my.dag", "my.dag"),
        ("manual__2026-01-02T03:04:05+00:00", "manual__2026-01-02T0304050000-3c9ea4d7d"),
        ("_leading", "leading-668dc1710"),
        ("a" * 63, "a" * 63),
        ("a" * 64, "a" * 53 + "-014842d48"),
        ("___", "948a13f1e"),
    ],
)
def test_a_label_value_ends_in_a_hash_where_it_had_to_change(value: str, safe: str) -> None:
    assert names.label_value(value) == safe


@given(st.text(max_size=200))
def test_a_label_value_is_always_legal(value: str) -> None:
    assert names.is_label_value(names.label_value(value))


@given(st.text(alphabet=string.ascii_letters + string.digits + "-_.é", max_size=80))
def test_label_values_are_the_incumbents_where_those_are_legal(value: str) -> None:
    theirs = pytest.importorskip("tests.incumbent", exc_type=ImportError).make_safe_label_value(value)
    assert names.label_value(value) == theirs or not names.is_label_value(theirs)


def test_the_labels_of_a_task_are_the_incumbents() -> None:
    assert names.task_labels(TASK) == {
        "dag_id": "my.dag",
        "task_id": "a.b",
        "run_id": "manual__2026-01-02T0304050000-3c9ea4d7d",
        "kubernetes_pod_operator": "True",
        "try_number": "3",
    }


def test_only_mapped_tasks_have_a_map_index() -> None:
    mapped = TaskIdentity("0190c6f2", "d", "t", "r", 1, map_index=0)
    assert names.task_labels(mapped)["map_index"] == "0"


def test_the_owner_is_one_try_of_one_task_instance() -> None:
    assert TASK.owner == "0190c6f2/3"


def test_each_attempt_of_a_try_has_a_name_of_its_own_that_follows_from_the_first() -> None:
    first = names.pod_name("task", names.suffix(TASK))
    second = names.name_of_attempt(first, TASK, 2)
    third = names.name_of_attempt(second, TASK, 3)
    assert len({first, second, third, names.name_of_attempt(first, replace(TASK, try_number=4), 2)}) == 4
    assert third == names.name_of_attempt(first, TASK, 3)
    assert [len(name) for name in (first, second, third)] == [13, 13, 13]


def test_an_attempt_of_a_pod_with_the_users_own_name_keeps_it_as_the_beginning() -> None:
    second = names.name_of_attempt("fixed", TASK, 2)
    assert second == f"fixed-{names.suffix(TASK, attempt=2)}"
    assert names.name_of_attempt(second, TASK, 3) == f"fixed-{names.suffix(TASK, attempt=3)}"
    assert len(names.name_of_attempt("x" * 63, TASK, 2)) == names.NAME_LIMIT
