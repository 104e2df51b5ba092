package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// mounting is a container of busybox with mounts that sleeps.
func mounting(name string, mounts ...*cri.Mount) *cri.ContainerConfig {
	config := containerConfig(name, "sleep", "1000")
	config.Mounts = mounts
	return config
}

// write puts a file on the node, with its parents.
func write(t *testing.T, text string, path ...string) string {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func imageMount(name, path, sub string) *cri.Mount {
	return &cri.Mount{Image: spec(name), ContainerPath: path, ImageSubPath: sub, Readonly: true}
}

// with adds mount_options, a field that the clients' version of cri-api does not have.
func with(mount *cri.Mount, options ...string) *cri.Mount {
	var raw []byte
	for _, option := range options {
		raw = protowire.AppendString(protowire.AppendTag(raw, 11, protowire.BytesType), option)
	}
	mount.ProtoReflect().SetUnknown(raw)
	return mount
}

// An image with nothing to run in it is a volume: all of it, a part of it, of one layer or of many, as its layers together have it.
func TestImageMounts(t *testing.T) {
	data, one, many := registry+"/crisp/data:latest", registry+"/crisp/data-one:latest", registry+"/crisp/many-layers:latest"
	id := pullFor(t, data)
	pullFor(t, one)
	pullFor(t, many)
	leaveNothing(t)
	config := mounting("main", imageMount(id, "/all", ""), imageMount(data, "/part", "models/deep"), imageMount(data, "/file", "models/new"),
		imageMount(data, "/by-link", "models/latest/"), imageMount(data, "/by-absolute-link", "./absolute"), imageMount(one, "/one", ""), imageMount(many, "/many", "n"),
		imageMount(data, "/up", "up/models/deep"))
	c := newPod(t).run(t, config)
	for script, want := range map[string]string{
		"cd /all && find . | sort":                 ".\n./absolute\n./models\n./models/deep\n./models/deep/weights\n./models/latest\n./models/new\n./models/small\n./root\n./run\n./up\n",
		"ls /all | wc -l; ls /one/models":          "5\ndeep\ngone\nlatest\nsmall\n",
		"cat /part/* /file /by-link/weights":       "weights\nnew\nweights\n",
		"cat /by-absolute-link/weights":            "weights\n",
		"ls /many | wc -l; cat /many/last":         "300\n298\n",
		"touch /all/x /all/models/small 2>&1":      "touch: /all/x: Read-only file system\ntouch: /all/models/small: Read-only file system\n",
		"mount | grep -c ' /all type overlay (ro'": "1\n",
		"/all/run": "ran\n",
	} {
		if got := c.sh(t, script+"; true"); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	status := c.status(t)
	if m := status.Mounts[1]; m.Image.GetImage() != data || m.ImageSubPath != "models/deep" || !m.Readonly || m.HostPath != "" || m.ContainerPath != "/part" {
		t.Errorf("%v", m)
	}
}

// "The image of my volume was removed while I was reading": its layers stay as long as the container, a restart of crispd notwithstanding.
func TestImageMountedIsKept(t *testing.T) {
	name := registry + "/crisp/data:latest"
	layers := func() int { return len(must(os.ReadDir(filepath.Join(rootDir, "layers")))(t)) }
	before := layers()
	leaveNothing(t)
	pullFor(t, name)
	p := newPod(t)
	c := p.run(t, mounting("main", imageMount(name, "/data", "")))
	must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}))(t)
	restartCrispd(t)
	if got := c.sh(t, "cat /data/models/new /data/models/small"); got != "new\nsmall\n" {
		t.Errorf("%q", got)
	}
	_, err := p.tryCreate(t, mounting("second", imageMount(name, "/data", "")))
	fails(t, err, is(codes.NotFound), "ImageVolumeMountFailed: container second", "crisp/data")
	c.remove(t)
	eventually(t, patience, "the layers gone with the container", func() bool { return layers() == before })
}

// The kubelet tells its user by the word at the beginning that it was the volume.
func TestImageMountsThatCannotBe(t *testing.T) {
	name := registry + "/crisp/data:latest"
	pullFor(t, name)
	leaveNothing(t)
	p := newPod(t)
	for _, bad := range map[string]struct {
		mount *cri.Mount
		code  codes.Code
		words string
	}{
		"no such image":       {imageMount("docker.io/library/never-heard-of:it", "/data", ""), codes.NotFound, "never-heard-of"},
		"no such sub path":    {imageMount(name, "/data", "models/missing"), codes.InvalidArgument, "models/missing"},
		"deleted sub path":    {imageMount(name, "/data", "models/gone"), codes.InvalidArgument, "models/gone"},
		"below a file":        {imageMount(name, "/data", "models/small/x"), codes.InvalidArgument, "models/small/x"},
		"absolute":            {imageMount(name, "/data", "/models"), codes.InvalidArgument, "/models"},
		"by ..":               {imageMount(name, "/data", "models/../../../etc"), codes.InvalidArgument, "models/../../../etc"},
		"by a symlink, up":    {imageMount(name, "/data", "up/etc"), codes.InvalidArgument, "up/etc"},
		"by a symlink to /":   {imageMount(name, "/data", "root/etc"), codes.InvalidArgument, "root/etc"},
		"with a host path":    {&cri.Mount{Image: spec(name), HostPath: "/etc", ContainerPath: "/data"}, codes.InvalidArgument, "/etc"},
		"without a name":      {&cri.Mount{Image: spec(""), ContainerPath: "/data"}, codes.InvalidArgument, "none"},
		"propagating outward": {&cri.Mount{Image: spec(name), ContainerPath: "/data", Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL}, codes.InvalidArgument, "propagated"},
	} {
		_, err := p.tryCreate(t, mounting("main", bad.mount))
		fails(t, err, is(bad.code), "ImageVolumeMountFailed: container main", bad.words)
	}
}

// noexec, nodev and nosuid, of a host path and of an image, and in what is mounted below as well.
func TestMountOptions(t *testing.T) {
	name := registry + "/crisp/data:latest"
	pullFor(t, name)
	leaveNothing(t)
	features := must(runtime.Status(soon(t), &cri.StatusRequest{}))(t).Features
	if !bytes.Contains(features.ProtoReflect().GetUnknown(), protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.VarintType), 1)) {
		t.Error("Status does not tell that mount options are there")
	}
	folder := filepath.Join(rootDir, "mount-options") // where no noexec is
	t.Cleanup(func() { os.RemoveAll(folder) })
	program := write(t, "#!/bin/sh\necho ran\n", folder, "program")
	_ = os.Chmod(program, 0o755)
	_ = os.Mkdir(filepath.Join(folder, "below"), 0o755)
	command(t, "mount", "-t", "tmpfs", "tmpfs", filepath.Join(folder, "below"))
	t.Cleanup(func() { command(t, "umount", filepath.Join(folder, "below")) })
	all := []string{"noexec", "nodev", "nosuid"}
	p := newPod(t)
	c := p.run(t, mounting("main", &cri.Mount{HostPath: folder, ContainerPath: "/plain"}, with(&cri.Mount{HostPath: folder, ContainerPath: "/options"}, all...),
		with(&cri.Mount{HostPath: folder, ContainerPath: "/one"}, "nodev"), with(imageMount(name, "/image", ""), all...)))
	if got := c.sh(t, "/plain/program; /one/program; /options/program 2>&1; /image/run 2>&1; true"); got != "ran\nran\nsh: /options/program: Permission denied\nsh: /image/run: Permission denied\n" {
		t.Errorf("%q", got)
	}
	for path, want := range map[string]string{"/plain": "", "/options": "nosuid,nodev,noexec", "/options/below": "nosuid,nodev,noexec", "/one": "nodev", "/one/below": "nodev", "/image": "nosuid,nodev,noexec"} {
		line := c.sh(t, "grep ' "+path+" ' /proc/self/mountinfo | cut -d' ' -f6")
		got := slices.DeleteFunc(strings.Split(strings.TrimSpace(line), ","), func(o string) bool { return !strings.HasPrefix(o, "no") || strings.HasSuffix(o, "time") })
		if strings.Join(got, ",") != want {
			t.Errorf("%s: %s, want %q", path, line, want)
		}
	}
	for _, option := range []string{"size=5", "", "noexec,nodev", "idmap"} {
		_, err := p.tryCreate(t, mounting("bad", with(&cri.Mount{HostPath: folder, ContainerPath: "/bad"}, option)))
		fails(t, err, is(codes.Unimplemented, codes.InvalidArgument), "option", strconv.Quote(option))
	}
}

// "hostPath says a directory that is not there yet": it is made, with its parents. What is no directory and in the way is an error.
func TestMissingHostDirectories(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	folder := t.TempDir()
	missing := filepath.Join(folder, "is", "made")
	c := p.run(t, mounting("main", &cri.Mount{HostPath: missing, ContainerPath: "/data"}))
	c.sh(t, "echo here >/data/file")
	if got := string(must(os.ReadFile(filepath.Join(missing, "file")))(t)); got != "here\n" {
		t.Errorf("%q", got)
	}
	if st := must(os.Stat(missing))(t); st.Mode().Perm() != 0o755 {
		t.Error(st.Mode())
	}
	file := write(t, "", folder, "file")
	dangling := filepath.Join(folder, "dangling")
	if err := os.Symlink(filepath.Join(folder, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(file, "below"), dangling} {
		_, err := p.tryCreate(t, mounting("second", &cri.Mount{HostPath: path, ContainerPath: "/data"}))
		fails(t, err, is(codes.InvalidArgument), path, "/data")
	}
	if _, err := os.Stat(filepath.Join(folder, "nowhere")); err == nil {
		t.Error("a directory was made through a dangling symlink")
	}
}

func labelOf(t *testing.T, path string) string {
	t.Helper()
	value := make([]byte, 256)
	n, err := syscall.Getxattr(path, "security.selinux", value)
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(value[:n]), "\x00")
}

// A volume that asks for it gets the label of the container's files: what the request says of it, the pod's, and two categories that are the pod's
// alone. Who asks for no label on a node without SELinux gets none.
func TestVolumesAreRelabelled(t *testing.T) {
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		t.Skip("SELinux is in charge here: tests/e2e/selinux_test.go")
	}
	leaveNothing(t)
	folder := filepath.Join(rootDir, "relabel")
	t.Cleanup(func() { os.RemoveAll(folder) })
	write(t, "", folder, "sub", "file")
	outside := write(t, "", rootDir, "relabel-outside")
	t.Cleanup(func() { os.Remove(outside) })
	_ = os.Symlink(outside, filepath.Join(folder, "link"))
	level := &cri.SELinuxOption{Level: "s0:c4,c5"}
	of := func(p *pod, options *cri.SELinuxOption, relabel bool) string {
		t.Helper()
		config := mounting("main", &cri.Mount{HostPath: folder, ContainerPath: "/data", SelinuxRelabel: relabel})
		config.Linux.SecurityContext.SelinuxOptions = options
		c := p.run(t, config)
		if mount := c.status(t).Mounts[0]; mount.SelinuxRelabel != relabel {
			t.Error(mount)
		}
		c.remove(t)
		top, file := labelOf(t, folder), labelOf(t, filepath.Join(folder, "sub", "file"))
		if top != file {
			t.Errorf("the file is %s in %s", file, top)
		}
		return top
	}
	plain, labelled := newPod(t), newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.SelinuxOptions = level })
	if got := of(plain, nil, true); got != "" {
		t.Error(got)
	}
	if got := of(plain, level, false); got != "" {
		t.Error(got)
	}
	if got := of(plain, level, true); got != "system_u:object_r:container_file_t:s0:c4,c5" {
		t.Error(got)
	}
	first := of(plain, &cri.SELinuxOption{Type: "some_t", User: "some_u"}, true)
	if !regexp.MustCompile(`^some_u:object_r:container_file_t:s0:c\d+,c\d+$`).MatchString(first) {
		t.Error(first)
	}
	if again := of(plain, &cri.SELinuxOption{Type: "some_t", User: "some_u"}, true); again != first {
		t.Errorf("%s, then %s in the same pod", first, again)
	}
	restartCrispd(t)
	if again := of(plain, &cri.SELinuxOption{Type: "some_t", User: "some_u"}, true); again != first {
		t.Errorf("%s, then %s in the same pod by the next crispd", first, again)
	}
	if other := of(newPod(t), &cri.SELinuxOption{Type: "some_t", User: "some_u"}, true); other == first {
		t.Errorf("two pods have %s", first)
	}
	if got := of(labelled, nil, true); got != "system_u:object_r:container_file_t:s0:c4,c5" {
		t.Error(got)
	}
	if got := labelOf(t, outside); got != "" {
		t.Error("a symlink was followed:", got)
	}
	for _, bad := range []*cri.SELinuxOption{{Level: "s0,c4,c5"}, {Type: "a:b"}, {User: "x\",suid"}, {Role: "x y"}} {
		config := mounting("bad")
		config.Linux.SecurityContext.SelinuxOptions = bad
		_, err := plain.tryCreate(t, config)
		fails(t, err, is(codes.InvalidArgument), "selinux_options")
	}
	config := mounting("bad", &cri.Mount{HostPath: "/etc", ContainerPath: "/data", SelinuxRelabel: true})
	config.Linux.SecurityContext.SelinuxOptions = level
	_, err := plain.tryCreate(t, config)
	fails(t, err, is(codes.InvalidArgument), "mount at /data", "/etc")
}

// Read-only is the top alone, recursively read-only all that is mounted below it too; what CRI does not allow with it is refused.
func TestRecursivelyReadOnly(t *testing.T) {
	leaveNothing(t)
	for _, handler := range must(runtime.Status(soon(t), &cri.StatusRequest{}))(t).RuntimeHandlers {
		if !handler.Features.GetRecursiveReadOnlyMounts() {
			t.Errorf("handler %q does not tell of it", handler.Name)
		}
	}
	folder := filepath.Join(nodeDir, "tmp", "recursive")
	below := filepath.Join(folder, "below")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	command(t, "mount", "-t", "tmpfs", "tmpfs", below)
	t.Cleanup(func() { command(t, "umount", below) })
	p := newPod(t)
	c := p.run(t, mounting("main", &cri.Mount{HostPath: folder, ContainerPath: "/plain", Readonly: true},
		&cri.Mount{HostPath: folder, ContainerPath: "/all", Readonly: true, RecursiveReadOnly: true}))
	if got := c.sh(t, "for f in /plain/x /plain/below/x /all/x /all/below/y; do touch $f 2>/dev/null && echo $f; done; true"); got != "/plain/below/x\n" {
		t.Errorf("could be written: %q", got)
	}
	for _, bad := range []*cri.Mount{{Readonly: false}, {Readonly: true, Propagation: cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
		{Readonly: true, Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL}} {
		bad.HostPath, bad.ContainerPath, bad.RecursiveReadOnly = folder, "/bad", true
		_, err := p.tryCreate(t, mounting("bad", bad))
		fails(t, err, is(codes.InvalidArgument), "/bad", "recursive_read_only")
	}
}

// Symlinks of the image on the way to a mount's place mean what they mean inside of it; a host path that is one is followed on the node.
func TestMountsThroughSymlinks(t *testing.T) {
	name := registry + "/crisp/programs:latest"
	pullFor(t, name)
	leaveNothing(t)
	folder := t.TempDir()
	file := write(t, "a file\n", folder, "file")
	link, chain := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "chain")
	for at, target := range map[string]string{link: file, chain: link} {
		if err := os.Symlink(target, at); err != nil {
			t.Fatal(err)
		}
	}
	config := mounting("main", &cri.Mount{HostPath: folder, ContainerPath: "/links/etc/folder"}, &cri.Mount{HostPath: file, ContainerPath: "/links/etc/hostname"},
		&cri.Mount{HostPath: file, ContainerPath: "/links/up/landed"}, &cri.Mount{HostPath: link, ContainerPath: "/by-link"}, &cri.Mount{HostPath: chain, ContainerPath: "/by-chain"},
		&cri.Mount{HostPath: folder, ContainerPath: "/links/up/links/etc/deep/er"})
	config.Image = spec(name)
	c := newPod(t).run(t, config)
	if got := c.sh(t, "cat /etc/folder/file /etc/hostname /landed /by-link /by-chain /etc/deep/er/file"); got != strings.Repeat("a file\n", 6) {
		t.Errorf("%q", got)
	}
	for _, path := range []string{"/landed", "/etc/folder", "/etc/deep"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was made on the node", path)
		}
	}
	loop := mounting("loop", &cri.Mount{HostPath: folder, ContainerPath: "/links/loop/x"})
	loop.Image = spec(name)
	_, err := c.pod.tryCreate(t, loop)
	fails(t, err, is(codes.InvalidArgument), "/links/loop/x")
}

// "A container that has the node's / mounted kept the network of every pod that was gone."
func TestTheNodesRootHoldsNoNetworkOfAPod(t *testing.T) {
	leaveNothing(t)
	other := newPod(t)
	c := newPod(t).run(t, mounting("main", &cri.Mount{HostPath: "/", ContainerPath: "/node", Readonly: true}))
	count := func() string { return c.sh(t, "grep -c /netns/"+other.id+" /proc/self/mountinfo; true") }
	if got := count(); got != "1\n" {
		t.Fatalf("%q", got)
	}
	must(runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: other.id}))(t)
	if got := count(); got != "0\n" {
		t.Errorf("its network namespace is still mounted: %q", got)
	}
}
