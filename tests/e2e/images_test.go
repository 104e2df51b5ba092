package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func pull(t *testing.T, name string) string {
	t.Helper()
	return must(image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(name)}))(t).ImageRef
}

// pullFor pulls an image that is removed when the test is over.
func pullFor(t *testing.T, name string) string {
	t.Helper()
	t.Cleanup(func() { must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}))(t) })
	return pull(t, name)
}

func imageStatus(t *testing.T, name string) *cri.Image {
	t.Helper()
	return must(image.ImageStatus(soon(t), &cri.ImageStatusRequest{Image: spec(name)}))(t).Image
}

// Every kind of change in three layers, each compressed another way, as the OCI image spec wants it.
func TestLayersChanges(t *testing.T) {
	leaveNothing(t)
	name := registry + "/crisp/changes:latest"
	pullFor(t, name)
	config := containerConfig("main", shell(`
cd /tree
for f in $(find . | sort); do
    if [ -L "$f" ]; then echo "$f -> $(readlink $f)"
    elif [ -c "$f" ]; then echo "$f device $(stat -c %t:%T "$f")"
    elif [ -p "$f" ]; then echo "$f fifo"
    elif [ -d "$f" ]; then echo "$f/"
    else echo "$f $(stat -c '%a %u:%g %h' "$f") $(cat "$f")"; fi
done
stat -c 'dated %Y' dated`)...)
	config.Image = spec(name)
	got := strings.Split(strings.TrimSpace(newPod(t).output(t, config)), "\n")
	want := []string{"./", "./absolute -> /etc/passwd", "./capable 755 0:0 1 x", "./changed 600 0:0 1 new", "./dangling -> /no/such/file", "./dated 644 0:0 1 dated", "./fifo fifo",
		"./hidden/", "./hidden/new 644 0:0 1 new", "./kept 644 0:0 1 kept", "./linked 644 0:0 2 linked", "./linked-too 644 0:0 2 linked",
		"./" + strings.Repeat("long", 60) + " 644 0:0 1 long", "./null device 1:3", "./owned 640 1234:2345 1 owned", "./setuid 4755 0:0 1 x", "./sub/", "./sub/c 644 0:0 1 c",
		"./symlink -> kept", "./xattr 644 0:0 1 x", "./\u00fcn\u00efc\u00f6de 644 0:0 1 unicode", "dated 1234567890"}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// An image of 300 layers runs.
func TestManyLayers(t *testing.T) {
	leaveNothing(t)
	name := registry + "/crisp/many-layers:latest"
	pullFor(t, name)
	config := containerConfig("main", shell(`ls /n | wc -l; cat /n/last /n/000 /n/150`)...)
	config.Image = spec(name)
	if got := newPod(t).output(t, config); got != "300\n298\n0\n150\n" {
		t.Errorf("%q", got)
	}
}

// What the image's configuration says about running it holds unless the request says otherwise.
func TestImageConfiguration(t *testing.T) {
	leaveNothing(t)
	name := registry + "/crisp/config:latest"
	pullFor(t, name)
	p := newPod(t)
	config := containerConfig("default")
	config.Image = spec(name)
	c := p.run(t, config)
	if got := c.sh(t, `id; pwd; stat -c %u:%g .; echo $GREETING; [ "${EMPTY-unset}" = "" ] && echo empty; echo $HOME; ls -d /var/data`); got !=
		"uid=1234(app) gid=2345(app) groups=2345(app),3456(extra)\n/made/by/the/runtime\n0:0\nhello\nempty\n/home/app\n/var/data\n" {
		t.Errorf("%q", got)
	}
	eventually(t, 5*time.Second, "its log there", func() bool { data, _ := os.ReadFile(c.logPath()); return strings.Contains(string(data), "default") })
	begin := time.Now()
	c.stop(t, 30)
	if status := c.ended(t); time.Since(begin) > 5*time.Second || status.ExitCode != 10 {
		t.Errorf("the image's stop signal: exit code %d after %v", status.ExitCode, time.Since(begin))
	}

	config = containerConfig("arguments")
	config.Image = spec(name)
	config.Args = []string{`echo "$0 $*"`, "one", "two"} // for the image's entrypoint
	config.Envs = []*cri.KeyValue{{Key: "GREETING", Value: "bye"}}
	if got := p.output(t, config); got != "one two\n" {
		t.Errorf("args with the image's entrypoint: %q", got)
	}
	config = containerConfig("command", "sh", "-c", "echo $GREETING; id -u; pwd")
	config.Image = spec(name)
	config.Envs = []*cri.KeyValue{{Key: "GREETING", Value: "bye"}}
	config.WorkingDir = "/tmp"
	config.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 77}
	if got := p.output(t, config); got != "bye\n77\n/tmp\n" {
		t.Errorf("command, env, directory and user of the request: %q", got)
	}
	config = containerConfig("spec", "true")
	config.Image = &cri.ImageSpec{Image: imageStatus(t, name).Id, UserSpecifiedImage: name, Annotations: map[string]string{"kept": "yes"}}
	made := p.create(t, config)
	for range 2 {
		if shown := made.status(t).Image; shown.UserSpecifiedImage != name || shown.Annotations["kept"] != "yes" {
			t.Errorf("the container's image is %v", shown)
		}
		restartCrispd(t)
	}
	status := imageStatus(t, name)
	if status.Username != "app" || status.Uid != nil || status.Size == 0 || status.Spec == nil {
		t.Errorf("%v", status)
	}
}

// Names as Docker knows them lead to one image, found by tag, digest, id and its prefix; removed by id it is gone with all names.
func TestImageNames(t *testing.T) {
	leaveNothing(t)
	id := pull(t, "gcr.io/crisp/empty-layer")
	pull(t, "registry.k8s.io/crisp/empty-layer:latest")
	status := imageStatus(t, "gcr.io/crisp/empty-layer")
	if status == nil || status.Id != id || !slices.Contains(status.RepoTags, "gcr.io/crisp/empty-layer:latest") || !slices.Contains(status.RepoTags, "registry.k8s.io/crisp/empty-layer:latest") || len(status.RepoTags) != 2 {
		t.Fatalf("%v", status)
	}
	bare := strings.TrimPrefix(id, "sha256:")
	for _, name := range append([]string{id, bare, bare[:12], "registry.k8s.io/crisp/empty-layer"}, append(status.RepoTags, status.RepoDigests...)...) {
		if found := imageStatus(t, name); found == nil || found.Id != id {
			t.Errorf("by %s: %v", name, found)
		}
	}
	digest := status.RepoDigests[0]
	if again := pull(t, digest); again != id {
		t.Errorf("by digest: %s", again)
	}
	if found := imageStatus(t, "busybox"); found == nil || !slices.Contains(found.RepoTags, busybox) {
		t.Errorf("busybox is %v", found)
	}
	if unknown := imageStatus(t, "docker.io/library/never-heard-of:it"); unknown != nil {
		t.Errorf("an unknown image is %v", unknown)
	}
	listed := must(image.ListImages(soon(t), &cri.ListImagesRequest{Filter: &cri.ImageFilter{Image: spec("gcr.io/crisp/empty-layer")}}))(t).Images
	if len(listed) != 1 || listed[0].Id != id {
		t.Errorf("listed by name: %v", listed)
	}
	must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(id)}))(t)
	if found := imageStatus(t, "registry.k8s.io/crisp/empty-layer"); found != nil {
		t.Errorf("after its removal: %v", found)
	}
}

// An image that a container runs on can be removed; the container goes on, and its layers go with it.
func TestImageRemovedUnderAContainer(t *testing.T) {
	leaveNothing(t)
	name := registry + "/crisp/config:latest"
	pullFor(t, name)
	config := containerConfig("main", "sleep", "1000")
	config.Image = spec(name)
	c := newPod(t).run(t, config)
	must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}))(t)
	if got := c.sh(t, "cat /etc/group | grep extra"); got != "extra:x:3456:app\n" {
		t.Errorf("%q", got)
	}
	if status := c.status(t); status.Image.Image != name && status.ImageRef == "" {
		t.Errorf("%v", status)
	}
}

// Pulls at the same time are one, and lists answer meanwhile.
func TestConcurrentPulls(t *testing.T) {
	leaveNothing(t)
	name := registry + "/e2e-test-images/nginx:1.14-2"
	var wait sync.WaitGroup
	ids := make([]string, 8)
	t.Cleanup(func() { must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}))(t) })
	for i := range ids {
		wait.Go(func() {
			answer, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(name)})
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = answer.ImageRef
		})
	}
	for range 20 {
		begin := time.Now()
		must(image.ListImages(soon(t), &cri.ListImagesRequest{}))(t)
		if took := time.Since(begin); took > 200*time.Millisecond {
			t.Errorf("ListImages took %v beside a pull", took)
		}
		time.Sleep(5 * time.Millisecond)
	}
	wait.Wait()
	if slices.Sort(ids); ids[0] == "" || ids[0] != ids[7] {
		t.Errorf("%v", ids)
	}
}

// A pull whose caller leaves stops; a later one works.
func TestPullOfACallerWhoLeaves(t *testing.T) {
	leaveNothing(t)
	name := registry + "/crisp/config:latest"
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := image.PullImage(ctx, &cri.PullImageRequest{Image: spec(name)})
	fails(t, err, is(codes.DeadlineExceeded))
	pullFor(t, name)
}

// crisp-pull ends by itself when nothing was asked of it for a while, and the next pull finds another one.
func TestPullHelperEndsWhenIdle(t *testing.T) {
	name := registry + "/crisp/config:latest"
	pullFor(t, name)
	if len(processesOf("crisp-pull")) != 1 {
		t.Errorf("crisp-pull after a pull: %v", processesOf("crisp-pull"))
	}
	eventually(t, 30*time.Second, "crisp-pull gone", func() bool { return len(processesOf("crisp-pull")) == 0 })
	pull(t, registry+"/crisp/empty-layer:latest")
	must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(registry + "/crisp/empty-layer:latest")}))(t)
}

// A pull whose helper is killed fails, or was done already; the next one works.
func TestPullHelperDies(t *testing.T) {
	leaveNothing(t)
	name := registry + "/e2e-test-images/nginx:1.14-2"
	for range 5 {
		done := make(chan error)
		go func() {
			_, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(name)})
			done <- err
		}()
		time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond)
		pullerGone(t)
		if err := <-done; err != nil {
			t.Log(err)
		}
		pull(t, name)
		must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}))(t)
	}
}

func TestImageFsInfo(t *testing.T) {
	answer := must(image.ImageFsInfo(soon(t), &cri.ImageFsInfoRequest{}))(t)
	if len(answer.ImageFilesystems) != 1 || answer.ImageFilesystems[0].UsedBytes.GetValue() < 1<<20 || answer.ImageFilesystems[0].InodesUsed.GetValue() < 10 ||
		!strings.HasPrefix(answer.ImageFilesystems[0].FsId.GetMountpoint(), rootDir) {
		t.Errorf("%v", answer)
	}
	if of := answer.ContainerFilesystems; len(of) != 1 || of[0].UsedBytes == nil || of[0].InodesUsed == nil || of[0].FsId.GetMountpoint() == "" {
		t.Errorf("%v", answer)
	}
}

// An unpack can never write outside its layer, whatever the tar says.
func TestLayersThatEscape(t *testing.T) {
	victim := "/var/tmp/crisp-escape-victim"
	if err := os.WriteFile(victim, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(victim) })
	leaveNothing(t)
	for _, name := range []string{"dotdot", "absolute", "symlink", "symlink-earlier", "hardlink", "whiteout"} {
		full := registry + "/crisp/escape-" + name + ":latest"
		if _, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(full)}); err != nil {
			t.Logf("%s: %v", name, err)
			continue
		}
		if name == "hardlink" {
			config := containerConfig("main", "cat", "/stolen")
			config.Image = spec(full)
			p := newPod(t)
			if c, err := p.tryCreate(t, config); err == nil && c.tryStart(t) == nil {
				c.ended(t)
				if got := c.stdout(t); strings.Contains(got, "crisp-node") || strings.Contains(got, "sshd") {
					t.Errorf("a hard link shows the node's file: %q", got)
				}
			}
			p.remove(t)
		}
		must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(full)}))(t)
	}
	if _, err := os.Lstat("/var/tmp/crisp-escaped"); err == nil {
		os.Remove("/var/tmp/crisp-escaped")
		t.Error("a layer wrote to the node's /var/tmp")
	}
	if _, err := os.Stat(victim); err != nil {
		t.Error("a whiteout removed a file of the node")
	}
	if matches, _ := filepath.Glob(filepath.Join(rootDir, "crisp-escaped")); len(matches) > 0 {
		t.Error("a layer wrote into the store")
	}
}

// What cannot be pulled says why, and leaves nothing.
func TestBadPulls(t *testing.T) {
	leaveNothing(t)
	for name, bad := range map[string]struct {
		codes []codes.Code
		words []string
	}{
		registry + "/crisp/no-such-repository:latest":                   {is(codes.NotFound), []string{"crisp/no-such-repository"}},
		registry + "/library/busybox:no-such-tag":                       {is(codes.NotFound), []string{"library/busybox", "no-such-tag"}},
		registry + "/library/busybox@sha256:" + strings.Repeat("0", 64): {is(codes.NotFound), []string{"library/busybox"}},
		registry + "/crisp/other-platform:latest":                       {is(codes.NotFound), []string{"riscv64"}},
		registry + "/crisp/wrong-diff-id:latest":                        {is(codes.Internal, codes.InvalidArgument), []string{"wrong-diff-id"}},
		"127.0.0.1:1/library/busybox:latest":                            {is(codes.Unknown), []string{"RegistryUnavailable", "127.0.0.1:1"}},
		"no-such-host.invalid/library/busybox:latest":                   {is(codes.Unknown), []string{"RegistryUnavailable", "no-such-host.invalid"}},
		"UPPER/Case":               {is(codes.InvalidArgument), []string{"UPPER/Case"}},
		"":                         {is(codes.InvalidArgument), nil},
		"busybox@sha256:0123":      {is(codes.InvalidArgument), []string{"sha256:0123"}},
		"../../etc/passwd":         {is(codes.InvalidArgument), []string{"../../etc/passwd"}},
		strings.Repeat("a/", 1000): {is(codes.InvalidArgument), nil},
	} {
		_, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(name)})
		fails(t, err, bad.codes, bad.words...)
		if err != nil && slices.Contains(bad.words, "RegistryUnavailable") && !strings.Contains(err.Error(), "desc = RegistryUnavailable") {
			t.Errorf("%v: the kubelet wants RegistryUnavailable at the beginning", err)
		}
	}
}
