"""Talk to Kubernetes API servers: configuration, credentials, calls, and one shared watch for many subscribers.

    auth/              in-cluster, kubeconfig or dict -> ClusterConfig, and its credentials.  One door: `load(source)`
    transport.py       one HTTP exchange: connections, TLS, proxy, credentials; one renewal of them after a 401
    client.py          get list create patch delete log watch exec; `connect` shares clients
    watch/             list-then-watch as five events; the informer.                          One door: `follow(...)`
    errors.py          HTTP and transport failures -> exceptions, in one sentence
    retry.py           retry policy, backoff and rate limit
    shared.py          values, calls and resources that the tasks of an event loop share
    server_clock.py    how far the server's clock is ahead
    server_warnings.py the server's `Warning` headers, logged once per text
    remote_command.py  the result of an exec

A pod is a plain dict or a slim msgspec Struct here. Nothing in this package knows Airflow, and no exception of aiohttp
leaves it.
"""
