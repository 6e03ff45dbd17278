//go:build tools

// Package cosign names the program that tests/parts.py builds; go.mod has its version.
package cosign

import _ "github.com/sigstore/cosign/v3/cmd/cosign"
