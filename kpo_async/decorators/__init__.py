"""`@task.kubernetes_async` and `@task.kubernetes_cmd_async`: a function as a pod.

The first runs the function in the pod: `source` cuts its text out of the DAG file, `parcel` packs that with the
arguments, `in_pod` is what runs it there. The second runs the function in the worker, to make the pod's command.
"""
