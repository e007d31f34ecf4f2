"""`kpo-async demo`: hundreds of deferred pods in a whole Airflow, watched live.

    processes   a program in its own session, and the certainty that nothing of it is left behind
    airflow     a whole Airflow in a temporary home: started, asked, stopped
    cluster     where the pods run: the embedded cluster, or the one a kubeconfig names
    observe     what is going on, as one `Sample` a tick
    view        the samples on a terminal
    picture     the samples as a PNG
    command     the story: start, trigger, watch, add up, stop

Part of the command line's layer: nothing of the library imports it. The tests and benchmarks use `airflow` too.
"""
