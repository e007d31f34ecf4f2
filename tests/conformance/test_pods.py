"""A pod's life as the API shows it: created, adopted, watched to its end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.api import IMAGE, Api, Object, asleep, has_ended, pod, state


async def test_a_created_pod_is_returned_with_uid_version_and_defaults(api: Api) -> None:
    created = (await api.create("pods", asleep("plain"))).body

    assert created["metadata"]["uid"]
    assert created["metadata"]["resourceVersion"]
    assert created["metadata"]["namespace"] == api.namespace
    assert created["status"]["phase"] == "Pending"
    assert created["status"]["qosClass"] == "BestEffort"
    spec = created["spec"]
    assert (spec["dnsPolicy"], spec["serviceAccountName"], spec["enableServiceLinks"]) == (
        "ClusterFirst",
        "default",
        True,
    )
    assert [(t["key"], t["effect"], t["tolerationSeconds"]) for t in spec["tolerations"]] == [
        ("node.kubernetes.io/not-ready", "NoExecute", 300),
        ("node.kubernetes.io/unreachable", "NoExecute", 300),
    ]
    [container] = spec["containers"]
    assert container["terminationMessagePath"] == "/dev/termination-log"
    assert container["terminationMessagePolicy"] == "File"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [
        "/var/run/secrets/kubernetes.io/serviceaccount"
    ]


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        pytest.param("repo/image", "Always", id="no tag"),
        pytest.param("repo/image:latest", "Always", id="latest"),
        pytest.param("host:5000/image", "Always", id="a port is not a tag"),
        pytest.param("repo/image:1", "IfNotPresent", id="tag"),
        pytest.param("repo/image@sha256:" + "0" * 64, "IfNotPresent", id="digest"),
    ],
)
async def test_the_pull_policy_depends_on_the_tag(api: Api, image: str, policy: str) -> None:
    body = asleep("pulled")
    body["spec"]["containers"][0]["image"] = image
    created = (await api.create("pods", body, dryRun="All")).body
    assert created["spec"]["containers"][0]["imagePullPolicy"] == policy


async def test_a_second_pod_with_the_name_is_409_and_the_first_can_be_adopted(api: Api) -> None:
    first = (await api.create("pods", asleep("mine", annotations={"owner": "me"}))).body
    second = await api.create("pods", asleep("mine"))

    assert second.status == 409
    assert second.body["reason"] == "AlreadyExists"
    assert second.message == 'pods "mine" already exists'
    assert second.body["details"] == {"name": "mine", "kind": "pods"}
    found = (await api.get("pods", "mine")).body
    assert found["metadata"]["uid"] == first["metadata"]["uid"]
    assert found["metadata"]["annotations"] == {"owner": "me"}


async def test_a_generated_name_keeps_its_prefix(api: Api) -> None:
    body = asleep("")
    body["metadata"] = {"generateName": "job-"}
    names = {(await api.create("pods", body)).body["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("job-") and len(name) == len("job-") + 5 for name in names)


async def test_a_missing_namespace_is_404_with_its_name(api: Api) -> None:
    answer = await api.create("/api/v1/namespaces/no-such/pods", asleep("lost"))
    assert answer.status == 404
    assert answer.message == 'namespaces "no-such" not found'
    assert answer.body["details"] == {"name": "no-such", "kind": "namespaces"}


async def test_a_dry_run_returns_the_pod_and_creates_nothing(api: Api) -> None:
    answer = await api.create("pods", asleep("dry"), dryRun="All")
    assert answer.status == 201
    assert answer.body["metadata"]["uid"]
    assert "resourceVersion" not in answer.body["metadata"]
    assert (await api.get("pods", "dry")).status == 404


async def test_a_watch_shows_a_pod_from_its_creation_to_its_success(api: Api) -> None:
    async with api.watch(fieldSelector="metadata.name=runs") as watch:
        created = await api.run(pod("runs", "sleep 1"))
        end = await watch.until(lambda event: has_ended(event.object))

    assert watch.seen[0].type == "ADDED"
    assert watch.seen[0].version == created["metadata"]["resourceVersion"]
    assert {event.type for event in watch.seen[1:]} == {"MODIFIED"}
    phases = [event.object["status"]["phase"] for event in watch.seen]
    assert list(dict.fromkeys(phases)) == ["Pending", "Running", "Succeeded"]
    versions = [int(event.version) for event in watch.seen]
    assert versions == sorted(set(versions))
    assert {event.object["metadata"]["uid"] for event in watch.seen} == {created["metadata"]["uid"]}
    terminated = state(end.object)["terminated"]
    assert terminated["exitCode"] == 0
    assert terminated["reason"] == "Completed"
    assert terminated["startedAt"] <= terminated["finishedAt"]


@pytest.mark.parametrize("code", [1, 3, 137, 255])
async def test_the_status_has_the_exit_code(api: Api, code: int) -> None:
    ended = await api.finish(pod("fails", f"exit {code}"))
    assert ended["status"]["phase"] == "Failed"
    terminated = state(ended)["terminated"]
    assert terminated["exitCode"] == code
    assert terminated["reason"] == "Error"


async def test_the_termination_message_arrives_with_the_end(api: Api) -> None:
    body = pod("message", "printf '{\"answer\": 42}' > /airflow/xcom/return.json; exit 2")
    body["spec"]["containers"][0]["terminationMessagePath"] = "/airflow/xcom/return.json"
    ended = await api.finish(body)
    terminated = state(ended)["terminated"]
    assert terminated["exitCode"] == 2
    assert terminated["message"] == '{"answer": 42}'


async def test_a_long_termination_message_keeps_its_last_4096_bytes(api: Api) -> None:
    ended = await api.finish(pod("long", "yes 0123456789 | head -n 1000 > /dev/termination-log"))
    message = state(ended)["terminated"]["message"]
    assert len(message) == 4096
    assert message.endswith("0123456789\n")


async def test_the_log_can_be_the_message_of_a_failure(api: Api) -> None:
    body = pod("logged", "echo it broke; exit 1")
    body["spec"]["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError"
    ended = await api.finish(body)
    assert state(ended)["terminated"]["message"] == "it broke\n"


async def test_init_containers_run_in_order_before_the_main_ones(api: Api) -> None:
    mount = {"name": "shared", "mountPath": "/shared"}
    init = [
        {
            "name": name,
            "image": IMAGE,
            "command": ["sh", "-c", f"echo {name} >> /shared/order"],
            "volumeMounts": [mount],
        }
        for name in ("one", "two")
    ]
    body = pod("ordered", "cat /shared/order", initContainers=init, volumes=[{"name": "shared", "emptyDir": {}}])
    body["spec"]["containers"][0]["volumeMounts"] = [mount]
    ended = await api.finish(body)
    assert ended["status"]["phase"] == "Succeeded"
    assert await api.log("ordered", container="base") == "one\ntwo\n"


async def test_a_failing_init_container_fails_the_pod_and_nothing_else_runs(api: Api) -> None:
    init = [{"name": "first", "image": IMAGE, "command": ["sh", "-c", "exit 4"]}]
    ended = await api.finish(pod("initless", "echo never", initContainers=init))
    assert ended["status"]["phase"] == "Failed"
    assert state(ended, "first", "initContainerStatuses")["terminated"]["exitCode"] == 4
    assert state(ended)["waiting"]["reason"] == "PodInitializing"


def _with_sidecar(name: str, line: str, sidecar: str) -> Object:
    mount = {"name": "xcom", "mountPath": "/airflow/xcom"}
    native: dict[str, Any] = {
        "name": "xcom",
        "image": IMAGE,
        "command": ["sh", "-c", sidecar],
        "restartPolicy": "Always",
        "volumeMounts": [mount],
    }
    body = pod(name, line, initContainers=[native], volumes=[{"name": "xcom", "emptyDir": {}}])
    body["spec"]["terminationGracePeriodSeconds"] = 10
    body["spec"]["containers"][0]["volumeMounts"] = [mount]
    return body


async def test_a_native_sidecar_passes_a_file_on_after_the_main_containers_end(api: Api) -> None:
    sidecar = "trap 'cat /airflow/xcom/return.json > /dev/termination-log; exit 0' TERM; sleep 600 & wait $!"
    ended = await api.finish(_with_sidecar("handover", "echo '[1, 2]' > /airflow/xcom/return.json", sidecar))
    assert ended["status"]["phase"] == "Succeeded"
    assert state(ended)["terminated"]["exitCode"] == 0
    terminated = state(ended, "xcom", "initContainerStatuses")["terminated"]
    assert terminated["exitCode"] == 0
    assert terminated["message"] == "[1, 2]\n"


async def test_the_main_containers_end_is_shown_while_the_sidecar_is_stopping(api: Api) -> None:
    sidecar = "trap 'sleep 1; exit 0' TERM; sleep 600 & wait $!"
    async with api.watch(fieldSelector="metadata.name=early") as watch:
        await api.run(_with_sidecar("early", "exit 3", sidecar))
        await watch.until(lambda event: has_ended(event.object))
    between = [
        event.object
        for event in watch.seen
        if event.object["status"].get("phase") == "Running" and "terminated" in state(event.object)
    ]
    assert between
    assert state(between[0])["terminated"]["exitCode"] == 3


async def test_a_deadline_fails_the_pod_with_its_reason(api: Api) -> None:
    ended = await api.finish(pod("late", "sleep 600", activeDeadlineSeconds=1))
    assert ended["status"]["phase"] == "Failed"
    assert ended["status"]["reason"] == "DeadlineExceeded"


async def test_environment_comes_from_fields_config_maps_and_secrets(api: Api) -> None:
    await api.create("configmaps", {"metadata": {"name": "settings"}, "data": {"COLOUR": "blue"}})
    await api.create("secrets", {"metadata": {"name": "hidden"}, "stringData": {"PASSWORD": "swordfish"}})
    body = pod("env", "echo $NAME $COLOUR $PASSWORD $GREETING $(cat /settings/COLOUR)")
    body["spec"]["volumes"] = [{"name": "settings", "configMap": {"name": "settings"}}]
    body["spec"]["containers"][0] |= {
        "env": [
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "PASSWORD"}}},
            {"name": "GREETING", "value": "hello-$(NAME)"},
        ],
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "volumeMounts": [{"name": "settings", "mountPath": "/settings"}],
    }
    await api.finish(body)
    assert await api.log("env") == "env blue swordfish hello-env blue\n"


async def test_an_unschedulable_pod_stays_pending_with_a_reason(api: Api) -> None:
    await api.run(pod("nowhere", "true", nodeSelector={"no/such": "label"}))
    found = await api.wait("nowhere", lambda obj: bool(obj["status"].get("conditions")))
    [condition] = found["status"]["conditions"]
    assert condition["type"] == "PodScheduled"
    assert condition["status"] == "False"
    assert condition["reason"] == "Unschedulable"
    assert "nodes are available" in condition["message"]
    assert "nodeName" not in found["spec"]


async def test_a_pod_is_not_scheduled_before_its_scheduling_gate_is_removed(api: Api) -> None:
    await api.run(pod("gated", "true", schedulingGates=[{"name": "example.com/wait"}]))
    held = await api.wait("gated", lambda obj: bool(obj["status"].get("conditions")))
    assert held["status"]["conditions"][0]["reason"] == "SchedulingGated"
    assert (await api.merge("pods", "gated", {"spec": {"schedulingGates": None}})).status == 200
    ended = await api.wait("gated", has_ended)
    assert ended["status"]["phase"] == "Succeeded"


async def test_an_image_that_cannot_be_pulled_is_the_waiting_reason(api: Api) -> None:
    body = pod("imageless", "true")
    body["spec"]["containers"][0]["image"] = "invalid.example/nothing:1"
    await api.run(body)
    reasons = ("ErrImagePull", "ImagePullBackOff")
    waiting = await api.wait(
        "imageless",
        lambda obj: (
            bool(obj["status"].get("containerStatuses")) and state(obj).get("waiting", {}).get("reason") in reasons
        ),
    )
    assert waiting["status"]["phase"] == "Pending"
    assert "invalid.example/nothing:1" in state(waiting)["waiting"]["message"]
