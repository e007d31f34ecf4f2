"""The node: runs the pods that are bound to it, as local processes. A client of the API (`localcluster.client`).

kubelet         watches the node's pods and runs a worker for each; serves logs and exec
podworker       a pod's life, from its volumes to its end
containers      one container: from its image to its exit, as often as it is restarted
handlers        lifecycle hooks and probes; grace: the time that a pod has to stop
podstatus       the status that follows from the records of a pod's containers; status_writer writes it
volumes, env, downward, images     what a container finds inside
logfile, podlogs, exec_session     its output, and further commands in it
simulated       pods without processes, by the thousand
settings, node_object              the kubelet's configuration, and its Node
"""
