"""The subcommands of `kpo-async` that look at living pods, their tasks and their clusters.

ps        living pods and their tasks                 gc      delete pods whose task is over
logs      a pod's log, or a task's                    rbac    the rights that are needed, and which are missing
diagnose  why a pod failed, or what it waits for      doctor  whether everything that is needed works
                                                      render  the manifest of a task's pod

command   options, exit codes and errors that all of them share
sites     which clusters and namespaces to look at
tasks     what Airflow's database knows about a task and its pod
search    find the pod that the user names, or what is known of it
table     tables and JSON, for people and programs
"""
