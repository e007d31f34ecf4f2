"""`rbac` prints Roles that suffice, and says which rights are missing; `doctor` says what works and what to do."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import yaml

from kpo_async.json_types import Json
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.pod.rights import RBAC_GROUP
from tests.commands.conftest import CommandLine, Run


async def test_rbac_prints_a_service_account_and_a_role_for_each_component(command_line: CommandLine) -> None:
    printed = await command_line("rbac", "--namespace", "pods", "--airflow-namespace", "airflow")
    assert (printed.code, printed.err) == (0, "")
    manifests = list(yaml.safe_load_all(printed.out))
    assert [m["kind"] for m in manifests] == ["ServiceAccount", "Role", "RoleBinding"] * 3
    assert [m["metadata"]["namespace"] for m in manifests] == ["airflow", "pods", "pods"] * 3
    roles = {m["metadata"]["name"]: m["rules"][0] for m in manifests if m["kind"] == "Role"}
    assert "create" in roles["kpo-async-worker"]["verbs"]
    assert "create" not in roles["kpo-async-triggerer"]["verbs"]
    assert roles["kpo-async-api-server"]["verbs"] == ["list", "watch", "get"]


async def test_rbac_gives_an_api_server_without_the_page_no_account(command_line: CommandLine) -> None:
    command_line.environment["AIRFLOW__KPO_ASYNC__UI"] = "False"
    printed = await command_line("rbac", "--namespace", "pods")
    assert "api-server" not in printed.out
    assert "kpo-async-triggerer" in printed.out


async def test_rbac_adds_the_rights_of_features(command_line: CommandLine) -> None:
    command_line.environment["AIRFLOW__KPO_ASYNC__START_FROM_TRIGGER"] = "True"
    printed = await command_line("rbac", "-n", "pods", "--feature", "xcom_transport=exec", "-o", "json")
    (role,) = (
        item
        for item in printed.json["items"]
        if (item["kind"], item["metadata"]["name"]) == ("Role", "kpo-async-triggerer")
    )
    granted = {(rule["resources"][0], verb) for rule in role["rules"] for verb in rule["verbs"]}
    assert granted >= {("pods", "create"), ("pods/exec", "get"), ("pods/exec", "create")}


async def test_rbac_without_a_namespace_asks_for_it(command_line: CommandLine) -> None:
    refused = await command_line("rbac")
    assert (refused.code, refused.out) == (2, "")
    assert "--namespace" in refused.sentence


async def test_the_printed_roles_are_what_check_asks_for(
    local_cluster: LocalCluster, command_line: CommandLine, tmp_path: Path
) -> None:
    kubeconfig = restricted(local_cluster, tmp_path)
    before = await command_line("rbac", "--check", "--kubeconfig", kubeconfig, "-n", "default", "-o", "json")
    assert before.code == 1
    assert {row["status"] for row in before.json} == {"missing"}
    printed = await command_line("rbac", "-n", "default", "-o", "json")
    for item in printed.json["items"]:
        if item["kind"] == "RoleBinding":
            item["subjects"] = [{"kind": "User", "name": "restricted", "apiGroup": RBAC_GROUP}]
        if item["kind"] != "ServiceAccount":
            await create(local_cluster, item)
    after = await command_line("rbac", "--check", "--kubeconfig", kubeconfig, "-n", "default")
    assert (after.code, after.err) == (0, "")
    assert "missing" not in after.out


async def test_doctor_says_ok_for_each_thing_that_works(on_cluster: Run) -> None:
    examined = await on_cluster("doctor", "-o", "json")
    assert examined.code == 0, examined.out
    found = {check["check"].rpartition(": ")[2]: check for check in examined.json}
    assert {found[name]["status"] for name in ("versions", "plugin", "connection", "clock", "rights", "watch")} == {
        "ok"
    }
    assert "was synced after" in found["watch"]["result"]


async def test_doctor_says_what_to_do_about_what_does_not(
    local_cluster: LocalCluster, command_line: CommandLine, tmp_path: Path
) -> None:
    kubeconfig = restricted(local_cluster, tmp_path)
    command_line.environment |= {"AIRFLOW__KPO_ASYNC__RECONCILE": "perhaps", "AIRFLOW__TRIGGERER__CAPACITY": "10"}
    examined = await command_line("doctor", "--kubeconfig", kubeconfig)
    assert (examined.code, examined.err) == (1, "")
    assert "[kpo_async] reconcile is 'perhaps': write on or off" in examined.out
    assert "may not create pods: the task fails" in examined.out
    assert "[triggerer] capacity" in examined.out


async def test_doctor_looks_at_the_rest_without_a_database(command_line: CommandLine) -> None:
    examined = await command_line("doctor", "-o", "json")
    assert examined.code == 1
    assert "database cannot be read" in examined.json[-1]["result"]
    assert examined.json[0]["status"] == "ok"


def restricted(cluster: LocalCluster, folder: Path) -> Path:
    """Return a kubeconfig of a user without any right."""
    return cluster.write_kubeconfig(folder / "restricted", cluster.authenticator.add_user("restricted"))


async def create(cluster: LocalCluster, item: Json) -> None:
    path = f"/apis/{RBAC_GROUP}/v1/namespaces/{item['metadata']['namespace']}/{item['kind'].lower()}s"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {cluster.token}"}) as session,
        session.post(cluster.url + path, json=item, ssl=False) as answer,
    ):
        assert answer.status == 201, await answer.text()
