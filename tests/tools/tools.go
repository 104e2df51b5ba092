//go:build tools

// Package tools keeps what critest's test package imports in go.mod and go.sum: `go mod tidy` follows the tool
// directives' packages, but not the tests of other modules, and critest is one.
package tools

import (
	_ "github.com/onsi/ginkgo/v2"
	_ "github.com/onsi/gomega"
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
