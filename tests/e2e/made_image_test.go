package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// made is an image of one layer with one file of random bytes, not packed.
type made struct {
	layer                     []byte
	layerDigest, configDigest string
	config, manifest          []byte
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func newImage(t *testing.T, size int) *made {
	t.Helper()
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	if err := archive.WriteHeader(&tar.Header{Name: "random", Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	_, _ = archive.Write(data)
	archive.Close()
	m := &made{layer: layer.Bytes(), layerDigest: digestOf(layer.Bytes())}
	m.config = fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","config":{},"rootfs":{"type":"layers","diff_ids":[%q]}}`, m.layerDigest)
	m.configDigest = digestOf(m.config)
	m.manifest = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},
		"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, m.configDigest, len(m.config), m.layerDigest, len(m.layer))
	return m
}

// serve is a registry on loopback that has the image under every name, seen through `lie`.
func (m *made) serve(t *testing.T, tell lie) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tell(w, r) {
			return
		}
		data := m.manifest
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		if strings.HasSuffix(r.URL.Path, m.layerDigest) {
			data = m.layer
		} else if strings.HasSuffix(r.URL.Path, m.configDigest) {
			data = m.config
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}
