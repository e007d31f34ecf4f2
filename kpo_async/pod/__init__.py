"""Pods as pure functions: no await, no clock, no Airflow, no Kubernetes client.

parameters.py   read the operator's parameters as plain values
validate.py     refuse, at DAG parse, parameters that can never become a pod
template.py     read a pod_template_file; the only module of this folder that reads a disk at run time
build.py        build the manifest from the parameters, in order of precedence
merge.py        merge two manifests
names.py        pod names, label values, identity labels
schema.py       the fields of a Pod and their types
xcom_sidecar.py attach the sidecar that hands the result over; its shell function is `hand_over.sh`
status.py       assess a pod's status, with `containers.py`: the only readers of `.status`
timestamps.py   parse Kubernetes' timestamps
start.py        why a pod does not start, and whether waiting helps
redact.py       a pod without the values that could be secret, for printing
diagnose.py     diagnose a pod: category, summary, hint
"""
