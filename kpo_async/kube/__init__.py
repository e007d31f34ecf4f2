"""Talks to Kubernetes API servers: addresses, credentials, calls, watches, and one shared watch for many followers.

    config.py          where the cluster is and who we are: in-cluster, kubeconfig, dict -> ClusterConfig
    kubeconfig.py      kubeconfigs read, merged and checked; `users.py` turns a user section into credentials
    credentials.py     what a request proves its identity with, kept fresh; `exec_plugin.py` and `oidc.py` fetch it
    proxy.py, tls.py   which proxy; which SSLContext
    transport.py       one HTTP exchange: connections, credentials, 401 -> one renewal
    errors.py          what went wrong -> our error tree, in one sentence
    retry.py           when and how soon to try again; the rate limit
    sharing.py         one value for all on an event loop who mean the same
    remote_command.py  what an exec brings back
    client.py          get list create patch delete log watch exec; shared clients
    watch.py           list-then-watch as five named events
    informer.py        one watch for many followers

A pod is a plain dict or a slim msgspec Struct here. Nothing in this package knows Airflow, and no exception of aiohttp
leaves it.
"""
