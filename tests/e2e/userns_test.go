package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"k8s.io/client-go/tools/remotecommand"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func idRange(inside, outside, length uint32) []*cri.IDMapping {
	return []*cri.IDMapping{{ContainerId: inside, HostId: outside, Length: length}}
}

// usersFrom is a pod with a user namespace: its ids from 0 are the node's from `host`, as the kubelet gives them.
func usersFrom(host uint32) func(*cri.PodSandboxConfig) {
	return func(c *cri.PodSandboxConfig) {
		ids := idRange(0, host, 65536)
		c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: ids, Gids: ids}
	}
}

// ownerOf gives "uid:gid" of a file as the node sees it.
func ownerOf(t *testing.T, path string) string {
	t.Helper()
	st := must(os.Lstat(path))(t).Sys().(*syscall.Stat_t)
	return fmt.Sprint(st.Uid, ":", st.Gid)
}

// says compares what a script writes in the container.
func (c *container) says(t *testing.T, script, want string) {
	t.Helper()
	if got := c.sh(t, script); got != want {
		t.Errorf("%s: %q, want %q", script, got, want)
	}
}

func TestUserNamespaceOwnsWhatThePodSees(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, usersFrom(300000), func(c *cri.PodSandboxConfig) { c.Hostname = "mapped" })
	c := p.sleeper(t, "main")
	c.says(t, "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '", " 0 300000 65536\n 0 300000 65536\n")
	c.says(t, "id -u; id -g; hostname", "0\n0\nmapped\n")
	// Its request names no path to mask, as a kubelet's for procMount: Unmasked.
	c.says(t, "grep -c ' /proc/' /proc/self/mounts || true", "0\n")
	// The image's files, what was made on the way, and the pod's own files are root's.
	c.says(t, "stat -c %u:%g / /bin/busybox /etc /etc/hosts /etc/hostname /etc/resolv.conf /dev /dev/null /dev/shm /dev/pts /dev/pts/ptmx /dev/mqueue | sort | uniq -c | tr -s ' '", " 12 0:0\n")
	c.says(t, "echo 10.9.8.7 other >>/etc/hosts && tail -n 1 /etc/hosts; echo shared >/dev/shm/x; cat /dev/shm/x; echo x >/dev/null", "10.9.8.7 other\nshared\n")
	c.says(t, "touch /root/new; adduser -D -u 1234 somebody && touch /home/somebody/own && chown 1234:5 /home/somebody/own && stat -c %u:%g /root/new /home/somebody/own /etc/passwd", "0:0\n1234:5\n0:0\n")
	// On the node they are those of ids that nobody else has.
	pid := c.hostPid(t)
	root := fmt.Sprintf("/proc/%d/root", pid)
	for path, want := range map[string]string{"/root/new": "300000:300000", "/home/somebody/own": "301234:300005", "/etc/passwd": "300000:300000", "/bin/busybox": "300000:300000"} {
		if got := ownerOf(t, root+path); got != want {
			t.Errorf("%s is %s's, want %s", path, got, want)
		}
	}
	upper := filepath.Join(rootDir, "containers", c.id, "upper")
	for _, path := range []string{".", "root/new", "etc/passwd"} {
		if got := ownerOf(t, filepath.Join(upper, path)); got != "300000:300000" {
			t.Errorf("in the writable layer %s is %s's", path, got)
		}
	}
	if got := must(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)))(t); !strings.Contains(string(got), "Uid:\t300000\t300000\t300000\t300000\n") {
		t.Errorf("its init: %s", got)
	}
	// What its namespaces show, and only theirs.
	c.says(t, "ls -d /sys/class/net/*; cat /proc/1/comm; ls /proc | grep -c '^[0-9]'", "/sys/class/net/eth0\n/sys/class/net/lo\nsleep\n4\n")
	c.says(t, "test -d /sys/fs/cgroup && grep -c ' - cgroup' /proc/self/mountinfo | grep -qv '^0' && echo cgroups", "cgroups\n")
	// Beside it one with other ids on the same image.
	other := newPod(t, usersFrom(400000)).sleeper(t, "main")
	other.says(t, "stat -c %u:%g /bin/busybox /etc/passwd; touch /root/new", "0:0\n0:0\n")
	if got := ownerOf(t, filepath.Join(rootDir, "containers", other.id, "upper/root/new")); got != "400000:400000" {
		t.Errorf("the other's file is %s's", got)
	}
	// And CRI tells.
	status := p.status(t).Linux.Namespaces.Options.UsernsOptions
	if status.Mode != cri.NamespaceMode_POD || len(status.Uids) != 1 || status.Uids[0].HostId != 300000 || len(status.Gids) != 1 || status.Gids[0].Length != 65536 {
		t.Errorf("%v", status)
	}
	if user := c.status(t).User.Linux; user.Uid != 0 || user.Gid != 0 {
		t.Errorf("%v", user)
	}
	features := must(runtime.Status(soon(t), &cri.StatusRequest{}))(t)
	if !features.RuntimeHandlers[0].Features.UserNamespaces || !features.Features.UserNamespacesHostNetwork {
		t.Errorf("%v %v", features.RuntimeHandlers, features.Features)
	}
}

// Its root rules the pod's network and IPC; the node's keep out of its reach.
func TestUserNamespaceRulesThePodsNamespaces(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, usersFrom(300000), func(c *cri.PodSandboxConfig) {
		c.Linux.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "1024", "net.ipv4.ping_group_range": "0 1000", "kernel.shmmax": "123456789", "net.ipv4.ip_forward": "0"}
	})
	c := p.run(t, secure("root", func(s *cri.LinuxContainerSecurityContext) {
		s.Capabilities = &cri.Capability{AddCapabilities: []string{"NET_ADMIN", "SYS_ADMIN"}}
	}, "sleep", "1000"))
	c.says(t, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range /proc/sys/kernel/shmmax | tr '\t' ' '", "1024\n0 1000\n123456789\n")
	c.says(t, "nc -l -p 80 >/dev/null & sleep 0.3; netstat -ltn | grep -o ':80 '; kill %1", ":80 \n")
	c.says(t, "ip link set lo mtu 1400 && cat /sys/class/net/lo/mtu", "1400\n")
	c.says(t, "mkdir /m && mount -t tmpfs none /m && mount -t proc none /m && echo mounted; mount -t sysfs -o ro none /m && echo too", "mounted\ntoo\n")
	for _, script := range []string{
		"mknod /null c 1 3", "echo x >/proc/sys/kernel/core_pattern", "mount -o remount,rw /proc/sys && echo x >/proc/sys/kernel/modprobe",
		"hostname other && nsenter -t 1 -u -- true && chroot /proc/1/root/../../ false", "umount /proc/kcore && cat /proc/kcore",
	} {
		if got := must(c.exec(t, 10, shell(script)...))(t); got.ExitCode == 0 {
			t.Errorf("%s: it did", script)
		}
	}
	user := p.run(t, secure("user", func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1000} }, "sleep", "1000"))
	user.says(t, "nc -l -p 81 2>&1; id -u; echo out >/dev/stdout; echo err >/dev/stderr", "nc: bind: Permission denied\n1000\nout\n")
	// The node's network, seen whole.
	host := newPod(t, usersFrom(300000), func(c *cri.PodSandboxConfig) {
		c.Linux.SecurityContext.NamespaceOptions.Network = cri.NamespaceMode_NODE
	}).sleeper(t, "main")
	host.says(t, "tr -s ' ' </proc/self/uid_map; cat /sys/class/net/eth0/mtu", " 0 300000 65536\n1450\n")
}

func TestUserNamespaceOfThePodsThatShareMore(t *testing.T) {
	leaveNothing(t)
	for name, mode := range map[string]cri.NamespaceMode{"pod": cri.NamespaceMode_POD, "node": cri.NamespaceMode_NODE} {
		p := newPod(t, usersFrom(300000), func(c *cri.PodSandboxConfig) {
			c.Linux.SecurityContext.NamespaceOptions.Pid = mode
			if mode == cri.NamespaceMode_NODE {
				c.Linux.SecurityContext.NamespaceOptions.Ipc = mode
			}
		})
		set := func(s *cri.LinuxContainerSecurityContext) {
			s.NamespaceOptions = p.config.Linux.SecurityContext.NamespaceOptions
		}
		first := p.run(t, secure("first", set, "sleep", "7007"))
		second := p.run(t, secure("second", set, "sleep", "8008"))
		second.says(t, "tr -s ' ' </proc/self/uid_map; ps | grep -c '[s]leep 7007'; echo x >/dev/shm/"+p.config.Metadata.Name+" && rm /dev/shm/"+p.config.Metadata.Name, " 0 300000 65536\n1\n")
		if mode == cri.NamespaceMode_POD {
			second.says(t, "cat /proc/1/comm; grep ^Cap[PE] /proc/1/status | tr -d '\t'", "crisp-init\nCapPrm:0000000000000000\nCapEff:0000000000000000\n")
			(&container{first.id, p, nil}).says(t, `(setsid sleep 0.2 &); sleep 0.6; cat /proc/[0-9]*/stat | grep ') Z ' || echo none`, "none\n")
		}
		first.stop(t, 0)
		if status := second.status(t); status.State != cri.ContainerState_CONTAINER_RUNNING {
			t.Errorf("%s: %v", name, status)
		}
	}
	// One that looks into another's pid namespace.
	p := newPod(t, usersFrom(300000))
	main := p.run(t, containerConfig("main", "sleep", "9009"))
	debug := p.run(t, secure("debug", func(s *cri.LinuxContainerSecurityContext) {
		s.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_TARGET, TargetId: main.id}
	}, "sleep", "1000"))
	debug.says(t, "tr '\\0' ' ' </proc/1/cmdline", "sleep 9009 ")
}

func volume(source, target string, maps []*cri.IDMapping) *cri.Mount {
	return &cri.Mount{HostPath: source, ContainerPath: target, UidMappings: maps, GidMappings: maps}
}

func TestUserNamespaceVolumes(t *testing.T) {
	leaveNothing(t)
	dir := t.TempDir()
	for _, name := range []string{"mapped", "plain", "some"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(filepath.Join(dir, "some"), 1000, 1000); err != nil {
		t.Fatal(err)
	}
	p := newPod(t, usersFrom(300000))
	config := secure("main", func(s *cri.LinuxContainerSecurityContext) {
		s.Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
	}, "sleep", "1000")
	readonly := volume(filepath.Join(dir, "mapped"), "/ro", idRange(0, 300000, 65536))
	readonly.Readonly = true
	config.Mounts = []*cri.Mount{
		volume(filepath.Join(dir, "mapped"), "/mapped", idRange(0, 300000, 65536)),
		volume(filepath.Join(dir, "plain"), "/plain", nil),
		volume(filepath.Join(dir, "some"), "/some", idRange(1000, 300000, 1)),
		readonly,
	}
	c := p.run(t, config)
	c.says(t, "stat -c %u:%g /mapped /plain /some; touch /mapped/a /some/b; chown 7:8 /mapped/a; touch /plain/c 2>&1; true", "0:0\n65534:65534\n0:0\ntouch: /plain/c: Permission denied\n")
	c.says(t, "mount -o remount,bind,rw /ro; umount /ro; touch /ro/d 2>&1; true", "touch: /ro/d: Read-only file system\n")
	if got := ownerOf(t, filepath.Join(dir, "mapped/a")) + " " + ownerOf(t, filepath.Join(dir, "some/b")); got != "7:8 1000:1000" {
		t.Errorf("on the node: %s", got)
	}
	mounts := map[string]*cri.Mount{}
	for _, mount := range c.status(t).Mounts {
		mounts[mount.ContainerPath] = mount
	}
	if m := mounts["/some"]; len(m.UidMappings) != 1 || m.UidMappings[0].ContainerId != 1000 || m.GidMappings[0].HostId != 300000 || len(mounts["/plain"].UidMappings) != 0 {
		t.Errorf("%v", mounts)
	}
	// Mounts have maps of their own without a user namespace too.
	config = containerConfig("outer", "sleep", "1000")
	config.Mounts = []*cri.Mount{volume(filepath.Join(dir, "some"), "/some", idRange(1000, 0, 1))}
	newPod(t).run(t, config).says(t, "stat -c %u:%g /some", "0:0\n")
	for _, bad := range []struct {
		change func(m *cri.Mount)
		words  string
	}{
		{func(m *cri.Mount) { m.HostPath = "/sys/kernel" }, "cannot map ids"},
		{func(m *cri.Mount) { m.GidMappings = nil }, "ranges"},
		{func(m *cri.Mount) { m.UidMappings = idRange(0, 300000, 0) }, "length 0"},
		{func(m *cri.Mount) { m.Propagation = cri.MountPropagation_PROPAGATION_BIDIRECTIONAL }, "propagation"},
	} {
		config := containerConfig("bad", "true")
		config.Mounts = []*cri.Mount{volume(dir, "/data", idRange(0, 300000, 65536))}
		bad.change(config.Mounts[0])
		_, err := p.tryCreate(t, config)
		fails(t, err, is(codes.InvalidArgument), "/data", bad.words)
	}
}

// Layers lie on the node once, for pods of all ids.
func TestUserNamespaceImageVolumes(t *testing.T) {
	data, many := registry+"/crisp/data:latest", registry+"/crisp/many-layers:latest"
	pullFor(t, data)
	pullFor(t, many)
	leaveNothing(t)
	own := imageMount(many, "/many", "n")
	own.UidMappings, own.GidMappings = idRange(0, 300000, 65536), idRange(0, 300000, 65536)
	volumes := mounting("main", imageMount(data, "/data", ""), imageMount(data, "/part", "models/deep"), imageMount(data, "/dev/small", "models/small"), own)
	p := newPod(t, usersFrom(300000))
	c := p.run(t, volumes)
	c.says(t, "stat -c %u:%g /data /data/models /data/models/small /part /part/weights /dev/small /many /many/last | sort | uniq -c | tr -s ' '", " 8 0:0\n")
	c.says(t, "cat /part/weights /dev/small /many/last; /data/run; touch /data/x 2>&1; umount /data 2>&1; true",
		"weights\nsmall\n298\nran\ntouch: /data/x: Read-only file system\numount: can't unmount /data: Operation not permitted\n")
	newPod(t).run(t, mounting("outer", imageMount(data, "/data", ""))).says(t, "stat -c %u:%g /data/models/small", "0:0\n")
	newPod(t, usersFrom(400000)).run(t, mounting("other", imageMount(data, "/data", ""))).says(t, "stat -c %u:%g /data/models/small", "0:0\n")
	shared := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD })
	shared.run(t, mounting("shared", imageMount(data, "/data", ""))).says(t, "cat /data/models/small", "small\n")
	for words, bad := range map[string]*cri.Mount{
		"namespaces": imageMount(data, "/proc/uptime", "models/small"),
		"its own":    {Image: spec(data), ContainerPath: "/data", UidMappings: idRange(0, 5, 65536), GidMappings: idRange(0, 5, 65536)},
	} {
		_, err := p.tryCreate(t, mounting("bad", bad))
		fails(t, err, is(codes.InvalidArgument), bad.ContainerPath, words)
	}
}

func TestUserNamespaceStreams(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, usersFrom(300000))
	c := p.run(t, secure("main", func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1000} }, shell(`echo first >/dev/stderr; exec sleep 1000`)...))
	port := strconv.Itoa(p.echo(t, "127.0.0.1:0"))
	each(t, func(t *testing.T, transport string) {
		var out, stderr bytes.Buffer
		err := c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdout: &out, Stderr: &stderr}, shell(`id -u; tr -s ' ' </proc/self/uid_map; echo err >/dev/stderr; exit 7`)...)
		if exitCode(err) != 7 || out.String() != "1000\n 0 300000 65536\n" || stderr.String() != "err\n" {
			t.Errorf("%v %q %q", err, out.String(), stderr.String())
		}
		out.Reset()
		err = c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: &out, Tty: true}, shell(`stat -c %u:%g $(tty)`)...)
		if err != nil || out.String() != "1000:5\r\n" {
			t.Errorf("%v %q", err, out.String())
		}
		out.Reset()
		if err := exchange(t, p.forward(t, transport, ":"+port)[0], strings.NewReader("there and back"), &out); err != nil || out.String() != "there and back" {
			t.Errorf("%v %q", err, out.String())
		}
	})
	terminal := interactive("terminal", false, shell(`stat -c %u:%g $(tty); read line; echo "<$line>"; sleep 1000`)...)
	terminal.Tty = true
	c = p.run(t, terminal)
	var out safeBuffer
	_ = c.attach(t, within(t, 2e9), "websocket", remotecommand.StreamOptions{Stdin: strings.NewReader("again\n"), Stdout: &out, Tty: true})
	if got := c.stdout(t); !strings.Contains(got, "0:5\n") || !strings.Contains(got, "<again>\n") {
		t.Errorf("%q %q", got, out.String())
	}
}

// What a container may do it may do to what its user namespace owns.
func TestUserNamespaceOfThePrivileged(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, usersFrom(300000), func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
	c := p.run(t, secure("main", func(s *cri.LinuxContainerSecurityContext) { s.Privileged = true }, "sleep", "1000"))
	c.says(t, "mkdir /m; mount -t tmpfs none /m && echo mounted; cat /dev/null; for d in $(ls /dev | grep -E '^(vd|sd|loop)'); do head -c 1 /dev/$d 2>/dev/null && echo READ $d; done; true", "mounted\n")
	if got := must(c.exec(t, 10, shell("echo 1 >/proc/sys/vm/drop_caches || echo x >/proc/sysrq-trigger || echo x >/sys/kernel/uevent_helper")...))(t); got.ExitCode == 0 {
		t.Error("it has written to the node's kernel")
	}
	filtered := p.run(t, secure("filtered", func(s *cri.LinuxContainerSecurityContext) {
		s.Seccomp, s.RunAsUser, s.NoNewPrivs = runtimeDefault, &cri.Int64Value{Value: 5}, true
		s.SupplementalGroups = []int64{77}
	}, "sleep", "1000"))
	filtered.says(t, "grep -E '^(Seccomp|NoNewPrivs|CapBnd):' /proc/self/status | tr '\t' ' '; id -G", "CapBnd: 00000000a80425fb\nNoNewPrivs: 1\nSeccomp: 2\n0 77\n")
	_, err := p.tryCreate(t, secure("beyond", func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 65536} }, "true"))
	fails(t, err, is(codes.InvalidArgument), "65536", "user namespace")
	_, err = p.tryCreate(t, secure("beyond", func(s *cri.LinuxContainerSecurityContext) { s.SupplementalGroups = []int64{70000} }, "true"))
	fails(t, err, is(codes.InvalidArgument), "70000", "user namespace")
}

func TestUserNamespaceIsKeptByTheMonitor(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, usersFrom(300000))
	first := p.sleeper(t, "first")
	created := p.create(t, containerConfig("created", "sleep", "1000"))
	restartCrispd(t)
	created.start(t)
	for _, c := range []*container{first, created, p.sleeper(t, "later")} {
		c.says(t, "tr -s ' ' </proc/self/uid_map; stat -c %u /bin", " 0 300000 65536\n0\n")
	}
	if ids := p.status(t).Linux.Namespaces.Options.UsernsOptions.Uids; len(ids) != 1 || ids[0].HostId != 300000 {
		t.Errorf("%v", ids)
	}
}

func TestUserNamespacesThatMakeNoSense(t *testing.T) {
	leaveNothing(t)
	good := idRange(0, 300000, 65536)
	for name, options := range map[string]*cri.UserNamespace{
		"nothing":  {Mode: cri.NamespaceMode_POD},
		"no gids":  {Mode: cri.NamespaceMode_POD, Uids: good},
		"no root":  {Mode: cri.NamespaceMode_POD, Uids: good, Gids: idRange(1, 300000, 65536)},
		"empty":    {Mode: cri.NamespaceMode_POD, Uids: idRange(0, 300000, 0), Gids: good},
		"beyond":   {Mode: cri.NamespaceMode_POD, Uids: good, Gids: idRange(0, 4294901761, 65536)},
		"twice":    {Mode: cri.NamespaceMode_POD, Uids: append(idRange(0, 300000, 10), idRange(10, 300009, 10)...), Gids: append(idRange(0, 300000, 10), idRange(10, 300010, 10)...)},
		"own":      {Mode: cri.NamespaceMode_CONTAINER, Uids: good, Gids: good},
		"target":   {Mode: cri.NamespaceMode_TARGET, Uids: good, Gids: good},
		"the node": {Mode: cri.NamespaceMode_NODE, Uids: good, Gids: good},
	} {
		config := podConfig(t.Name())
		config.Linux.SecurityContext.NamespaceOptions.UsernsOptions = options
		_, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config})
		if !t.Run(name, func(t *testing.T) { fails(t, err, is(codes.InvalidArgument), "user") }) {
			t.Log(options)
		}
	}
	// A container is in its pod's or says nothing.
	p, plain := newPod(t, usersFrom(300000)), newPod(t)
	for _, wrong := range []struct {
		pod     *pod
		options *cri.UserNamespace
	}{
		{p, &cri.UserNamespace{Mode: cri.NamespaceMode_NODE}},
		{p, &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: idRange(0, 1, 65536), Gids: good}},
		{plain, &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: good, Gids: good}},
	} {
		_, err := wrong.pod.tryCreate(t, secure("wrong", func(s *cri.LinuxContainerSecurityContext) { s.NamespaceOptions.UsernsOptions = wrong.options }, "true"))
		fails(t, err, is(codes.InvalidArgument), "userns_options")
	}
	two := &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: append(idRange(0, 300000, 10), idRange(10, 500000, 10)...), Gids: append(idRange(0, 300000, 10), idRange(10, 500000, 10)...)}
	several := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.UsernsOptions = two })
	c := several.run(t, secure("main", func(s *cri.LinuxContainerSecurityContext) { s.NamespaceOptions.UsernsOptions = two }, "sleep", "1000"))
	c.says(t, "touch /root/x && chown 12 /root/x && stat -c %u /root/x", "12\n")
	if got := ownerOf(t, filepath.Join(rootDir, "containers", c.id, "upper/root/x")); got != "500002:300000" {
		t.Errorf("it is %s's", got)
	}
}
