"""The API server: HTTP requests on stored objects, with the rules, defaults and error texts of Kubernetes 1.34.

server        authenticates, authorizes, counts and answers requests; listener: its socket
request_info  the operation that a request asks for; request, bodies, schema, protobuf: its content
authentication, authorization, reviews             who sends a request, and what that user may do
operations, listing, watching, pod_streams         the verbs
tables, pod_table, discovery, metrics              other documents
faults, fault_kinds                                wrong answers, on request

registry      the rules of creating and changing objects; deletion: of deleting them
strategies, admission, validate, pod_validate, pod_defaults, patches, selectors
resources     the table of resources
errors        the errors of the API
"""
