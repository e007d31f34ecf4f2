"""The bottom floor: objects with versions and their history, and how Kubernetes writes times and quantities.

It knows no rules of the API and imports no other floor.

    store      what etcd and the watch cache are to a real cluster
    objects    the type of an object, and the few facts about objects that every floor needs
    labels     requirements on labels
    times      instants as integers, and as the text of a timestamp
    quantity   resource quantities ("500m", "1Gi") as exact numbers
"""
