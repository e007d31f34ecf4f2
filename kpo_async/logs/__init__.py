"""Containers' logs, live, each line once.

    plan.py          which containers' logs are wanted, and how a line looks
    pod.py           `follow_pod`: all wanted containers of one pod
    follow.py        `ContainerLogFollower`: one container, through every cut
    stage.py         how far a container has come, which decides whether its log may go on
    lines.py         bytes to lines; the cursor
    emitter.py       one follower's buffer, emitted as log records
    records.py       what a record may hold, so that it is written atomically and Airflow's page shows it
    scheduler.py     whose turn it is to emit, at a pace that the process and its supervisor can bear
    channel.py       the socket by which records leave the process, and whether they have been read
    stream_limit.py  how many logs are streamed at once

The pod's verdict comes from its status, not from its logs.

Import from the modules: `plan` and `lines` are pure and cheap, and a DAG file's imports must not load the others.
"""
