"""The operator: what it is given when a DAG is parsed, and what it does on a worker.

    pod           KubernetesPodOperator, with the methods that Airflow calls
    worker        TaskRun: create the pod and defer, wait for it here, or finish after the trigger has fired
    pod_task      the operator as a `PodTask`, for the worker and for the triggerer
    manifest      the operator as a pod's manifest
    on_demand     what subclasses of the incumbent's operator read of it
    base          the parameters, and their templates
    attributes    how parameters are stored, where a subclass overrides one too
    killable_run  an event loop that a signal handler can interrupt

Parsing imports `pod`, `base` and what these need to check parameters; the rest is imported when a task runs.
"""
