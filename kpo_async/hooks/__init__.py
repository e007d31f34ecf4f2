"""Airflow's side: connections of type `kubernetes`, the hook, and the differences between Airflow's versions.

kubernetes   KubernetesHook, and the resolver from a connection and arguments to a cluster
cluster_hook clusters that users' classes find; `clouds` has the classes for EKS and GKE
masking      mask in a triggerer's logs what a task's templates read
connection   fetch a connection's extras; `extras` are their values, `fields` the table of them
sync_client  the synchronous `kubernetes` client, for users' code
sync         call async code from synchronous code
airflow      compatibility with Airflow's versions
answers      repeat requests to Airflow that it cannot answer now
triggerer    whether this process is a triggerer
"""
