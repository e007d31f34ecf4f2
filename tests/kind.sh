#!/usr/bin/env bash
# Conformance, and whole Airflows of an image of their own, on a kind cluster: tests/kind.sh KUBECONFIG_TO_WRITE
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=kpo-async
image=docker.io/library/kpo-async-airflow:kind
kubeconfig=$(realpath --no-symlinks "${1:?the path of the kubeconfig to write}")
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo --preserve-env)

for tool in docker kind nsenter; do
  command -v $tool >/dev/null || { echo "make kind: $tool is not installed" >&2; exit 1; }
done
docker info >/dev/null 2>&1 || { echo 'make kind: the docker daemon does not answer' >&2; exit 1; }

shared=$(mktemp -d /var/tmp/kpo-XXXXXX) # components in the cluster find Airflow's files at the same path
trap 'kind delete cluster --name "$cluster"; "${as_root[@]}" rm -rf "$shared"' EXIT
sed "s|ROOT|$PWD|g; s|SHARED|$shared|g" tests/kind.yaml |
  kind create cluster --name "$cluster" --config - --kubeconfig "$kubeconfig" --wait 120s
in_node=(docker exec "$cluster-control-plane")
"${in_node[@]}" pkill kube-apiserver # one test of conformance needs a server that has been restarted
"${in_node[@]}" timeout 120 sh -c 'sleep 5; until kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw /readyz; do sleep 1; done'
docker build --file deploy/Dockerfile --tag "$image" .
kind load docker-image "$image" --name "$cluster"

status=0
make conformance KUBECONFIG="$kubeconfig" || status=1
# Components in the cluster use the node's network, and what a test starts listens on its loopback interface.
node=$(docker inspect --format '{{.State.Pid}}' "$cluster-control-plane")
"${as_root[@]}" env TMPDIR="$shared" nsenter --target "$node" --net \
  make deployments KUBECONFIG="$kubeconfig" IMAGE="$image" || status=1
exit "$status"
