//go:build tools

// Package policies keeps the program of a node that enforces NetworkPolicies in go.mod.
package policies

import _ "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"
