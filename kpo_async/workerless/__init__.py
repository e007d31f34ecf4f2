"""A task without a worker: the triggerer renders its templates, creates its pod, and follows it like any other.

    trigger     KubernetesPodStartTrigger, which Airflow's scheduler creates instead of queueing the task
    start       what a worker does between "queued" and "deferred"
    arguments   the operator, made again from the trigger's arguments and the task's map index
    mapping     what one instance of a mapped task is given
    context     the template context of a triggerer, with what differs from a worker's
    preparations what starts need of Airflow first, before what can wait
    places      limits on the pods that one triggerer runs at once

Which tasks start like this is decided when the DAG is parsed (`operators.start_from_trigger`). What turns out to be
impossible only here raises `NeedsWorkerError`, and a worker starts the task after all.
"""
