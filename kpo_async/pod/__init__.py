"""Pods as pure functions: no await, no clock, no Airflow, no client of Kubernetes.

parameters.py   the operator's parameters as plain values
validate.py     what is wrong with them before anything is rendered, for the DAG's parse
template.py     reading a pod_template_file, the one place here that touches a disk
build.py        parameters -> manifest; the order of precedence in one place
merge.py        how two manifests combine
names.py        pod names, label values, identity labels
schema.py       the fields of a Pod and their types, for templates written in YAML
xcom_sidecar.py the native sidecar that hands the result over
status.py       pod -> what is true of it; `containers.py` for its containers. The only readers of `.status`
timestamps.py   Kubernetes' times
start.py        why a pod does not start, and whether waiting helps
redact.py       a pod as it may be printed, without values that could be secret
diagnose.py     pod + events -> a diagnosis
"""
