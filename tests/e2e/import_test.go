package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type archived struct {
	name string
	data []byte
}

func tarOf(t *testing.T, files ...archived) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data))}); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(f.data)
	}
	w.Close()
	return out.Bytes()
}

func blob(data []byte) archived { return archived{"blobs/sha256/" + digestOf(data)[7:], data} }

func jsonOf(t *testing.T, value any) []byte { t.Helper(); return must(json.Marshal(value))(t) }

type object = map[string]any

func descriptor(data []byte, more object) object {
	d := object{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digestOf(data), "size": len(data)}
	for key, value := range more {
		d[key] = value
	}
	return d
}

func named(name string) object {
	return object{"annotations": object{"org.opencontainers.image.ref.name": name}}
}

func indexOf(t *testing.T, descriptors ...object) []byte {
	t.Helper()
	return jsonOf(t, object{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": descriptors})
}

// layout is an OCI image layout whose index.json comes last, as some tools write it.
func layout(t *testing.T, index []byte, blobs ...[]byte) []byte {
	t.Helper()
	files := []archived{{"./oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	for _, data := range blobs {
		files = append(files, blob(data))
	}
	return tarOf(t, append(files, archived{"./index.json", index})...)
}

// saved is what docker save writes.
func saved(t *testing.T, tags []string, images ...*made) []byte {
	t.Helper()
	var list []object
	var files []archived
	for i, m := range images {
		dir := fmt.Sprintf("%064d", i)
		files = append(files, archived{dir + "/layer.tar", m.layer}, archived{m.configDigest[7:] + ".json", m.config})
		list = append(list, object{"Config": m.configDigest[7:] + ".json", "RepoTags": tags[i : i+1], "Layers": []string{dir + "/layer.tar"}})
	}
	return tarOf(t, append(files, archived{"manifest.json", jsonOf(t, list)}, archived{"repositories", []byte("{}")})...)
}

func filter(t *testing.T, data []byte, name string, arguments ...string) []byte {
	t.Helper()
	program := exec.Command(name, arguments...)
	program.Stdin = bytes.NewReader(data)
	return must(program.Output())(t)
}

func gzipped(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(data)
	w.Close()
	return out.Bytes()
}

// inFile writes the archive outside of what leaveNothing compares.
func inFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func removeImage(t *testing.T, name string) {
	t.Helper()
	must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}))(t)
}

func importFile(t *testing.T, data []byte, arguments ...string) string {
	t.Helper()
	return command(t, "crispctl", append([]string{"image", "import", inFile(t, data)}, arguments...)...)
}

// The archives that docker, podman and skopeo make are imported: from a file and from a pipe, plain, gzip and zstd, with the names they say.
func TestImportKinds(t *testing.T) {
	leaveNothing(t)
	m := newImage(t, 1<<20)
	index := indexOf(t, descriptor(m.manifest, named("example.test/made:1")))
	docker, oci := saved(t, []string{"example.test/made:1"}, m), layout(t, index, m.manifest, m.config, m.layer)
	kinds := map[string][]byte{
		"docker-archive": docker, "docker-archive gzip": gzipped(docker), "docker-archive zstd": filter(t, docker, "zstd", "-q", "-c"),
		"OCI": oci, "OCI gzip": gzipped(oci), "OCI zstd": filter(t, oci, "zstd", "-q", "-c"),
	}
	for kind, data := range kinds {
		for _, how := range []string{"file", "pipe"} {
			var said string
			if how == "file" {
				said = importFile(t, data)
			} else {
				said = string(filter(t, data, "crispctl", "image", "import", "-"))
			}
			if said != "example.test/made:1\n" {
				t.Errorf("%s from a %s: crispctl said %q", kind, how, said)
			}
			got := imageStatus(t, "example.test/made:1")
			if got.GetId() != m.configDigest || got.GetSize() < 1<<20 {
				t.Fatalf("%s from a %s: the image is %v, want %s", kind, how, got, m.configDigest)
			}
			byDigest := "example.test/made@" + digestOf(m.manifest)
			if strings.HasPrefix(kind, "OCI") != (len(got.RepoDigests) == 1 && got.RepoDigests[0] == byDigest) {
				t.Errorf("%s from a %s: digests %v", kind, how, got.RepoDigests)
			}
			removeImage(t, "example.test/made:1")
		}
	}
	importFile(t, docker, "--digests", "--name", "other.test/named")
	if got := imageStatus(t, "other.test/named:latest"); len(got.GetRepoDigests()) != 1 || len(got.GetRepoTags()) != 1 {
		t.Errorf("with --digests and --name: %v", got)
	}
	removeImage(t, "other.test/named")
}

// What is imported runs, and what skopeo writes of it is imported again.
func TestImportOfSkopeosArchives(t *testing.T) {
	leaveNothing(t)
	dir := t.TempDir()
	for _, kind := range []string{"docker-archive", "oci-archive"} {
		file := filepath.Join(dir, kind)
		command(t, "skopeo", "copy", "--insecure-policy", "--quiet", "--src-tls-verify=false", "docker://"+registry+"/crisp/config:latest", kind+":"+file+":skopeo.test/config:1")
		if said := command(t, "crispctl", "image", "import", file); said != "skopeo.test/config:1\n" {
			t.Errorf("%s: crispctl said %q", kind, said)
		}
		if got := command(t, "crispctl", "run", "--rm", "skopeo.test/config:1", "echo $GREETING"); got != "hello\n" {
			t.Errorf("%s: the container said %q", kind, got)
		}
		removeImage(t, "skopeo.test/config:1")
	}
}

// An index whose other platforms are not in the archive is imported for this machine, and keeps its digest as a name.
func TestImportOfOnePlatformOfMany(t *testing.T) {
	leaveNothing(t)
	m, other := newImage(t, 4096), newImage(t, 8192)
	index := indexOf(t,
		descriptor(other.manifest, object{"platform": object{"os": "linux", "architecture": "arm64"}}),
		descriptor(m.manifest, object{"platform": object{"os": "linux", "architecture": "amd64"}}),
		descriptor([]byte("nowhere"), object{"platform": object{"os": "linux", "architecture": "s390x"}}))
	top := descriptor(index, named("example.test/many:1"))
	top["mediaType"] = "application/vnd.oci.image.index.v1+json"
	importFile(t, layout(t, indexOf(t, top), index, m.manifest, m.config, m.layer))
	got := imageStatus(t, "example.test/many:1")
	if got.GetId() != m.configDigest || len(got.RepoDigests) != 1 || got.RepoDigests[0] != "example.test/many@"+digestOf(index) {
		t.Errorf("imported %v, want %s by the index' digest", got, m.configDigest)
	}
	removeImage(t, "example.test/many:1")
	importFails(t, layout(t, indexOf(t, top), index, other.manifest, other.config, other.layer), "no image that this machine runs", "linux/arm64")
}

// All images of an archive come, also one without a name, and one under two names is one.
func TestImportOfSeveralImages(t *testing.T) {
	leaveNothing(t)
	a, b, c := newImage(t, 1000), newImage(t, 2000), newImage(t, 3000)
	said := importFile(t, saved(t, []string{"example.test/a:1", "b"}, a, b))
	if said != "example.test/a:1\ndocker.io/library/b:latest\n" {
		t.Errorf("crispctl said %q", said)
	}
	removeImage(t, "example.test/a:1")
	removeImage(t, "b")
	index := indexOf(t, descriptor(a.manifest, named("example.test/a:1")), descriptor(a.manifest, named("example.test/a:2")), descriptor(c.manifest, nil))
	said = importFile(t, layout(t, index, a.manifest, a.config, a.layer, c.manifest, c.config, c.layer))
	if said != "example.test/a:1\nexample.test/a:2\n"+c.configDigest+"\n" {
		t.Errorf("crispctl said %q", said)
	}
	restartCrispd(t)
	command(t, "crispctl", "image", "tag", c.configDigest, "example.test/c:1")
	if got := imageStatus(t, "example.test/c:1").GetId(); got != c.configDigest {
		t.Errorf("the image without a name got one, and is %s", got)
	}
	removeImage(t, "example.test/a:2")
	removeImage(t, "example.test/c:1")
}

func importFails(t *testing.T, data []byte, words ...string) {
	t.Helper()
	said, err := tryCommand("crispctl", "image", "import", inFile(t, data))
	if err == nil || strings.Count(said, "\n") != 1 {
		t.Errorf("%v: %q, want one line with %q", err, said, words)
	}
	for _, word := range words {
		if !strings.Contains(said, word) {
			t.Errorf("%q lacks %q", said, word)
		}
	}
}

// A bad archive is refused with one sentence and leaves nothing, of its good images neither.
func TestImportOfBadArchives(t *testing.T) {
	leaveNothing(t)
	good, m := newImage(t, 100000), newImage(t, 200000)
	whole := saved(t, []string{"example.test/bad:1"}, m)
	oci := func(blobs ...archived) []byte {
		index := indexOf(t, descriptor(good.manifest, named("example.test/good:1")), descriptor(m.manifest, named("example.test/bad:1")))
		files := []archived{{"oci-layout", []byte("{}")}, {"index.json", index}, blob(good.manifest), blob(good.config), blob(good.layer)}
		return tarOf(t, append(files, blobs...)...)
	}
	wrongLayer, wrongDiff := bytes.Clone(m.layer), *m
	wrongLayer[5000] ^= 1
	wrongDiff.config = bytes.Replace(m.config, []byte(m.layerDigest), []byte(digestOf(nil)), 1)
	importFails(t, nil, "no tar archive")
	importFails(t, []byte(strings.Repeat("no archive at all, but text. ", 100)), "no tar archive")
	importFails(t, tarOf(t, archived{"hello", []byte("hello")}), "neither index.json")
	importFails(t, whole[:len(whole)/2], "cut short")
	importFails(t, gzipped(whole)[:100000], "cut short")
	importFails(t, filter(t, whole, "zstd", "-q", "-c")[:100000], "cut short")
	importFails(t, oci(blob(m.manifest), blob(m.config)), "layer "+m.layerDigest+" is not in the archive")
	importFails(t, oci(blob(m.manifest), blob(m.config), archived{blob(m.layer).name, wrongLayer}), "layer "+m.layerDigest, "has digest "+digestOf(wrongLayer))
	importFails(t, oci(blob(m.manifest), archived{blob(m.config).name, m.manifest}, blob(m.layer)), m.configDigest, "has digest "+digestOf(m.manifest))
	importFails(t, saved(t, []string{"example.test/bad:1"}, &wrongDiff), "has digest "+m.layerDigest)
	importFails(t, saved(t, []string{"not a name"}, m), "not a name")
	importFails(t, tarOf(t, archived{"manifest.json", []byte(`[{"Config":"../../etc/passwd","Layers":[]}]`)}), "../../etc/passwd, which is not in the archive")
	importFails(t, tarOf(t, archived{"manifest.json", []byte(`{"a":1}`)}), "no list")
	if got := imageStatus(t, "example.test/good:1"); got != nil {
		t.Errorf("of a bad archive there is %v", got)
	}
}

// Whoever dies in the middle of an import, nothing of it is left, and the next one comes through.
func TestImportDiesInTheMiddle(t *testing.T) {
	leaveNothing(t)
	m := newImage(t, 4<<20)
	data := saved(t, []string{"example.test/dies:1"}, m)
	begin := func() (*exec.Cmd, *os.File) {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		program := exec.Command("crispctl", "image", "import", "-")
		program.Stdin = read
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		read.Close()
		_, _ = write.Write(data[:1<<20]) // the rest never comes
		eventually(t, 5*time.Second, "crisp-pull reading", func() bool { return len(processesOf("crisp-pull")) == 1 })
		return program, write
	}
	program, write := begin()
	for _, pid := range processesOf("crisp-pull") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := program.Wait(); err == nil {
		t.Error("the import came through without crisp-pull")
	}
	write.Close()
	program, write = begin()
	_ = program.Process.Kill()
	_ = program.Wait()
	eventually(t, 5*time.Second, "the pipe closed", func() bool { _, err := write.Write(data[:1]); return err != nil })
	write.Close()
	program, write = begin()
	killCrispd(t)
	if err := program.Wait(); err == nil {
		t.Error("the import came through without crispd")
	}
	write.Close()
	startCrispd(t)
	importFile(t, data)
	removeImage(t, "example.test/dies:1")
}

// A tag is one more name of an image, wherever an image may be named; the last to get it has it.
func TestImageTag(t *testing.T) {
	leaveNothing(t)
	name := "example.test/tools/busybox:stable"
	id, other := pull(t, busybox), pullFor(t, registry+"/crisp/config:latest")
	t.Cleanup(func() { _, _ = tryCommand("crispctl", "image", "tag", other, name) }) // goes with that image
	if got := command(t, "crispctl", "image", "tag", other, "example.test/tools/busybox:stable"); got != name+"\n" {
		t.Errorf("crispctl image tag said %q", got)
	}
	if got := imageStatus(t, name).GetId(); got != other {
		t.Errorf("%s is %s, want %s", name, got, other)
	}
	command(t, "crispctl", "image", "tag", strings.TrimPrefix(id, "sha256:")[:12], name)
	restartCrispd(t)
	if got := imageStatus(t, name); got.GetId() != id || len(got.RepoTags) != 2 {
		t.Errorf("after the name moved it is of %v, want %s", got, id)
	}
	if got := imageStatus(t, other); len(got.RepoTags) != 1 {
		t.Errorf("the image that lost the name has %v", got.RepoTags)
	}
	for _, bad := range [][]string{{"nothing:here", name}, {busybox, "a//b:c"}, {busybox, name + "@" + id}} {
		said, err := tryCommand("crispctl", "image", "tag", bad[0], bad[1])
		if err == nil || !strings.HasPrefix(said, "crispctl: image ") {
			t.Errorf("tag %v: %v: %q", bad, err, said)
		}
	}
}
