package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func honest(http.ResponseWriter, *http.Request) bool { return false }

func infoOf(t *testing.T, key string, out any) {
	t.Helper()
	info := must(runtime.Status(soon(t), &cri.StatusRequest{Verbose: true}))(t).Info[key]
	if err := json.Unmarshal([]byte(info), out); err != nil {
		t.Fatalf("%s in Status: %v: %q", key, err, info)
	}
}

func storeDir(t *testing.T) string {
	t.Helper()
	var config struct{ Root string }
	infoOf(t, "config", &config)
	return config.Root
}

// A layer is damaged on the disk under a running container: the check finds it, nothing new runs on it, it is pulled again by
// itself, and the container keeps the layer it has until it ends.
func TestImageCheck(t *testing.T) {
	leaveNothing(t)
	name := registry + "/crisp/changes:latest"
	pullFor(t, name)
	p := newPod(t)
	config := containerConfig("main", shell("sleep 1000")...)
	config.Image = spec(name)
	c := p.run(t, config)
	kept := must(filepath.Glob(storeDir(t) + "/layers/*/tree/kept"))(t)
	if len(kept) != 1 {
		t.Fatalf("the file is in the layers %v", kept)
	}
	info := must(os.Stat(kept[0]))(t)
	if err := os.WriteFile(kept[0], []byte("KEPT"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(kept[0], info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	said, err := tryCommand("crispctl", "image", "check", "--dry-run", name)
	if err == nil || !strings.HasPrefix(said, "damaged: "+name+": layer sha256:") || !strings.HasSuffix(said, ": 1 damaged, 0 mended\n") {
		t.Errorf("check: %v: %q", err, said)
	}
	if imageStatus(t, name) != nil {
		t.Error("the damaged image is there as if it were none")
	}
	_, err = p.tryCreate(t, config)
	fails(t, err, is(codes.NotFound), "damaged; pull it again")
	said = command(t, "crispctl", "image", "check")
	if !strings.Contains(said, "mended: "+name+": layer sha256:") || !strings.HasSuffix(said, ": 0 damaged, 1 mended\n") {
		t.Errorf("check: %q", said)
	}
	if got := c.sh(t, "cat /tree/kept"); got != "KEPT" {
		t.Errorf("the container that ran sees %q", got)
	}
	config = containerConfig("new", shell("cat /tree/kept")...)
	config.Image = spec(name)
	if got := p.output(t, config); got != "kept\n" {
		t.Errorf("a new container sees %q", got)
	}
	c.remove(t)
	eventually(t, 5*time.Second, "the old layer gone", func() bool { _, err := os.Stat(kept[0]); return err != nil })
	if said := command(t, "crispctl", "image", "check", name); !strings.HasSuffix(said, ": 0 damaged, 0 mended\n") {
		t.Errorf("check: %q", said)
	}
	_, err = tryCommand("crispctl", "image", "check", "no/such:image")
	if err == nil {
		t.Error("an image that is not here was checked")
	}
}

// An image that is removed while a check reads others is neither damaged nor brought back.
func TestImageCheckWhileOneIsRemoved(t *testing.T) {
	leaveNothing(t)
	large, small := newImage(t, 300<<20), newImage(t, 1000)
	importFile(t, saved(t, []string{"example.test/large:1"}, large))
	importFile(t, saved(t, []string{"example.test/small:1"}, small))
	t.Cleanup(func() { removeImage(t, "example.test/large:1") })
	ended := make(chan string, 1)
	go func() { said, _ := tryCommand("crispctl", "image", "check"); ended <- said }()
	time.Sleep(100 * time.Millisecond) // it reads the large one
	removeImage(t, "example.test/small:1")
	if len(ended) > 0 {
		t.Fatal("the check ended before the removal")
	}
	if said := <-ended; !strings.HasSuffix(said, ": 0 damaged, 0 mended\n") {
		t.Errorf("check: %q", said)
	}
}

// Who can't have a damaged image mended can remove it, though nothing lists it.
func TestImageThatIsDamagedIsRemoved(t *testing.T) {
	leaveNothing(t)
	importFile(t, saved(t, []string{"example.test/spoilt:1"}, newImage(t, 1000)))
	files := must(filepath.Glob(storeDir(t) + "/layers/*/random"))(t)
	if len(files) != 1 {
		t.Fatalf("the file is in the layers %v", files)
	}
	if err := os.WriteFile(files[0], []byte("spoilt"), 0o644); err != nil {
		t.Fatal(err)
	}
	if said, err := tryCommand("crispctl", "image", "check"); err == nil || imageStatus(t, "example.test/spoilt:1") != nil {
		t.Errorf("check: %v: %q", err, said)
	}
	command(t, "crispctl", "rmi", "example.test/spoilt:1")
	if said, err := tryCommand("crispctl", "rmi", "example.test/spoilt:1"); err == nil || !strings.Contains(said, "there is no image") {
		t.Errorf("again: %v: %q", err, said)
	}
}

// What nobody needs is shown, counted, and collected.
func TestImageGc(t *testing.T) {
	leaveNothing(t)
	half := storeDir(t) + "/images/partial/sha256-" + strings.Repeat("a", 64)
	if err := os.WriteFile(half, make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	var counted struct{ Garbage struct{ Items, Bytes uint64 } }
	for _, arguments := range [][]string{{"--dry-run"}, nil} {
		said := command(t, "crispctl", append([]string{"image", "gc"}, arguments...)...)
		if !strings.Contains(said, "half download") || !strings.Contains(said, filepath.Base(half)) {
			t.Errorf("gc %v: %q", arguments, said)
		}
		_, err := os.Stat(half)
		infoOf(t, "images", &counted)
		if there := arguments != nil; there != (err == nil) || there != (counted.Garbage.Items == 1 && counted.Garbage.Bytes >= 100_000) {
			t.Errorf("after gc %v: %v, counted %+v", arguments, err, counted)
		}
	}
}

// A pull that can't fit fails before its first byte, with the numbers.
func TestPullThatCannotFit(t *testing.T) {
	leaveNothing(t)
	m := newImage(t, 1000)
	m.manifest = []byte(strings.Replace(string(m.manifest), `"size":2560}]`, `"size":9000000000000000}]`, 1))
	err := pullFrom(t, m.serve(t, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, m.layerDigest) {
			t.Error("the layer was asked for")
		}
		return honest(w, r)
	}), nil)
	fails(t, err, is(codes.ResourceExhausted), "it needs 17166137696 MiB of disk at least", "MiB are free")
}
