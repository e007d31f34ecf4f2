"""Parts of `chaos.py`.

plan.py      what each task's pod does, and so how each task must end
witness.py   what pods really did, from a watch of its own
havoc.py     kills, freezes, restarts, evictions and users, at random
verdict.py   what Airflow says at the end, compared with plan and witness
"""
