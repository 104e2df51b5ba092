package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A lie is what a registry does with a request in place of answering it, and says so; false lets it pass.
type lie func(w http.ResponseWriter, r *http.Request) bool

// layer gives the bytes that a request is for, where they are those of a layer and not of the configuration.
func layer(r *http.Request) []byte {
	if !isBlob(r) || r.Header.Get("Range") != "" {
		return nil
	}
	if data := fetched(r); len(data) > 64<<10 {
		return data
	}
	return nil
}

func hangUp(w http.ResponseWriter) {
	if connection, _, err := w.(http.Hijacker).Hijack(); err == nil {
		connection.Close()
	}
}

// begin sends the first bytes of a body whose length is declared.
func begin(w http.ResponseWriter, declared int, data []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(declared))
	w.Header().Set("Accept-Ranges", "bytes")
	_, _ = w.Write(data)
	w.(http.Flusher).Flush()
}

// first lets a lie be told a number of times only.
func first(times int32, tell lie) lie {
	var told atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) bool {
		return isBlob(r) && told.Add(1) <= times && tell(w, r)
	}
}

func ofLayers(tell func(w http.ResponseWriter, r *http.Request, data []byte)) lie {
	return func(w http.ResponseWriter, r *http.Request) bool {
		data := layer(r)
		if data != nil {
			tell(w, r, data)
		}
		return data != nil
	}
}

// cutThen breaks layers off in the middle and answers the request for the rest in its own way.
func cutThen(rest lie) lie {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if data := layer(r); data != nil {
			begin(w, len(data), data[:len(data)/2])
			hangUp(w)
			return true
		}
		return isBlob(r) && r.Header.Get("Range") != "" && rest(w, r)
	}
}

func endless(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	for range 4 << 10 { // 256 MiB
		if _, err := w.Write(bytes.Repeat([]byte("x"), 64<<10)); err != nil {
			return
		}
	}
}

func redirect(to string) lie {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if isBlob(r) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
		return isBlob(r)
	}
}

func retryAfter(status int, after func() string) lie {
	return func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Retry-After", after())
		return answer(status, "not now")(w, r)
	}
}

// A pull ends, whatever a registry does: it comes to its end where the rest is to be had, or fails in words that name the
// registry. The same image is then pulled from an honest one, and crisp-pull has no thread and no fd more than before.
func TestRegistryLiesInEveryWay(t *testing.T) {
	leaveNothing(t)
	configure(t, "[images]\nstall_seconds = 1\nleast_bytes_per_second = 10000\n")
	wait := func(r *http.Request) { <-r.Context().Done() }
	for name, c := range map[string]struct {
		tell  lie
		codes []codes.Code // nil: the pull succeeds
		words []string
	}{
		"stalls at the end, twice": {tell: first(2, ofLayers(func(w http.ResponseWriter, r *http.Request, data []byte) {
			begin(w, len(data), data[:len(data)*99/100])
			wait(r)
		}))},
		"stalls for ever": {func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r) {
				wait(r)
			}
			return isBlob(r)
		}, is(codes.Unknown), []string{"RegistryUnavailable", "stalls", "10000 bytes"}},
		"trickles": {ofLayers(func(w http.ResponseWriter, r *http.Request, data []byte) {
			begin(w, len(data), nil)
			for i := 0; i < 600 && r.Context().Err() == nil; i++ {
				_, _ = w.Write(data[i : i+1])
				w.(http.Flusher).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		}), nil, nil},
		"hangs up": {func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r) {
				hangUp(w)
			}
			return isBlob(r)
		}, is(codes.Unknown), []string{"RegistryUnavailable", "fetch configuration"}},
		"sends a layer without end":   {ofLayers(func(w http.ResponseWriter, _ *http.Request, _ []byte) { endless(w, 200) }), is(codes.Internal, codes.InvalidArgument), []string{"layer"}},
		"sends an answer without end": {func(w http.ResponseWriter, r *http.Request) bool { endless(w, 500); return true }, is(codes.InvalidArgument, codes.Unknown), []string{"larger"}},
		"sends less than it should":   {tell: ofLayers(func(w http.ResponseWriter, _ *http.Request, data []byte) { begin(w, len(data)-10, data[:len(data)-10]) })},
		"sends less, whatever is asked": {func(w http.ResponseWriter, r *http.Request) bool {
			if isBlob(r) {
				_, _ = w.Write(fetched(r)[:100])
			}
			return isBlob(r)
		}, is(codes.Internal), []string{"digest"}},
		"says no length and breaks off": {tell: ofLayers(func(w http.ResponseWriter, _ *http.Request, data []byte) {
			if connection, _, err := w.(http.Hijacker).Hijack(); err == nil {
				fmt.Fprintf(connection, "HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n%s", data[:len(data)/2])
				connection.Close()
			}
		})},
		"sends no digest's content": {ofLayers(func(w http.ResponseWriter, _ *http.Request, data []byte) {
			begin(w, len(data), make([]byte, len(data)))
		}), is(codes.Internal, codes.InvalidArgument), []string{"layer"}},
		"has headers without end": {func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
			return answer(200, "")(w, r)
		}, is(codes.Unknown), []string{"RegistryUnavailable"}},
		"says its layers are encoded": {ofLayers(func(w http.ResponseWriter, _ *http.Request, data []byte) {
			w.Header().Set("Content-Encoding", "gzip")
			begin(w, len(data), data)
		}), nil, nil},
		"redirects in a circle": {redirect("/v2/crisp/config/blobs/again"), is(codes.Unknown), []string{"redirects"}},
		"redirects to a file":   {redirect("file:///etc/passwd"), is(codes.Unknown, codes.Internal), nil},
		"redirects to nowhere":  {redirect("http://127.0.0.1:1/"), is(codes.Unknown), []string{"127.0.0.1"}},
		"knows no ranges":       {cutThen(func(w http.ResponseWriter, r *http.Request) bool { _, _ = w.Write(fetched(r)); return true }), nil, nil},
		"refuses a range":       {cutThen(answer(416, "no range")), is(codes.Internal), []string{"416", "no range"}},
		"sends another range": {cutThen(func(w http.ResponseWriter, r *http.Request) bool {
			var start int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", start+1, start+1000))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(make([]byte, 1000))
			return true
		}), is(codes.Unknown), []string{"another range"}},
		"has lost the layers": {func(w http.ResponseWriter, r *http.Request) bool { return isBlob(r) && answer(404, "lost it")(w, r) }, is(codes.NotFound), []string{"lost it"}},
		"names another digest": {func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
			_, _ = w.Write(fetched(r))
			return true
		}, is(codes.Internal), []string{"sha256:0000"}},
		"is out of order for a while":   {tell: first(2, answer(503, "out of order"))},
		"wants us to wait":              {tell: first(1, retryAfter(429, func() string { return "1" }))},
		"wants us to wait until a date": {tell: first(1, retryAfter(429, func() string { return time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat) }))},
		"wants us to wait an hour":      {retryAfter(429, func() string { return "3600" }), is(codes.ResourceExhausted), []string{"429", "not now"}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "trickles" { // a mirror, that is: the next one has the rest
				trickles, honest := liar(t, c.tell), liar(t, func(http.ResponseWriter, *http.Request) bool { return false })
				hosts(t, "trickles.example", fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", honest, trickles))
				if err := pullFrom(t, "trickles.example", nil); err != nil {
					t.Error(err)
				}
				return
			}
			host := liar(t, c.tell)
			start := time.Now()
			err := pullFrom(t, host, nil)
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
			if c.codes == nil && err != nil {
				t.Error(err)
			}
			if c.codes != nil {
				fails(t, err, c.codes, append(c.words, host, "crisp/config")...)
			}
			if err := pullFrom(t, registry, nil); err != nil {
				t.Errorf("from an honest registry: %v", err)
			}
			pullerIsLean(t)
		})
	}
}

// pullerIsLean says that a crisp-pull between two pulls has the threads and fds that it started with: the main one, that of HTTP
// and the workers; the streams, the session's and the store's directories. Connections it may keep.
func pullerIsLean(t *testing.T) {
	t.Helper()
	var threads, files int
	eventually(t, 5*time.Second, "crisp-pull as lean as it began", func() bool {
		pids := processesOf("crisp-pull")
		if len(pids) == 0 {
			return true
		}
		threads, files = 0, 0
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pids[0]))
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pids[0]))
		threads = len(tasks)
		for _, fd := range fds {
			target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pids[0], fd.Name()))
			if strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "/dev/") {
				files++
			}
		}
		return threads == 2+8 && files <= 5
	})
	if sessions, _ := filepath.Glob(filepath.Join(rootDir, "images/incoming/*/*")); len(sessions) > 0 {
		t.Errorf("half downloads: %v", sessions)
	}
}

// A mirror that trickles is no progress: crisp-pull goes on with the next one where the first left off.
func TestRegistryRestOfALayerFromTheNextMirror(t *testing.T) {
	leaveNothing(t)
	configure(t, "[images]\nstall_seconds = 1\n")
	var ranges atomic.Int32
	half := liar(t, ofLayers(func(w http.ResponseWriter, r *http.Request, data []byte) {
		begin(w, len(data), data[:len(data)/2])
		<-r.Context().Done()
	}))
	rest := liar(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "" {
			ranges.Add(1)
		}
		return false
	})
	hosts(t, "halves.example", fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.\"http://%s\"]\n[host.\"http://%s\"]\n", half, rest))
	if err := pullFrom(t, "halves.example", nil); err != nil {
		t.Error(err)
	}
	if ranges.Load() == 0 {
		t.Error("the next mirror was not asked for the rest")
	}
}

// A registry that refuses every token is not asked for ever.
func TestRegistryRefusesEveryToken(t *testing.T) {
	leaveNothing(t)
	var host string
	var tokens, asked atomic.Int32
	host = liar(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			fmt.Fprintf(w, `{"token": "number-%d", "expires_in": 300}`, tokens.Add(1))
			return true
		}
		asked.Add(1)
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="liar"`, host))
		w.WriteHeader(401)
		return true
	})
	for range 2 { // what the first pull left is tried by the second
		fails(t, pullFrom(t, host, nil), is(codes.Unauthenticated), host, "crisp/config")
	}
	if tokens.Load() > 2 || asked.Load() > 6 {
		t.Errorf("%d tokens, %d requests for two pulls", tokens.Load(), asked.Load())
	}
	for _, said := range []string{`{}`, `nonsense`, `{"token": "a\r\nX-Injected: b"}`, strings.Repeat("x", 1<<20)} {
		tell := liar(t, func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				fmt.Fprint(w, said)
				return true
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token"`, r.Host))
			w.WriteHeader(401)
			return true
		})
		if err := pullFrom(t, tell, nil); err == nil || !strings.Contains(err.Error(), "token server") {
			t.Errorf("a token server that says %.20s: %v", said, err)
		}
	}
	pullerIsLean(t)
}

// A slow token server is asked once for all layers, and once more when the token runs out while layers wait.
func TestRegistrySlowToken(t *testing.T) {
	leaveNothing(t)
	var host string
	var tokens, used atomic.Int32
	host = liar(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			time.Sleep(700 * time.Millisecond)
			used.Store(0)
			fmt.Fprintf(w, `{"access_token": "number-%d", "expires_in": 300}`, tokens.Add(1))
			return true
		}
		if r.Header.Get("Authorization") == fmt.Sprintf("Bearer number-%d", tokens.Load()) && used.Add(1) <= 4 {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="liar",scope="repository:crisp/changes:pull"`, host))
		w.WriteHeader(401)
		return true
	})
	pullFor(t, host+"/crisp/changes:latest") // a manifest, a configuration, three layers or more
	if got := tokens.Load(); got != 2 {
		t.Errorf("%d tokens were asked for", got)
	}
}

// What came of a large layer before crispd was killed is not fetched again.
func TestPullGoesOnAfterCrispdsDeath(t *testing.T) {
	leaveNothing(t)
	made := newImage(t, 12<<20)
	var ranges, whole atomic.Int32
	stuck := make(chan struct{}, 1)
	var free atomic.Bool
	host := made.serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, made.layerDigest) {
			return false
		}
		if from := r.Header.Get("Range"); from != "" {
			ranges.Add(1)
			var start int
			if _, err := fmt.Sscanf(from, "bytes=%d-", &start); err != nil || start < 8<<20 {
				t.Errorf("asked for %s", from)
			}
			return false
		}
		whole.Add(1)
		if free.Load() {
			return false
		}
		begin(w, len(made.layer), made.layer[:10<<20])
		time.Sleep(300 * time.Millisecond) // what was sent is written down meanwhile
		stuck <- struct{}{}
		<-r.Context().Done()
		return true
	})
	go func() {
		_, _ = image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(host + "/made:latest")})
	}()
	<-stuck
	killCrispd(t)
	startCrispd(t)
	free.Store(true)
	pullFor(t, host+"/made:latest")
	if whole.Load() != 1 || ranges.Load() != 1 {
		t.Errorf("%d requests for the whole layer, %d for the rest", whole.Load(), ranges.Load())
	}
}
