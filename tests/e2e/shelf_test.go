package e2e

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// shelf is a registry on loopback that has what a test puts there, in every repository.
type shelf struct {
	host    string
	digest  func(data []byte) string
	lock    sync.Mutex
	content map[string][]byte // by digest and tag
	asked   map[string]int    // how often for each
}

type descriptor struct {
	MediaType   string            `json:"mediaType,omitempty"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	URLs        []string          `json:"urls,omitempty"`
	Platform    map[string]any    `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{digest: digestOf, content: map[string][]byte{}, asked: map[string]int{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.host = strings.TrimPrefix(server.URL, "http://")
	return s
}

func sha512Of(data []byte) string { return fmt.Sprintf("sha512:%x", sha512.Sum512(data)) }

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	name := path.Base(r.URL.Path)
	data, here := s.content[name]
	s.asked[name]++
	s.lock.Unlock()
	if r.URL.Path == "/v2/" || !here {
		http.Error(w, "", map[bool]int{true: 200, false: 404}[r.URL.Path == "/v2/"])
		return
	}
	var typed struct{ MediaType string }
	w.Header().Set("Content-Type", "application/octet-stream")
	if strings.Contains(r.URL.Path, "/manifests/") && json.Unmarshal(data, &typed) == nil && typed.MediaType != "" {
		w.Header().Set("Content-Type", typed.MediaType)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// put keeps content under its digest; what is no []byte as JSON.
func (s *shelf) put(mediaType string, what any) descriptor {
	data, raw := what.([]byte)
	if !raw {
		data, _ = json.Marshal(what)
	}
	d := descriptor{MediaType: mediaType, Digest: s.digest(data), Size: len(data)}
	s.lock.Lock()
	s.content[d.Digest] = data
	s.lock.Unlock()
	return d
}

// tag gives what was put a name, and the reference that it is pulled by.
func (s *shelf) tag(name string, d descriptor) string {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.content[name] = s.content[d.Digest]
	return s.host + "/shelf/" + name + ":" + name
}

func (s *shelf) remove(d descriptor) {
	s.lock.Lock()
	defer s.lock.Unlock()
	delete(s.content, d.Digest)
}

func (s *shelf) timesAsked(d descriptor) int {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.asked[d.Digest]
}

// image puts a manifest and its configuration for layers that are there; diffIDs are the digests of what is in them.
func (s *shelf) image(diffIDs []string, layers ...descriptor) descriptor {
	if layers == nil {
		layers, diffIDs = []descriptor{}, []string{}
	}
	config := s.put(ociConfig, map[string]any{"os": "linux", "architecture": goArchitecture, "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}})
	return s.put(ociManifest, map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "config": config, "layers": layers})
}

// plain puts an image of these layers, not packed.
func (s *shelf) plain(tars ...[]byte) descriptor {
	var layers []descriptor
	var diffIDs []string
	for _, data := range tars {
		layers = append(layers, s.put(ociLayer, data))
		diffIDs = append(diffIDs, s.digest(data))
	}
	return s.image(diffIDs, layers...)
}

func (s *shelf) index(mediaType string, manifests ...descriptor) descriptor {
	return s.put(mediaType, map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": manifests})
}

func (d descriptor) on(platform map[string]any) descriptor {
	d.Platform = platform
	return d
}
