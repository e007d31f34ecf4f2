"""Talks to Kubernetes API servers: addresses, credentials, calls, watches, and one shared watch for many followers.

    config.py       where the cluster is and who we are: in-cluster, kubeconfig, dict -> ClusterConfig
    credentials.py  what a request proves its identity with, kept fresh
    transport.py    one HTTP exchange: sessions, TLS, proxy, 401 -> one refresh
    errors.py       what went wrong -> our error tree, in one sentence
    remote_command.py  what an exec brings back
    retry.py        when and how soon to try again; the rate limit
    client.py       get list create patch delete log watch exec; shared clients
    watch.py        list-then-watch as five named events
    informer.py     one watch for many followers

A pod is a plain dict or a slim msgspec Struct here. Nothing in this package knows Airflow, and no exception of aiohttp
or kubernetes_asyncio leaves it.
"""
