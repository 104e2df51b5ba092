package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const emptyJSON = "application/vnd.oci.empty.v1+json"

func (d descriptor) titled(title string, more ...string) descriptor {
	d.Annotations = map[string]string{"org.opencontainers.image.title": title}
	for i := 0; i+1 < len(more); i += 2 {
		d.Annotations[more[i]] = more[i+1]
	}
	return d
}

func (s *shelf) artifact(layers ...descriptor) descriptor {
	return s.put(ociManifest, map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "artifactType": "application/x-test", "config": s.put(emptyJSON, []byte("{}")), "layers": layers})
}

// "I pushed my model with oras": an artifact's files are there under their titles, as they are, in what mounts it; there is
// nothing in it to run. Artifacts have one configuration, and are different images.
func TestArtifacts(t *testing.T) {
	leaveNothing(t)
	s := newShelf(t)
	random := make([]byte, 9<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(random)
	hello, packed := s.put(ociLayer, []byte("hello\n")), s.put("application/x-test", zipped([]byte("stays packed\n")))
	directory := s.put(ociLayer+"+gzip", zipped(archive(folder("tree"), file("tree/leaf", "leaf\n"))))
	model := s.tag("model", s.artifact(hello.titled("hello.txt"), s.put("application/x-test", random).titled("weights/random.bin"), packed.titled("packed.gz"),
		packed, directory.titled("tree", "io.deis.oras.content.unpack", "true"), s.put("application/x-test", []byte{}).titled("empty")))
	other := s.tag("other", s.artifact(hello.titled("moved.txt")))
	pullFor(t, model)
	pullFor(t, other)
	pull(t, model)
	restartCrispd(t)
	c := newPod(t).run(t, mounting("main", imageMount(model, "/model", ""), imageMount(other, "/other", ""), imageMount(model, "/weights", "weights")))
	want := fmt.Sprintf("hello\nstays packed\nleaf\n644 0:0 0\n%s\n%s\nempty\nhello.txt\npacked.gz\n%s\ntree\nweights\nmoved.txt\n", digestOf(random)[7:], digestOf(random)[7:], packed.Digest)
	if got := c.sh(t, `cat /model/hello.txt; gunzip -c /model/packed.gz; cat /model/tree/leaf; stat -c "%a %u:%g %s" /model/empty
		for f in /model/weights/random.bin /weights/random.bin; do sha256sum $f | cut -d" " -f1; done; ls /model; ls /other`); got != want {
		t.Errorf("%q\nwants %q", got, want)
	}
	config := containerConfig("artifact", "true")
	config.Image = spec(model)
	_, err := c.pod.tryCreate(t, config)
	fails(t, err, is(codes.FailedPrecondition), "artifact", model)
	if said, err := tryCommand("crispctl", "image", "export", "-o", t.TempDir()+"/artifact", model); err == nil || said != "crispctl: "+model+" is an artifact: images can be exported, artifacts not\n" {
		t.Errorf("export of an artifact: %v: %q", err, said)
	}
	for _, title := range []string{"../outside", "a/.wh.b", "..", "."} {
		_, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(s.tag("bad", s.artifact(hello.titled(title))))})
		fails(t, err, is(codes.InvalidArgument), s.host)
	}
}

// A layer that the registry has not is had where the manifest says, without a credential; one that it has, from it.
func TestForeignLayers(t *testing.T) {
	leaveNothing(t)
	s := newShelf(t)
	data := archive(file("foreign", "far away\n"))
	here := s.put("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", zipped(data))
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "" {
			t.Error("a stranger got credentials")
		}
		if r.URL.Path == "/layer" {
			_, _ = w.Write(zipped(data))
		} else {
			w.Header().Set("Content-Type", "text/plain")
			http.Error(w, "words of a stranger", http.StatusForbidden)
		}
	}))
	t.Cleanup(elsewhere.Close)
	private := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); name != "me" || password != "secret-password" {
			answer(401, "who are you")(w, r)
			return
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(private.Close)
	pulled := func(urls ...string) error {
		layer := here
		layer.URLs = urls
		s.tag("foreign", s.image([]string{digestOf(data)}, layer))
		name := strings.TrimPrefix(private.URL, "http://") + "/shelf/foreign:foreign"
		_, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(name), Auth: &cri.AuthConfig{Username: "me", Password: "secret-password"}})
		if err == nil {
			must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}))(t)
		}
		return err
	}
	if err := pulled(elsewhere.URL + "/layer"); err != nil || asked.Load() > 0 {
		t.Errorf("what the registry has: %v, elsewhere asked %d times", err, asked.Load())
	}
	s.remove(here)
	if err := pulled(elsewhere.URL+"/none", "ftp://127.0.0.1/layer", elsewhere.URL+"/layer"); err != nil || asked.Load() != 2 {
		t.Errorf("what the registry has not: %v, elsewhere asked %d times", err, asked.Load())
	}
	err := pulled(elsewhere.URL + "/none")
	fails(t, err, is(codes.NotFound), "404", elsewhere.URL, "403")
	if err != nil && strings.Contains(err.Error(), "words of a stranger") {
		t.Error(err)
	}
	fails(t, pulled("file:///etc/passwd"), is(codes.NotFound), "http")
	fails(t, pulled(), is(codes.NotFound), here.Digest)
}

// What contradicts itself, is too large or of a kind that nobody knows is refused and leaves nothing.
func TestContradictions(t *testing.T) {
	leaveNothing(t)
	s := newShelf(t)
	data := archive(file("f", "f"))
	layer := s.put(ociLayer, data)
	with := func(d descriptor, size int) descriptor { d.Size += size; return d }
	diffIDs := []string{digestOf(data)}
	config := func(more ...any) descriptor {
		members := map[string]any{"os": "linux", "architecture": goArchitecture, "rootfs": map[string]any{"diff_ids": diffIDs}}
		for i := 0; i+1 < len(more); i += 2 {
			members[more[i].(string)] = more[i+1]
		}
		return s.put(ociConfig, members)
	}
	manifest := func(config descriptor, more map[string]any, layers ...descriptor) descriptor {
		members := map[string]any{"schemaVersion": 2, "mediaType": ociManifest, "config": config, "layers": layers}
		maps.Copy(members, more)
		return s.put(ociManifest, members)
	}
	here := map[string]any{"os": "linux", "architecture": goArchitecture}
	large := map[string]any{"annotations": map[string]string{"large": strings.Repeat("x", 4<<20)}}
	attributes := file("f", "")
	for i := range 65 {
		attributes = attributes.with(fmt.Sprintf("user.%d", i), "x")
	}
	bad := func(tar []byte) descriptor { return s.plain(data, tar) }
	deep := s.image(diffIDs, layer)
	for range 5 {
		deep = s.index(ociIndex, deep)
	}
	for name, c := range map[string]struct {
		image descriptor
		codes []codes.Code
		words []string
	}{
		"schema 1":                      {s.put("", map[string]any{"schemaVersion": 1, "fsLayers": []any{}}), is(codes.Unimplemented, codes.FailedPrecondition), []string{"schema 1"}},
		"a layer longer than said":      {s.image(diffIDs, with(layer, -1)), is(codes.Internal), []string{layer.Digest}},
		"a layer shorter than said":     {s.image(diffIDs, with(layer, 1)), is(codes.Internal, codes.Unknown), []string{layer.Digest}},
		"a configuration of other size": {manifest(with(config(), 1), nil, layer), is(codes.Internal), []string{"configuration"}},
		"a manifest of other size":      {s.index(ociIndex, with(s.image(diffIDs, layer), 1).on(here)), is(codes.Internal), []string{"manifest"}},
		"another diff id":               {s.image([]string{digestOf(nil)}, layer), is(codes.Internal), []string{digestOf(nil)}},
		"more layers than diff ids":     {s.image(diffIDs, layer, layer), is(codes.InvalidArgument), []string{"2 layers"}},
		"a layer of an unknown type":    {manifest(config(), nil, descriptor{"application/x-unheard-of", layer.Digest, layer.Size, nil, nil, nil}), is(codes.Unimplemented, codes.FailedPrecondition), []string{"application/x-unheard-of"}},
		"a large manifest":              {manifest(config(), large, layer), is(codes.InvalidArgument, codes.Unknown, codes.Internal), []string{"larger"}},
		"a large configuration":         {manifest(config("large", strings.Repeat("x", 4<<20)), nil, layer), is(codes.InvalidArgument), []string{"larger"}},
		"indexes without end":           {deep, is(codes.InvalidArgument), []string{"deeper"}},
		"index and manifest":            {manifest(config(), map[string]any{"manifests": []any{}}, layer), is(codes.InvalidArgument), []string{"both"}},
		"no archive":                    {bad(bytes.Repeat([]byte("no tar "), 1000)), is(codes.InvalidArgument), []string{"archive"}},
		"a cut archive":                 {bad(archive(file("f", strings.Repeat("x", 5000)))[:3000]), is(codes.InvalidArgument), []string{"archive"}},
		"an owner out of range":         {bad(archive(file("f", "").owned(1<<32-1, 0))), is(codes.InvalidArgument), []string{"owner"}},
		"too many attributes":           {bad(archive(attributes)), is(codes.InvalidArgument), []string{"attributes"}},
		"a hard link to nothing":        {bad(archive(hardLink("f", "nowhere"))), is(codes.InvalidArgument), []string{"nowhere"}},
		"a name of 256 bytes":           {bad(archive(file(strings.Repeat("n", 256), ""))), is(codes.InvalidArgument), []string{"255"}},
		"a path out of the layer":       {bad(archive(file("../x", ""))), is(codes.InvalidArgument), []string{"../x"}},
		"a file without room":           {bad(archive(entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: 0}}.with("user.f", strings.Repeat("x", 70000)))), is(codes.InvalidArgument, codes.Internal, codes.ResourceExhausted), []string{"user.f"}},
	} {
		_, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(s.tag("bad", c.image))})
		if err == nil {
			t.Errorf("%s: pulled", name)
			must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(s.host + "/shelf/bad:bad")}))(t)
			continue
		}
		fails(t, err, c.codes, append(c.words, s.host)...)
	}
}
