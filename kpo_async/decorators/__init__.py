"""`@task.kubernetes_async` and `@task.kubernetes_cmd_async`: a function as a pod.

The first runs the function in the pod: `source` cuts its text out of the DAG file, `payload` packs the text and the
arguments into environment variables, `find_python.sh` starts `unpack` in the pod, and `pod_entrypoint` calls the
function. The second runs the function in the worker; what it returns is the pod's command. `task_decorator` makes the
tasks of both, mapped ones too, and what they send to a triggerer that starts them.
"""
