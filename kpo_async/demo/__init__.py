"""`kpo-async demo`: hundreds of deferred pods in a whole Airflow, watched live.

    processes   runs a program in its own session, and ends every process of it
    airflow     starts, queries and stops a whole Airflow in a temporary home
    cluster     opens the embedded cluster, or the one a kubeconfig names
    chaos       the embedded cluster with an API server that misbehaves
    observe     one `Sample` of pods, tasks, slots and requests per tick
    view        shows the samples on a terminal
    picture     draws the samples as a PNG
    command     the whole run: start, trigger, watch, add up, stop

Nothing of the library imports this package. Tests and benchmarks use `airflow` and `processes` too.
"""
