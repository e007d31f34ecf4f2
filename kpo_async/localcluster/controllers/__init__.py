"""The control plane's controllers, each a client of the API.

controllers   namespaces get their contents and are emptied at their end, quotas are counted
scheduler     pods are bound to the node
"""
