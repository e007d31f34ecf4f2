"""The page "Pods" in Airflow's web interface: what runs, where, and what it waits for. Runs in the API server.

    application   the FastAPI application: which requests there are, and the headers of every response
    access        what the user of a request may see, by Airflow's own rules
    board         the living pods of all places, kept up to date by one watch each while a page is open
    known_places  where the pods may be, from Airflow's database
    stream        what a page is sent, and when: a snapshot, then changes
    pod_log       the last lines of a container's log, and those that follow
    history       how many tasks had a pod in the last hour, from Airflow's database
    server_sent   the format of server-sent events, and how long a stream lives
    links         the links of a task to its pod
    static        the page itself: HTML, a script and a style sheet

Every Airflow process imports `kpo_async.plugin`, which names this package but imports no module of it except `links`:
the first request does.
"""
