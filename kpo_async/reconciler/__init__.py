"""Delete pods whose try is over, when no other process is left to do it.

A worker or a trigger deals with its pod at the end of its task. Where it cannot (it was killed, no triggerer was alive
when the user ended the task, Airflow dropped the trigger without loading it), the pod is left behind. So each triggerer
looks after all pods of its Airflow:

    thread.py   run it in the triggerer's main process, which has Airflow's database; `kpo_async.plugin` starts it
    runner.py   watch the pods of all places, ask the database about their tries, act on the verdicts
    places.py   which clusters and namespaces this Airflow's tasks have used, from Airflow's database
    tries.py    whether the try that owns a pod is alive, from Airflow's database
    verdict.py  pure: a pod and its try -> leave, delete or mark as done

`kpo-async gc` (`commands.gc`) does the same by hand.

Pods belong to one Airflow by their label `kpo-async/installation`; those of another are never read. A pod is known by
its uid, so two triggerers that delete the same one do no harm.
"""
