"""A Kubernetes API server whose pods are local processes, on a loopback port, for demos and tests.

It shares no code with the rest of kpo_async: an emulator that shared our code would agree with our bugs.
"""
