"""Talks to Kubernetes API servers: addresses, credentials, calls, watches, and one shared watch for many followers.

    config.py          where the cluster is and who we are: in-cluster, kubeconfig, dict -> ClusterConfig
    kubeconfig.py      kubeconfigs read, merged and checked; `users.py` turns a user section into credentials
    credentials.py     what a request proves its identity with, kept fresh; `exec_plugin.py` and `oidc.py` fetch it
    proxy.py, tls.py   which proxy; which SSLContext
    transport.py       one HTTP exchange: connections, credentials, 401 -> one renewal
    server_clock.py    how far the server's clock is from ours
    errors.py          what went wrong -> our error tree, in one sentence
    retry.py           when and how soon to try again; the rate limit
    sharing.py         one value for all on an event loop who mean the same
    remote_command.py  what an exec brings back
    client.py          get list create patch delete log watch exec; shared clients
    decode.py          bytes of lists and watches -> typed pods; `version.py` says which is older
    watch.py           list-then-watch as five named events (`events.py`); `backoff.py` says how soon again
    slot.py            what one pod looks like now, and who wants to know
    informer.py        one watch for many followers
    alone.py           one pod by itself, where the shared watch does not show it or is forbidden

A pod is a plain dict or a slim msgspec Struct here. Nothing in this package knows Airflow, and no exception of aiohttp
leaves it.
"""
