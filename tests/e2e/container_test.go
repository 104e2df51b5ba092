package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What a process finds in its container: file systems, devices, files of /etc, environment, limits, capabilities.
func TestInsideOfAContainer(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Hostname = "inside" })
	config := containerConfig("main", "sleep", "1000")
	config.Envs = []*cri.KeyValue{{Key: "A", Value: "one two"}, {Key: "B", Value: "$A"}, {Key: "MULTI", Value: "x\ny"}}
	config.Annotations = map[string]string{"note": "kept"}
	config.Labels = map[string]string{"label": "kept"}
	c := p.run(t, config)
	for script, want := range map[string]string{
		`hostname; cat /etc/hostname`:               "inside\ninside\n",
		`echo $HOSTNAME $HOME; echo "$A|$B|$MULTI"`: "inside /root\none two|$A|x\ny\n",
		`echo $PATH`: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
		`cat /proc/1/comm; ls /proc | grep -c '^[0-9]*$'`:                                                         "sleep\n",
		`for d in null zero full random urandom tty; do stat -c "%n %t:%T %a" /dev/$d; done`:                      "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n/dev/tty 5:0 666\n",
		`for f in fd stdin stdout stderr ptmx; do readlink /dev/$f; done`:                                         "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n",
		`stat -f -c %T /dev/shm /dev/mqueue`:                                                                      "tmpfs\n",
		`mount | grep -E ' on (/proc|/sys|/dev/pts|/dev/shm|/dev/mqueue|/dev) ' | awk '{print $5 " " $3}' | sort`: "devpts /dev/pts\nmqueue /dev/mqueue\nproc /proc\nsysfs /sys\ntmpfs /dev\ntmpfs /dev/shm\n",
		`mount | grep ' on /sys ' | grep -c '[(,]ro[,)]'`:                                                         "1\n",
		`touch /sys/fs/cgroup/x 2>&1 | grep -c 'Read-only'`:                                                       "1\n",
		`grep -qw inside /etc/hosts && echo there`:                                                                "there\n",
		`grep -c '127.0.0.1.*localhost' /etc/hosts`:                                                               "1\n",
		`cat /etc/resolv.conf`:                                                                                    "nameserver 203.0.113.1\n",
		`ulimit -n; cat /proc/1/limits | grep 'open files' | awk '{print $4}'`:                                    "1024\n",
		`grep -E 'Cap(Prm|Eff|Bnd)' /proc/1/status | awk '{print $2}' | sort -u`:                                  "00000000a80425fb\n",
		`grep -E 'Cap(Inh|Amb)' /proc/1/status | awk '{print $2}' | sort -u`:                                      "0000000000000000\n",
		`grep NoNewPrivs /proc/1/status | awk '{print $2}'`:                                                       "0\n",
		`touch /new && echo written`:                                                                              "written\n",
		`cat /proc/1/mountinfo | awk '{print $5}' | grep -c "` + nodeDir + `" || true`:                            "0\n",
		`ls -l /proc/1/fd | grep -v pipe | grep -cE 'socket|/var|anon|memfd' || true`:                             "0\n",
	} {
		got := c.sh(t, script)
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s\ngot  %q\nwant %q", script, got, want)
		}
	}
	status := c.status(t)
	if status.Labels["label"] != "kept" || status.Annotations["note"] != "kept" || status.Image.GetImage() != busybox || status.ImageId == "" || status.CreatedAt > status.StartedAt {
		t.Errorf("%v", status)
	}
}

// Containers of a pod share network, IPC, hostname and /dev/shm; process namespaces only where asked.
func TestWhatContainersOfAPodShare(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	first, second := p.sleeper(t, "first"), p.sleeper(t, "second")
	first.sh(t, "echo shared >/dev/shm/file; httpd -p 127.0.0.1:8080 -h /dev/shm")
	if got := second.sh(t, "cat /dev/shm/file; wget -q -O - http://127.0.0.1:8080/file"); got != "shared\nshared\n" {
		t.Errorf("%q", got)
	}
	if got := second.sh(t, "ps | grep -c 's[l]eep'"); got != "1\n" {
		t.Errorf("%s processes that sleep", got)
	}
	for _, namespace := range []string{"net", "ipc", "uts"} {
		if a, b := first.sh(t, "readlink /proc/1/ns/"+namespace), second.sh(t, "readlink /proc/1/ns/"+namespace); a != b {
			t.Errorf("%s: %s and %s", namespace, a, b)
		}
	}
	for _, namespace := range []string{"mnt", "pid", "cgroup"} {
		if a, b := first.sh(t, "readlink /proc/1/ns/"+namespace), second.sh(t, "readlink /proc/1/ns/"+namespace); a == b {
			t.Errorf("%s: both %s", namespace, a)
		}
	}

	shared := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD })
	config := containerConfig("first", "sleep", "2001")
	config.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	shared.run(t, config)
	config = containerConfig("second", "sleep", "2002")
	config.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD
	if got := shared.run(t, config).sh(t, "ps | grep -c 'sleep 200[12]'"); got != "2\n" {
		t.Errorf("%s processes that sleep, in a shared namespace", got)
	}
}

func TestHostNamespaces(t *testing.T) {
	leaveNothing(t)
	host := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE, Ipc: cri.NamespaceMode_NODE}
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions = host })
	config := containerConfig("main", "sleep", "1000")
	config.Linux.SecurityContext.NamespaceOptions = host
	c := p.run(t, config)
	for _, namespace := range []string{"net", "pid", "ipc"} {
		if got, want := strings.TrimSpace(c.sh(t, "readlink /proc/self/ns/"+namespace)), must(os.Readlink("/proc/self/ns/"+namespace))(t); got != want {
			t.Errorf("%s is %s, the node's %s", namespace, got, want)
		}
	}
	if got := c.sh(t, "hostname; ip -o address show eth0 | grep -c 203.0.113.2"); got != "crisp-node\n1\n" {
		t.Errorf("%q", got)
	}
	if status := p.status(t); status.Network.GetIp() != "" {
		t.Errorf("a pod with the node's network has address %s", status.Network.GetIp())
	}
}

func TestDNSConfig(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) {
		c.DnsConfig = &cri.DNSConfig{Servers: []string{"10.0.0.10", "fd00::10"}, Searches: []string{"a.example", "b.example"}, Options: []string{"ndots:5", "edns0"}}
	})
	if got := p.output(t, containerConfig("main", "cat", "/etc/resolv.conf")); got != "search a.example b.example\nnameserver 10.0.0.10\nnameserver fd00::10\noptions ndots:5 edns0\n" {
		t.Errorf("%q", got)
	}
}

func TestSysctls(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) {
		c.Linux.Sysctls = map[string]string{"net.ipv4.ip_local_port_range": "2000 3000", "kernel.shm_rmid_forced": "1", "kernel.msgmax": "9999"}
	})
	if got := p.output(t, containerConfig("main", "cat", "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/kernel/shm_rmid_forced", "/proc/sys/kernel/msgmax")); got != "2000\t3000\n1\n9999\n" {
		t.Errorf("%q", got)
	}
}

func TestMounts(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, []byte("from the node\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	config := containerConfig("main", "sleep", "1000")
	config.Mounts = []*cri.Mount{
		{HostPath: folder, ContainerPath: "/made/by/mount"},
		{HostPath: folder, ContainerPath: "/readonly", Readonly: true},
		{HostPath: file, ContainerPath: "/etc/one-file"},
		{HostPath: link, ContainerPath: "/by-link"},
		{HostPath: file, ContainerPath: "/etc/hosts"},
		{HostPath: folder, ContainerPath: "/made/by/mount/deeper", Readonly: true},
	}
	c := p.run(t, config)
	if got := c.sh(t, "cat /made/by/mount/file /readonly/file /etc/one-file /by-link/file /etc/hosts"); got != strings.Repeat("from the node\n", 5) {
		t.Errorf("%q", got)
	}
	c.sh(t, "echo back >/made/by/mount/back; ! touch /readonly/x 2>/dev/null; ! touch /made/by/mount/deeper/x 2>/dev/null")
	if got := string(must(os.ReadFile(filepath.Join(folder, "back")))(t)); got != "back\n" {
		t.Errorf("%q", got)
	}
	if status := c.status(t); len(status.Mounts) != len(config.Mounts) {
		t.Errorf("%d mounts in the status", len(status.Mounts))
	}
}

// rslave shows what the node mounts later, rshared also leads back, private neither.
func TestMountPropagation(t *testing.T) {
	leaveNothing(t)
	folder := filepath.Join(nodeDir, "tmp", "propagation")
	for _, sub := range []string{"private", "slave", "shared"} {
		if err := os.MkdirAll(filepath.Join(folder, sub, "node"), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = os.MkdirAll(filepath.Join(folder, sub, "container"), 0o755)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	config := containerConfig("main", "sleep", "1000")
	config.Linux.SecurityContext.Privileged = true
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
	for sub, propagation := range map[string]cri.MountPropagation{"private": cri.MountPropagation_PROPAGATION_PRIVATE,
		"slave": cri.MountPropagation_PROPAGATION_HOST_TO_CONTAINER, "shared": cri.MountPropagation_PROPAGATION_BIDIRECTIONAL} {
		config.Mounts = append(config.Mounts, &cri.Mount{HostPath: filepath.Join(folder, sub), ContainerPath: "/" + sub, Propagation: propagation})
	}
	c := p.run(t, config)
	for _, sub := range []string{"private", "slave", "shared"} {
		if err := syscall.Mount("tmpfs", filepath.Join(folder, sub, "node"), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(filepath.Join(folder, sub, "node"), syscall.MNT_DETACH) })
	}
	if got := c.sh(t, "for d in private slave shared; do mount | grep -c \" on /$d/node \"; done; true"); got != "0\n1\n1\n" {
		t.Errorf("what the node mounted is seen %q", got)
	}
	c.sh(t, "for d in private slave shared; do mount -t tmpfs tmpfs /$d/container; done")
	mounts := string(must(os.ReadFile("/proc/self/mounts"))(t))
	for sub, want := range map[string]bool{"private": false, "slave": false, "shared": true} {
		if strings.Contains(mounts, filepath.Join(folder, sub, "container")+" ") != want {
			t.Errorf("what the container mounted in %s: seen is not %v", sub, want)
		}
	}
	c.sh(t, "umount /shared/container")
}

func TestUsersAndCapabilities(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	n := 0
	check := func(change func(*cri.LinuxContainerSecurityContext), script, want string) {
		t.Helper()
		n++
		config := containerConfig("c"+strconv.Itoa(n), shell(script)...)
		change(config.Linux.SecurityContext)
		if got := p.output(t, config); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
	check(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1234} }, "id -u; id -G", "1234\n0\n")
	check(func(s *cri.LinuxContainerSecurityContext) {
		s.RunAsUser, s.RunAsGroup = &cri.Int64Value{Value: 1234}, &cri.Int64Value{Value: 4321}
		s.SupplementalGroups = []int64{7, 8}
	}, "id -u; id -g; id -G; grep CapEff /proc/self/status", "1234\n4321\n4321 7 8\nCapEff:\t0000000000000000\n")
	check(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "www-data" }, "id -nu; id -ng", "www-data\nwww-data\n")
	check(func(s *cri.LinuxContainerSecurityContext) { s.ReadonlyRootfs = true }, "touch /x 2>&1; touch /dev/shm/x && echo shm", "touch: /x: Read-only file system\nshm\n")
	check(func(s *cri.LinuxContainerSecurityContext) { s.NoNewPrivs = true }, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n")
	check(func(s *cri.LinuxContainerSecurityContext) {
		s.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_ADMIN", "CAP_SYS_TIME"}}
	}, "grep CapEff /proc/self/status", fmt.Sprintf("CapEff:\t%016x\n", 1<<12|1<<25))
	check(func(s *cri.LinuxContainerSecurityContext) {
		s.MaskedPaths, s.ReadonlyPaths = []string{"/proc/kcore", "/proc/acpi", "/no/such"}, []string{"/proc/sys"}
	}, "head -c 1 /proc/kcore | wc -c; echo 1 2>/dev/null >/proc/sys/kernel/domainname || echo refused", "0\nrefused\n")
	// What a user who is not root writes to its own stdout and stderr by name.
	check(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1234} }, "echo by name >/dev/stdout", "by name\n")
}

func TestPrivileged(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
	config := containerConfig("main", shell(`mount -t tmpfs tmpfs /tmp && echo mounted; [ -w /sys/kernel ] && mount | grep ' on /sys ' | grep -c '[(,]rw[,)]'; grep CapEff /proc/self/status; ls /dev | grep -c loop-control || true`)...)
	config.Linux.SecurityContext.Privileged = true
	got := p.output(t, config)
	caps := ""
	for _, line := range strings.Split(string(must(os.ReadFile("/proc/self/status"))(t)), "\n") {
		if strings.HasPrefix(line, "CapBnd:") {
			caps = strings.TrimSpace(strings.TrimPrefix(line, "CapBnd:"))
		}
	}
	if !strings.HasPrefix(got, "mounted\n1\nCapEff:\t"+caps+"\n") {
		t.Errorf("%q, want all of %s", got, caps)
	}
}

// The stop signal, then SIGKILL for the whole container; exit codes and times are true.
func TestStopsAndExits(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	polite := p.run(t, containerConfig("polite", shell(`trap "echo bye; exit 9" TERM; echo ready; while :; do usleep 10000; done`)...))
	eventually(t, 5*time.Second, "a trap set", func() bool { data, _ := os.ReadFile(polite.logPath()); return len(data) > 0 })
	polite.stop(t, 30)
	if status := polite.status(t); status.ExitCode != 9 || status.State != cri.ContainerState_CONTAINER_EXITED || status.FinishedAt < status.StartedAt {
		t.Errorf("%v", status)
	}
	if got := polite.stdout(t); got != "ready\nbye\n" {
		t.Errorf("%q", got)
	}

	deaf := p.run(t, containerConfig("deaf", shell(`trap "" TERM; setsid sleep 3001 & sleep 3002 & echo ready; wait`)...))
	eventually(t, 5*time.Second, "a trap set", func() bool { data, _ := os.ReadFile(deaf.logPath()); return len(data) > 0 })
	begin := time.Now()
	deaf.stop(t, 1)
	if took := time.Since(begin); took < 900*time.Millisecond || took > 4*time.Second {
		t.Errorf("a grace of 1 s took %v", took)
	}
	if status := deaf.status(t); status.ExitCode != 137 {
		t.Errorf("%v", status)
	}

	signal := containerConfig("signal", shell(`trap "exit 11" USR2; echo ready; while :; do usleep 10000; done`)...)
	signal.StopSignal = cri.Signal_SIGUSR2
	c := p.run(t, signal)
	eventually(t, 5*time.Second, "a trap set", func() bool { data, _ := os.ReadFile(c.logPath()); return len(data) > 0 })
	c.stop(t, 30)
	if status := c.status(t); status.ExitCode != 11 || status.StopSignal != cri.Signal_SIGUSR2 {
		t.Errorf("%v", status)
	}

	for script, want := range map[string]struct {
		code   int32
		reason string
	}{"exit 0": {0, "Completed"}, "exit 3": {3, "Error"}, "exec sh -c 'kill -SEGV $$; sleep 1'": {0, ""}} {
		status := p.run(t, containerConfig("exit-"+strconv.Itoa(int(serial.Add(1))), shell(script)...)).ended(t)
		if want.reason != "" && (status.ExitCode != want.code || status.Reason != want.reason) {
			t.Errorf("%s: %d %s", script, status.ExitCode, status.Reason)
		}
	}
	// What the first process leaves behind does not outlive it.
	orphan := p.run(t, containerConfig("orphan", shell(`setsid sleep 3003 & echo $!; exit 0`)...))
	orphan.ended(t)
	eventually(t, 2*time.Second, "what the first process left behind dead", func() bool {
		output, _ := tryCommand("pgrep", "-f", "sleep 3003")
		return strings.TrimSpace(output) == ""
	})
}

// cgroupFile reads a file of the cgroup (version 1 or 2) that a process of the node is in.
func cgroupFile(t *testing.T, pid int, controller, v1, v2 string) string {
	t.Helper()
	for _, line := range strings.Split(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)))(t)), "\n") {
		part := strings.SplitN(line, ":", 3)
		if len(part) == 3 && part[1] == controller {
			return strings.TrimSpace(string(must(os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, part[2], v1)))(t)))
		}
	}
	return strings.TrimSpace(string(must(os.ReadFile(filepath.Join(unifiedCgroup(t, pid), v2)))(t)))
}

func TestLimits(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.CgroupParent = "/kubepods/burstable/pod-limits" })
	config := containerConfig("main", "sleep", "1000")
	config.Linux.Resources = &cri.LinuxContainerResources{CpuPeriod: 50000, CpuQuota: 25000, CpuShares: 512, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500}
	c := p.run(t, config)
	pid := c.hostPid(t)
	if groups := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)))(t)); !strings.Contains(groups, "/kubepods/burstable/pod-limits/") {
		t.Errorf("its cgroups:\n%s", groups)
	}
	check := func(controller, v1, v2, want1, want2 string) {
		t.Helper()
		if got := cgroupFile(t, pid, controller, v1, v2); got != want1 && got != want2 {
			t.Errorf("%s: %s", v1, got)
		}
	}
	check("memory", "memory.limit_in_bytes", "memory.max", "67108864", "67108864")
	check("cpu", "cpu.cfs_quota_us", "cpu.max", "25000", "25000 50000")
	if got := strings.TrimSpace(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid)))(t))); got != "500" {
		t.Errorf("oom_score_adj: %s", got)
	}
	must(runtime.UpdateContainerResources(soon(t), &cri.UpdateContainerResourcesRequest{ContainerId: c.id,
		Linux: &cri.LinuxContainerResources{MemoryLimitInBytes: 96 << 20, CpuQuota: 40000, CpuPeriod: 50000}}))(t)
	check("memory", "memory.limit_in_bytes", "memory.max", "100663296", "100663296")
	check("cpu", "cpu.cfs_quota_us", "cpu.max", "40000", "40000 50000")
	if got := c.status(t).Resources.GetLinux(); got.GetMemoryLimitInBytes() != 96<<20 || got.GetCpuShares() != 512 {
		t.Errorf("resources in the status: %v", got)
	}
}

func TestOutOfMemory(t *testing.T) {
	leaveNothing(t)
	config := containerConfig("main", "tail", "/dev/zero")
	config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20, MemorySwapLimitInBytes: 32 << 20}
	if status := newPod(t).run(t, config).ended(t); status.Reason != "OOMKilled" || status.ExitCode != 137 {
		t.Errorf("%s, exit code %d", status.Reason, status.ExitCode)
	}
}

func TestStats(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	config := containerConfig("busy", shell(`head -c 8000000 /dev/urandom >/dev/shm/x; while :; do :; done`)...)
	config.Labels = map[string]string{"kind": "busy"}
	c := p.run(t, config)
	p.sleeper(t, "idle")
	time.Sleep(500 * time.Millisecond)
	stats := must(runtime.ContainerStats(soon(t), &cri.ContainerStatsRequest{ContainerId: c.id}))(t).Stats
	if stats.Attributes.Id != c.id || stats.Attributes.Labels["kind"] != "busy" || stats.Cpu.UsageCoreNanoSeconds.GetValue() < 50e6 || stats.Memory.WorkingSetBytes.GetValue() < 1<<20 || stats.Cpu.Timestamp == 0 {
		t.Errorf("%v", stats)
	}
	if listed := must(runtime.ListContainerStats(soon(t), &cri.ListContainerStatsRequest{}))(t).Stats; len(listed) != 2 {
		t.Errorf("%d are listed", len(listed))
	}
	filter := &cri.ContainerStatsFilter{LabelSelector: map[string]string{"kind": "busy"}}
	if listed := must(runtime.ListContainerStats(soon(t), &cri.ListContainerStatsRequest{Filter: filter}))(t).Stats; len(listed) != 1 || listed[0].Attributes.Id != c.id {
		t.Errorf("listed by label: %v", listed)
	}
}

// Many pods at once come up and go down, and nothing is left.
func TestManyPodsAtOnce(t *testing.T) {
	leaveNothing(t)
	type result struct {
		p   *pod
		err error
	}
	results := make(chan result)
	count := 40
	if os.Getenv("CRISP_TEST_SLOW") != "" {
		count = 10
	}
	for range count {
		go func() {
			config := podConfig(t.Name())
			made, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config})
			if err != nil {
				results <- result{nil, err}
				return
			}
			p := &pod{made.PodSandboxId, config}
			c, err := p.tryCreate(t, containerConfig("main", "sleep", "1000"))
			if err == nil {
				err = c.tryStart(t)
			}
			results <- result{p, err}
		}()
	}
	var pods []*pod
	addresses := map[string]bool{}
	for range count {
		r := <-results
		if r.err != nil {
			t.Error(r.err)
		}
		if r.p != nil {
			pods = append(pods, r.p)
			addresses[r.p.status(t).Network.GetIp()] = true
		}
	}
	if len(addresses) != len(pods) {
		t.Errorf("%d pods have %d addresses", len(pods), len(addresses))
	}
	done := make(chan error)
	for _, p := range pods {
		go func() {
			_, err := runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: p.id})
			if err == nil {
				_, err = runtime.RemovePodSandbox(soon(t), &cri.RemovePodSandboxRequest{PodSandboxId: p.id})
			}
			os.RemoveAll(p.config.LogDirectory)
			done <- err
		}()
	}
	for range pods {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
