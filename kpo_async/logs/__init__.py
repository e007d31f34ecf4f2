"""Containers' logs, live and each line once.

    plan.py     whose logs, and how a line looks
    pod.py      `follow_pod`: all wanted containers of a pod, told by an informer's views
    follow.py   one container, through every cut
    lines.py    bytes to lines; the cursor
    emit.py     lines to records, at the pace the process can bear
    channel.py  how records leave the process, and whether they have arrived
    slots.py    how many streams at once, and who waits

Nothing here judges the pod: its verdict comes from its status.

Import from the modules: `plan` and `lines` are pure and cheap, and a DAG file's imports must not load the others.
"""
