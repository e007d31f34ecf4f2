"""Many pods at once: each counts and hands over a number, and a last task adds the numbers up.

    airflow dags trigger fan_out --conf '{"pods": 200, "seconds": 30}'

With `deferrable=True` all of them wait in one triggerer, on one watch, however few worker slots there are. Where
`[kpo_async] start_from_trigger` and `end_from_trigger` are on, as in `kpo-async demo`, the triggerer starts and ends
them too, and they need no worker slot at all. The parameters of the same names do that for a single task.
"""

from __future__ import annotations

from airflow.sdk import Param, dag, get_current_context, task

from kpo_async.operators.pod import KubernetesPodOperator

# Prints a line every five seconds, and hands over the square of its number. `sh` is enough, and light.
SCRIPT = """
echo "pod $NUMBER starts"
left=$SECONDS_TO_RUN
while [ "$left" -gt 5 ]; do sleep 5; left=$((left - 5)); echo "pod $NUMBER has $left s left"; done
sleep "$left"
echo $((NUMBER * NUMBER)) > /airflow/xcom/return.json
"""


@dag(
    schedule=None,
    tags=["kpo-async"],
    params={
        "pods": Param(20, type="integer", minimum=1, maximum=1000, description="How many pods"),
        "seconds": Param(10, type="integer", minimum=0, description="How long each of them runs"),
    },
)
def fan_out() -> None:
    @task
    def plan() -> list[dict[str, str]]:
        params = get_current_context()["params"]
        return [{"NUMBER": str(n), "SECONDS_TO_RUN": str(params["seconds"])} for n in range(1, params["pods"] + 1)]

    squares = KubernetesPodOperator.partial(
        task_id="square",
        image="busybox:1.36",
        cmds=["sh", "-c"],
        arguments=[SCRIPT],
        container_resources={"requests": {"cpu": "1m", "memory": "4Mi"}},
        do_xcom_push=True,
        deferrable=True,
        # Two hundred pods asked for at once may wait for room on the nodes.
        startup_timeout_seconds=600,
    ).expand(env_vars=plan())

    @task
    def add_up(numbers: list[int]) -> int:
        return sum(numbers)

    add_up(squares.output)


fan_out()
