#!/bin/bash
# Builds the programs of a Kubernetes node from Go modules: build.sh FOLDER. A program that is there is left as it is.
set -euo pipefail
bin=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")"
version=$(sed -n 's/^\tk8s.io\/kubernetes //p' kubernetes/go.mod)
named="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitVersion=$version"
export CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false

build() { # PROGRAM MODULE PACKAGE
  [ ! -x "$bin/$1" ] || return 0
  echo "building $1"
  (cd "$2" && nice go build -trimpath -ldflags "-s -w $named" -o "$bin/$1.fresh" "$3")
  mv "$bin/$1.fresh" "$bin/$1"
}

build etcd kubernetes go.etcd.io/etcd/server/v3
for program in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet; do
  build "$program" kubernetes "k8s.io/kubernetes/cmd/$program"
done
build coredns dns .
build kube-router policies github.com/cloudnativelabs/kube-router/v2/cmd/kube-router
