package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// liar is a registry on loopback: the node's, seen through `lie`, which answers a request itself and says so, or lets it pass.
func liar(t *testing.T, lie func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(must(url.Parse("http://" + registry))(t))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !lie(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func answer(code int, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if code == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="liar"`)
		}
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"errors": [{"code": "TEST", "message": %q}]}`, body)
		return true
	}
}

func isBlob(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }

// fetched gives what the node's registry answers to a request, to be changed.
func fetched(r *http.Request) []byte {
	answer, err := http.Get("http://" + registry + r.URL.Path)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	data, _ := io.ReadAll(answer.Body)
	return data
}

func pullFrom(t *testing.T, host string, auth *cri.AuthConfig) error {
	t.Helper()
	_, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(host + "/crisp/config:latest"), Auth: auth})
	if err == nil {
		must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(host + "/crisp/config:latest")}))(t)
	}
	return err
}

// Each refusal of a registry has its code and the registry's own words, and leaves nothing.
func TestRegistryRefuses(t *testing.T) {
	leaveNothing(t)
	for code, want := range map[int][]codes.Code{401: is(codes.Unauthenticated), 403: is(codes.PermissionDenied), 404: is(codes.NotFound), 429: is(codes.ResourceExhausted)} {
		host := liar(t, answer(code, "words of the registry"))
		words := []string{host, "crisp/config", "words of the registry"}
		if code == 401 {
			words = []string{host, "crisp/config", "credentials"} // what to do says more
		}
		fails(t, pullFrom(t, host, nil), want, words...)
	}
	host := liar(t, answer(503, "out of order"))
	if err := pullFrom(t, host, nil); err == nil || !strings.Contains(err.Error(), host) {
		t.Errorf("503: %v", err)
	}
}

// Bytes that are not what their digest says are never taken.
func TestRegistryLies(t *testing.T) {
	leaveNothing(t)
	other := func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r) {
			return false
		}
		data := fetched(r)
		data[len(data)/2] ^= 1
		_, _ = w.Write(data)
		return true
	}
	fails(t, pullFrom(t, liar(t, other), nil), is(codes.Internal, codes.DataLoss), "sha256:")
	longer := func(w http.ResponseWriter, r *http.Request) bool {
		if isBlob(r) {
			_, _ = w.Write(append(fetched(r), "more"...))
		}
		return isBlob(r)
	}
	fails(t, pullFrom(t, liar(t, longer), nil), is(codes.Internal, codes.DataLoss))
	manifest := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		_, _ = w.Write([]byte(`{"schemaVersion": 2, "config": `))
		return true
	}
	if err := pullFrom(t, liar(t, manifest), nil); err == nil {
		t.Error("a manifest that is cut was taken")
	}
	endless := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") || r.Method != http.MethodGet {
			return false
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		for range 1 << 10 { // 64 MiB: nobody's manifest
			if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
				break
			}
		}
		return true
	}
	if err := pullFrom(t, liar(t, endless), nil); err == nil {
		t.Error("an endless manifest was taken")
	}
}

// A connection that breaks in the middle of a layer is taken up again where it broke.
func TestRegistryCuts(t *testing.T) {
	leaveNothing(t)
	var cuts, resumed atomic.Int32
	cut := func(w http.ResponseWriter, r *http.Request) bool {
		if isBlob(r) && r.Header.Get("Range") != "" {
			resumed.Add(1)
			return false
		}
		if !isBlob(r) {
			return false
		}
		data := fetched(r)
		if len(data) < 64<<10 || cuts.Add(1) > 4 { // a layer is cut four times, the configuration never
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Header().Set("Accept-Ranges", "bytes")
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		if connection, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = connection.(*net.TCPConn).SetLinger(0)
			connection.Close()
		}
		return true
	}
	if err := pullFrom(t, liar(t, cut), nil); err != nil {
		t.Error(err)
	}
	if resumed.Load() == 0 {
		t.Error("no request for a range came")
	}
}

// Basic credentials and bearer tokens get in, wrong ones do not; secrets are in no error.
func TestRegistryAuthentication(t *testing.T) {
	leaveNothing(t)
	basic := liar(t, func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		return (user != "me" || password != "secret-password") && answer(401, "who are you")(w, r)
	})
	fails(t, pullFrom(t, basic, nil), is(codes.Unauthenticated), basic)
	err := pullFrom(t, basic, &cri.AuthConfig{Username: "me", Password: "wrong-password"})
	fails(t, err, is(codes.Unauthenticated), basic)
	if strings.Contains(fmt.Sprint(err), "wrong-password") {
		t.Errorf("a password in an error: %v", err)
	}
	if err := pullFrom(t, basic, &cri.AuthConfig{Username: "me", Password: "secret-password"}); err != nil {
		t.Error(err)
	}
	if err := pullFrom(t, basic, &cri.AuthConfig{Auth: "bWU6c2VjcmV0LXBhc3N3b3Jk"}); err != nil {
		t.Errorf("credentials as one base64 string: %v", err)
	}

	var host string
	var asked atomic.Int32
	host = liar(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			asked.Add(1)
			if scope := r.URL.Query().Get("scope"); scope != "repository:crisp/config:pull" || r.URL.Query().Get("service") != "liar" {
				return answer(400, "asked for "+scope)(w, r)
			}
			fmt.Fprint(w, `{"token": "open-sesame", "expires_in": 300}`)
			return true
		}
		if r.Header.Get("Authorization") == "Bearer open-sesame" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="liar",scope="repository:crisp/config:pull"`, host))
		w.WriteHeader(401)
		return true
	})
	if err := pullFrom(t, host, nil); err != nil {
		t.Errorf("an anonymous token: %v", err)
	}
	if asked.Load() == 0 {
		t.Error("nobody asked for a token")
	}
}

// A registry that stalls holds up its own pull and nothing else; the caller's deadline is kept.
func TestRegistryStalls(t *testing.T) {
	leaveNothing(t)
	release := make(chan struct{})
	stall := liar(t, func(w http.ResponseWriter, r *http.Request) bool {
		if isBlob(r) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	})
	defer close(release)
	begin := time.Now()
	_, err := image.PullImage(within(t, time.Second), &cri.PullImageRequest{Image: spec(stall + "/crisp/config:latest")})
	fails(t, err, is(codes.DeadlineExceeded))
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("a deadline of 1 s took %v", took)
	}
	if err := pullFrom(t, registry, nil); err != nil {
		t.Errorf("another pull: %v", err)
	}
}

// Mirrors are asked in the order of the file; one that fails or has nothing leads to the next.
func TestRegistryMirrors(t *testing.T) {
	leaveNothing(t)
	broken := liar(t, answer(500, "broken"))
	empty := liar(t, answer(404, "nothing here"))
	var asked atomic.Int32
	good := liar(t, func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })
	hosts(t, "mirrored.example", fmt.Sprintf("server = \"http://127.0.0.1:1\"\n\n[host.\"http://%s\"]\n[host.\"http://%s\"]\n[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", broken, empty, good))
	if err := pullFrom(t, "mirrored.example", nil); err != nil {
		t.Error(err)
	}
	if asked.Load() == 0 {
		t.Error("the good mirror was not asked")
	}
}

// hosts puts a hosts.toml there for a registry, until the test is over.
func hosts(t *testing.T, host, text string) {
	t.Helper()
	folder := filepath.Join(nodeDir, "certs.d", host)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.WriteFile(filepath.Join(folder, "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
