"""Test DAGs whose tasks run in pods: fixtures for pytest, on a cluster that needs no Docker.

    def test_the_pod_hands_over_its_answer(run_dag):
        run = run_dag(my_dag)
        assert run.state == "success"
        assert run["train"].xcoms["return_value"] == 42

`plugin` declares the fixtures; pytest loads it in each run of the environment, so it imports only what a test uses.

    plugin       options and fixtures
    run          a DAG's run: Airflow's own scheduling, tasks in this process
    airflow      Airflow's database for tests, and a triggerer in a process of its own
    cluster      the embedded cluster in a thread, or a real one
"""

from __future__ import annotations
