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

func pointTo(data []byte, more object) object {
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
	index := indexOf(t, pointTo(m.manifest, named("example.test/made:1")))
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
		pointTo(other.manifest, object{"platform": object{"os": "linux", "architecture": "arm64"}}),
		pointTo(m.manifest, object{"platform": object{"os": "linux", "architecture": "amd64"}}),
		pointTo([]byte("nowhere"), object{"platform": object{"os": "linux", "architecture": "s390x"}}))
	top := pointTo(index, named("example.test/many:1"))
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
	index := indexOf(t, pointTo(a.manifest, named("example.test/a:1")), pointTo(a.manifest, named("example.test/a:2")), pointTo(c.manifest, nil))
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

// An image whose last name another one takes goes at once, and its layers with it.
func TestImportTakesTheLastName(t *testing.T) {
	leaveNothing(t)
	layers := func() int { return len(must(os.ReadDir(filepath.Join(rootDir, "layers")))(t)) }
	before := layers()
	for _, size := range []int{1000, 2000} {
		importFile(t, saved(t, []string{"example.test/moves:1"}, newImage(t, size)))
	}
	eventually(t, 5*time.Second, "the first image's layer gone", func() bool { return layers() == before+1 })
	removeImage(t, "example.test/moves:1")
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
		index := indexOf(t, pointTo(good.manifest, named("example.test/good:1")), pointTo(m.manifest, named("example.test/bad:1")))
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
	stolen := "docker.io/library/busybox@" + digestOf([]byte("another image"))
	importFails(t, saved(t, []string{stolen}, m), "calls an image "+stolen+", whose digest is sha256:")
	importFails(t, layout(t, indexOf(t, pointTo(m.manifest, named(stolen))), m.manifest, m.config, m.layer), "calls an image "+stolen+", whose digest is "+digestOf(m.manifest))
	var many []object
	blobs := [][]byte{m.config, m.layer}
	for i := 0; i < 5; i++ {
		annotated := bytes.Replace(m.manifest, []byte("{"), []byte(fmt.Sprintf(`{"annotations":{"n":"%d%s"},`, i, strings.Repeat("x", 7<<19))), 1)
		many, blobs = append(many, pointTo(annotated, nil)), append(blobs, annotated)
	}
	importFails(t, layout(t, indexOf(t, many...), blobs...), "larger than 16 MiB in all")
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

func export(t *testing.T, file string, names ...string) (notes string) {
	t.Helper()
	program := exec.Command("crispctl", append([]string{"image", "export", "-o", file}, names...)...)
	var errors strings.Builder
	program.Stderr = &errors
	if err := program.Run(); err != nil {
		t.Fatalf("export %v: %v\n%s", names, err, errors.String())
	}
	return errors.String()
}

// What is exported is the image, whatever is in it: removed and imported again it is exported as the same bytes, it runs, and other tools read it.
// Its layers are made anew, and that is said.
func TestExportAndImportAgain(t *testing.T) {
	leaveNothing(t)
	dir := t.TempDir()
	names := []string{registry + "/crisp/changes:latest", registry + "/crisp/many-layers:latest", registry + "/crisp/config:latest"}
	for _, name := range names {
		pull(t, name)
	}
	tree := func() string {
		return command(t, "crispctl", "run", "--rm", names[0], "sh", "-c", `cd /tree; find . | sort | while read -r f; do stat -c '%n %N %f %h %u:%g %Y %s %t:%T' "$f"; [ -f "$f" ] && md5sum "$f"; done`)
	}
	original := tree()
	first, second := filepath.Join(dir, "first.tar"), filepath.Join(dir, "second.tar")
	if notes := export(t, first, names...); strings.Count(notes, "layers were made anew") != 3 || strings.Count(notes, "\n") != 3 {
		t.Errorf("of the layers that are gone it said %q", notes)
	}
	before := map[string]string{}
	for _, name := range names {
		before[name] = imageStatus(t, name).GetId()
		removeImage(t, name)
	}
	if said := command(t, "crispctl", "image", "import", first); said != strings.Join(names, "\n")+"\n" {
		t.Errorf("imported %q", said)
	}
	if got := tree(); got != original || strings.Count(got, "\n") < 20 {
		t.Errorf("the tree after the import is\n%s\nand was\n%s", got, original)
	}
	script := "cat /n/last /n/000; ls /n | wc -l"
	if got := command(t, "crispctl", "run", "--rm", names[1], "sh", "-c", script); got != "298\n0\n300\n" {
		t.Errorf("the image of many layers said %q", got)
	}
	export(t, second, names...)
	if !bytes.Equal(must(os.ReadFile(first))(t), must(os.ReadFile(second))(t)) {
		t.Errorf("what was exported, imported and exported again is not the same: see %s", dir)
	}
	for _, name := range names {
		if imageStatus(t, name).GetId() == before[name] {
			t.Errorf("%s has its old id with layers made anew", name)
		}
	}
	for _, kind := range []string{"docker-archive:" + first + ":" + names[2], "oci-archive:" + first + ":latest"} {
		if kind[0] == 'o' { // which image has that tag there is only to be told in an archive of one
			export(t, second, names[2])
			kind = "oci-archive:" + second + ":latest"
		}
		command(t, "skopeo", "copy", "--insecure-policy", "--quiet", kind, "dir:"+filepath.Join(dir, kind[:3]))
	}
	for _, name := range names {
		removeImage(t, name)
	}
	if said, err := tryCommand("crispctl", "image", "export", "-o", second, "nothing:here"); err == nil || !strings.Contains(said, "nothing:here is not here") {
		t.Errorf("%v: %q", err, said)
	}
	if left := must(os.ReadDir(dir))(t); len(left) != 4 {
		t.Errorf("a failed export left %v", left)
	}
}

// With the blobs kept the export is what came from the registry; a reader that goes away ends it.
func TestExportOfKeptBlobs(t *testing.T) {
	configure(t, "[images]\nkeep_layer_blobs = true\n")
	leaveNothing(t)
	name, dir := registry+"/crisp/config:latest", t.TempDir()
	id := pull(t, name)
	file := filepath.Join(dir, "kept.tar")
	if notes := export(t, file, id); notes != "" {
		t.Errorf("said %q", notes)
	}
	pipe := exec.Command("sh", "-c", "crispctl image export "+name+" | head -c 1000 > "+dir+"/head")
	_ = pipe.Run()
	digests := imageStatus(t, name).GetRepoDigests()
	removeImage(t, name)
	importFile(t, must(os.ReadFile(file))(t))
	if got := imageStatus(t, name); got.GetId() != id || len(got.RepoDigests) != 1 || got.RepoDigests[0] != digests[0] {
		t.Errorf("imported %v, want %s with %v", got, id, digests)
	}
	export(t, dir+"/again.tar", name)
	if !bytes.Equal(must(os.ReadFile(file))(t), must(os.ReadFile(dir+"/again.tar"))(t)) {
		t.Error("exported again it is not the same")
	}
	removeImage(t, name)
}

// The archives of a directory are imported when crispd starts: each once, again when it changed; a bad one is said and skipped.
func TestImportDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "archives")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, b := newImage(t, 1000), newImage(t, 2000)
	write("a.tar", saved(t, []string{"example.test/a:1"}, a))
	write("b.tar.gz", []byte("no archive"))
	write("c.tar.gz", gzipped(saved(t, []string{"example.test/c:1"}, b)))
	write(".half", []byte("somebody writes this still"))
	is := func(name, id string) func() bool { return func() bool { return imageStatus(t, name).GetId() == id } }
	configure(t, fmt.Sprintf("[images]\nimport_dir = %q\n", dir))
	eventually(t, 10*time.Second, "a imported", is("example.test/a:1", a.configDigest))
	eventually(t, 10*time.Second, "c imported", is("example.test/c:1", b.configDigest))
	recorded := func() string { text, _ := os.ReadFile(filepath.Join(rootDir, "images/imported")); return string(text) }
	eventually(t, 10*time.Second, "both recorded", func() bool { return strings.Count(recorded(), "\n") == 2 })
	log := string(must(os.ReadFile(crispdLog))(t))
	if !strings.Contains(log, "an archive is skipped") || !strings.Contains(log, dir+"/b.tar.gz") || strings.Contains(log, ".half") {
		t.Error("crispd's log says nothing of the bad archive")
	}
	removeImage(t, "example.test/a:1")
	removeImage(t, "example.test/c:1")
	before := recorded()
	write("c.tar.gz", gzipped(saved(t, []string{"example.test/c:2"}, b)))
	restartCrispd(t)
	eventually(t, 10*time.Second, "c imported again", is("example.test/c:2", b.configDigest))
	eventually(t, 10*time.Second, "that recorded", func() bool { return recorded() != before && strings.Count(recorded(), "\n") == 2 })
	if imageStatus(t, "example.test/a:1") != nil {
		t.Error("what has not changed was imported again")
	}
	killCrispd(t)
	for _, index := range must(filepath.Glob(rootDir + "/images/index.json*"))(t) {
		if err := os.WriteFile(index, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startCrispd(t)
	eventually(t, 10*time.Second, "a imported again after the index was lost", is("example.test/a:1", a.configDigest))
	eventually(t, 10*time.Second, "c imported again after the index was lost", is("example.test/c:2", b.configDigest))
	command(t, "crispctl", "image", "gc")
	pull(t, busybox) // which other tests find here
	removeImage(t, "example.test/a:1")
	removeImage(t, "example.test/c:2")
}

// An explained pull tells of each request which host it went to and why, and no secret; also when it fails.
func TestPullExplained(t *testing.T) {
	leaveNothing(t)
	name := "docker.io/crisp/config:latest" // by hosts.toml of a mirror
	t.Cleanup(func() { removeImage(t, name) })
	lines := strings.Split(strings.TrimSpace(command(t, "crispctl", "pull", "--explain", name)), "\n")
	if len(lines) < 5 || !strings.HasPrefix(lines[0], "registry docker.io: its hosts and certificates are those of /") ||
		!strings.HasPrefix(lines[1], "GET 127.0.0.1:5000 manifests/latest: mirror, host 1 of ") ||
		!strings.HasSuffix(lines[1], "; plain HTTP; without credentials; it answers 200") || !strings.HasPrefix(lines[len(lines)-1], "sha256:") {
		t.Errorf("told\n%s", strings.Join(lines, "\n"))
	}
	again := command(t, "crispctl", "pull", "--explain", name)
	if !strings.Contains(again, "HEAD 127.0.0.1:5000 manifests/latest") || !strings.Contains(again, "layers are here already") || strings.Contains(again, "blobs/") {
		t.Errorf("of an image that is here it told\n%s", again)
	}
	program := exec.Command("crispctl", "pull", "--explain", "--user", "somebody", registry+"/crisp/not-here:latest")
	program.Stdin = strings.NewReader("a secret\n")
	output, err := program.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "the registry itself, host 1 of 1") || !strings.Contains(string(output), "it answers 404") ||
		!strings.Contains(string(output), "\ncrispctl: pull ") || strings.Contains(string(output), "secret") {
		t.Errorf("%v:\n%s", err, output)
	}
}

// inspect and history tell what the configuration says, and what the layers take.
func TestImageInspectAndHistory(t *testing.T) {
	leaveNothing(t)
	m := newImage(t, 100000)
	m.config = bytes.Replace(m.config, []byte(`"config":{}`), []byte(`"config":{"User":"7"},"history":[
		{"created":"2020-01-02T03:04:05.678Z","created_by":"ADD a long command `+strings.Repeat("x", 100)+`","comment":"the \u001b[31m first"},
		{"created_by":"ENV nothing","empty_layer":true}]`), 1)
	m.configDigest = digestOf(m.config)
	importFile(t, saved(t, []string{"example.test/told:1"}, m))
	var told []struct {
		ID        string
		RepoTags  []string
		ImageSpec struct{ Config struct{ User string } }
		Layers    []struct{ Size int }
	}
	if err := json.Unmarshal([]byte(command(t, "crispctl", "image", "inspect", "example.test/told:1", m.configDigest)), &told); err != nil {
		t.Fatal(err)
	}
	if len(told) != 2 || told[1].ID != m.configDigest || told[0].RepoTags[0] != "example.test/told:1" || told[0].ImageSpec.Config.User != "7" || told[0].Layers[0].Size < 100000 {
		t.Errorf("inspect told %+v", told)
	}
	lines := strings.Split(command(t, "crispctl", "image", "history", "example.test/told:1"), "\n")
	if len(lines) != 4 || !strings.Contains(lines[1], "-         ENV nothing") || !strings.HasPrefix(lines[2], "2020-01-02T03:04:05  ") || !strings.Contains(lines[2], "…  the ?[31m first") {
		t.Errorf("history told\n%s", strings.Join(lines, "\n"))
	}
	removeImage(t, "example.test/told:1")
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

// An image of as many layers as can be is told of in one message; one of too many names is refused before anything of its archive is there.
func TestImportOfManyLayersAndNames(t *testing.T) {
	leaveNothing(t)
	var files []archived
	var layers, ids []string
	for i := 0; i < 400; i++ {
		data := tarOf(t, archived{fmt.Sprint(i), []byte(fmt.Sprint(i))})
		files, layers, ids = append(files, archived{fmt.Sprint(i), data}), append(layers, fmt.Sprint(i)), append(ids, digestOf(data))
	}
	config := jsonOf(t, object{"architecture": "amd64", "os": "linux", "config": object{}, "rootfs": object{"type": "layers", "diff_ids": ids}})
	files = append(files, archived{"config", config}, archived{"manifest.json", jsonOf(t, []object{{"Config": "config", "RepoTags": []string{"example.test/layers:1"}, "Layers": layers}})})
	if said := importFile(t, tarOf(t, files...), "--digests"); said != "example.test/layers:1\n" {
		t.Errorf("crispctl said %q", said)
	}
	removeImage(t, "example.test/layers:1")
	a, b := newImage(t, 1000), newImage(t, 2000)
	index := []object{pointTo(a.manifest, named("example.test/good:1"))}
	for i := 0; i < 399; i++ {
		index = append(index, pointTo(b.manifest, named(fmt.Sprintf("example.test/%s:%d", strings.Repeat("x", 100), i))))
	}
	importFails(t, layout(t, indexOf(t, index...), a.manifest, a.config, a.layer, b.manifest, b.config, b.layer), "gives an image 400 names", "above 16 KiB")
	if got := imageStatus(t, "example.test/good:1"); got != nil {
		t.Errorf("of a bad archive there is %v", got)
	}
	if said := importFile(t, saved(t, []string{"example.test/same:1", "example.test/same:1"}, a, b)); said != "example.test/same:1\n" {
		t.Errorf("of two images of one name crispctl said %q", said)
	}
	removeImage(t, "example.test/same:1")
}

// A name with a digest is the archive's to give where the digest is the image's own; nobody else gives one.
func TestImportOfNamesByDigest(t *testing.T) {
	leaveNothing(t)
	m := newImage(t, 1000)
	name := "example.test/made@" + digestOf(m.manifest)
	if said := importFile(t, layout(t, indexOf(t, pointTo(m.manifest, named(name))), m.manifest, m.config, m.layer)); said != name+"\n" {
		t.Errorf("crispctl said %q", said)
	}
	removeImage(t, name)
	said, err := tryCommand("crispctl", "image", "import", inFile(t, saved(t, []string{"example.test/made:1"}, m)), "--name", name)
	if err == nil || !strings.Contains(said, "ends in a tag, not in a digest") {
		t.Errorf("--name %s: %v: %q", name, err, said)
	}
}

// What stands where an archive shall be written is replaced only where it is a file; an export that is interrupted leaves none.
func TestExportMistakes(t *testing.T) {
	leaveNothing(t)
	m, dir, name := newImage(t, 50<<20), t.TempDir(), "example.test/mistakes:1"
	importFile(t, saved(t, []string{name}, m))
	t.Cleanup(func() { removeImage(t, name) })
	if err := syscall.Mknod(dir+"/null", syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, dir + "/null", ""} {
		said, err := tryCommand("crispctl", "image", "export", "-o", path, name)
		if err == nil || said != "crispctl: --output wants the name of a file, which “"+path+"” is not\n" {
			t.Errorf("export to %q: %v: %q", path, err, said)
		}
	}
	said, err := tryCommand("sh", "-c", "crispctl image export "+name+" >&-")
	if err == nil || !strings.Contains(said, "is no file, pipe or socket") {
		t.Errorf("export to a closed stdout: %v: %q", err, said)
	}
	program := exec.Command("crispctl", "image", "export", "-o", dir+"/interrupted", name)
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the file begun", func() bool { return len(must(os.ReadDir(dir))(t)) == 2 })
	_ = program.Process.Signal(syscall.SIGTERM)
	if err := program.Wait(); err == nil {
		t.Skip("the export was done before it could be interrupted")
	}
	if left := must(os.ReadDir(dir))(t); len(left) != 1 {
		t.Errorf("the interrupted export left %v", left)
	}
}

// What an archive is unpacked into leaves the disk what a layer would leave it. The disk is one of 26 GiB that has hardly a byte in it.
func TestImportThatWouldFillTheDisk(t *testing.T) {
	dir := t.TempDir()
	disk, incoming := filepath.Join(dir, "disk"), rootDir+"/images/incoming"
	archive := inFile(t, gzipped(tarOf(t, archived{"zeros", make([]byte, 400<<20)})))
	command(t, "truncate", "-s", "26G", disk)
	command(t, "mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1", disk)
	killCrispd(t)
	t.Cleanup(func() { killCrispd(t); command(t, "umount", incoming); startCrispd(t) })
	command(t, "mount", "-o", "loop", disk, incoming)
	startCrispd(t) // which sweeps there
	var fs syscall.Statfs_t
	if err := syscall.Statfs(incoming, &fs); err != nil {
		t.Fatal(err)
	}
	command(t, "fallocate", "-l", fmt.Sprint(int64(fs.Bavail)*fs.Bsize-300<<20), incoming+"/rest")
	said, err := tryCommand("crispctl", "image", "import", archive)
	if err == nil || !strings.Contains(said, "the disk is full but for 2") || strings.Count(said, "\n") != 1 {
		t.Errorf("import: %v: %q", err, said)
	}
}
