"""The container runtime: processes, isolated by namespaces where Linux allows it. Only the kubelet uses it.

runtime    starts containers and receives their exit codes, without a thread or task per process
launcher   the fork server behind it, in its own process
sandbox    the namespaces and the root of a container
"""
