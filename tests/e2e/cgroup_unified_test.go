package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// unifiedCgroup gives the directory of a process's cgroup in version 2.
func unifiedCgroup(t *testing.T, pid int) string {
	t.Helper()
	_, path, found := strings.Cut("\n"+string(must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)))(t)), "\n0::")
	if !found {
		t.Skip("the node has no unified hierarchy")
	}
	mount := "/sys/fs/cgroup/unified"
	if onlyV2() {
		mount = "/sys/fs/cgroup"
	}
	return filepath.Join(mount, strings.TrimSpace(path))
}

func TestUnifiedResources(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	with := func(unified map[string]string) *cri.ContainerConfig {
		config := containerConfig("main", "sleep", "1000")
		config.Linux.Resources = &cri.LinuxContainerResources{Unified: unified}
		return config
	}
	for _, key := range []string{"memory.nothing", "nothing.max", "cgroup.procs", "../memory.max", "memory"} {
		_, err := p.tryCreate(t, with(map[string]string{key: "1"}))
		fails(t, err, is(codes.InvalidArgument), key)
	}
	if !onlyV2() {
		_, err := p.tryCreate(t, with(map[string]string{"memory.high": "50331648"}))
		fails(t, err, is(codes.InvalidArgument), "memory.high")
		return
	}
	c := p.run(t, with(map[string]string{"memory.high": "50331648", "cpu.weight": "77"}))
	for file, want := range map[string]string{"memory.high": "50331648", "cpu.weight": "77", "memory.max": "max"} {
		if got := strings.TrimSpace(string(must(os.ReadFile(filepath.Join(unifiedCgroup(t, c.hostPid(t)), file)))(t))); got != want {
			t.Errorf("%s: %s", file, got)
		}
	}
	if got := c.status(t).Resources.GetLinux().GetUnified()["cpu.weight"]; got != "77" {
		t.Errorf("in the status: %q", got)
	}
}

// The kubelet sets memory.oom.group: then the container dies as a whole, execs included.
func TestOutOfMemoryOfTheGroup(t *testing.T) {
	leaveNothing(t)
	if !onlyV2() {
		t.Skip("memory.oom.group is of cgroup v2: hack/test e2e OutOfMemory uml")
	}
	config := containerConfig("main", "sleep", "1000")
	config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20, MemorySwapLimitInBytes: 32 << 20,
		Unified: map[string]string{"memory.oom.group": "1"}}
	c := newPod(t).run(t, config)
	if answer, err := c.exec(t, 30, "tail", "/dev/zero"); err == nil && answer.ExitCode != 137 {
		t.Errorf("the exec: exit code %d", answer.ExitCode)
	}
	if status := c.ended(t); status.Reason != "OOMKilled" || status.ExitCode != 137 {
		t.Errorf("%s, exit code %d", status.Reason, status.ExitCode)
	}
}

// The kubelet's cAdvisor takes any cgroup beneath a container's for a container, unless its name ends in .mount.
func TestExecsHaveCgroupsThatNobodyAdopts(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	cgroup := unifiedCgroup(t, c.hostPid(t))
	children := func() (names []string) {
		found, _ := filepath.Glob(cgroup + "/*/cgroup.procs")
		for _, path := range found {
			names = append(names, filepath.Base(filepath.Dir(path)))
		}
		return names
	}
	ended := make(chan struct{})
	go func() {
		_, _ = c.exec(t, 60, "sh", "-c", "touch /here; while [ -e /here ]; do sleep 0.01; done")
		close(ended)
	}()
	eventually(t, patience, "an exec in a cgroup of its own", func() bool { return len(children()) == 1 })
	if name := children()[0]; !strings.HasSuffix(name, ".mount") {
		t.Errorf("its name is %s", name)
	}
	c.sh(t, "while [ ! -e /here ]; do sleep 0.01; done; rm /here")
	<-ended
	if left := children(); len(left) > 0 {
		t.Errorf("afterwards: %v", left)
	}
}

// A device may be used as the request says, by execs too, and no other that root makes for itself.
func TestDeviceAccess(t *testing.T) {
	leaveNothing(t)
	config := containerConfig("main", "sleep", "1000")
	config.Devices = []*cri.Device{{HostPath: "/dev/kmsg", ContainerPath: "/dev/given", Permissions: "w"}}
	c := newPod(t).run(t, config)
	for script, want := range map[string]string{
		": >/dev/given && echo yes":                    "yes\n",
		": </dev/given && echo yes":                    "Operation not permitted",
		"mknod /own c 1 11 && : >/own && echo yes":     "yes\n",
		"mknod /port c 1 4 && : </port && echo yes":    "Operation not permitted",
		"mknod /zero c 1 5 && head -c 4 /zero | wc -c": "4\n",
		"mknod /disk b 7 0 && : </disk && echo yes":    "Operation not permitted",
	} {
		answer, err := c.exec(t, 30, "sh", "-c", script)
		if err != nil || !strings.Contains(string(answer.Stdout)+string(answer.Stderr), want) {
			t.Errorf("%s: %s%s, %v", script, answer.GetStdout(), answer.GetStderr(), err)
		}
	}
}

// What the kernel has no controller for is refused with its name.
func TestLimitsThatTheKernelHasNot(t *testing.T) {
	leaveNothing(t)
	if !onlyV2() {
		t.Skip("every controller is in some hierarchy here: hack/test e2e LimitsThat uml")
	}
	p := newPod(t)
	controllers := string(must(os.ReadFile("/sys/fs/cgroup/cgroup.controllers"))(t))
	for controller, resources := range map[string]*cri.LinuxContainerResources{
		"cpuset":  {CpusetCpus: "0"},
		"hugetlb": {HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB", Limit: 2 << 20}}},
	} {
		if strings.Contains(controllers, controller) {
			t.Logf("the node has %s", controller)
			continue
		}
		config := containerConfig(controller, "sleep", "1000")
		config.Linux.Resources = resources
		_, err := p.tryCreate(t, config)
		fails(t, err, is(codes.Unimplemented), controller)
	}
	none := containerConfig("none", "sleep", "1000")
	none.Linux.Resources = &cri.LinuxContainerResources{HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB"}, {PageSize: "1GB"}}}
	p.run(t, none)
}
