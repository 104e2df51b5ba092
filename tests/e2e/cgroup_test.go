package e2e

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// onlyV2 tells whether the unified hierarchy is all this node has.
func onlyV2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// A handler has defaults of its own: a pod that names it gets them, one that does not gets those of the node.
func TestRuntimeHandlers(t *testing.T) {
	configure(t, `
[runtimes.careful]
seccomp_unset = "runtime/default"
pids = 50
cgroup_parent = "/careful"

[runtimes.plain]
privileged_without_host_devices = true
`)
	names := map[string]bool{}
	for _, handler := range must(runtime.Status(soon(t), &cri.StatusRequest{}))(t).RuntimeHandlers {
		names[handler.Name] = handler.Features.RecursiveReadOnlyMounts
	}
	if len(names) != 3 || !names[""] || !names["careful"] || !names["plain"] {
		t.Errorf("handlers in Status, and whether they mount read-only to the bottom: %v", names)
	}
	config := podConfig(t.Name())
	_, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: "kata"})
	fails(t, err, is(codes.InvalidArgument), `"kata"`, "careful", "plain", config.Metadata.Name)

	run := func(handler string) *pod {
		config := podConfig(t.Name())
		config.Linux.SecurityContext.Privileged = true
		made := must(runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config, RuntimeHandler: handler}))(t)
		p := &pod{made.PodSandboxId, config}
		t.Cleanup(func() { p.remove(t) })
		if got := p.status(t).RuntimeHandler; got != handler {
			t.Errorf("the pod of %q says %q", handler, got)
		}
		listed := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{Id: p.id}}))(t).Items
		if len(listed) != 1 || listed[0].RuntimeHandler != handler {
			t.Errorf("listed: %v", listed)
		}
		return p
	}
	careful := run("careful").sleeper(t, "main")
	if got := careful.sh(t, "grep ^Seccomp: /proc/self/status"); !strings.HasSuffix(got, "2\n") {
		t.Errorf("seccomp of careful: %s", got)
	}
	pid := careful.hostPid(t)
	if got := cgroupFile(t, pid, "pids", "pids.max", "pids.max"); got != "50" {
		t.Errorf("pids.max of careful: %s", got)
	}
	if groups := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)))(t)); !strings.Contains(groups, ":/careful/") {
		t.Errorf("the cgroups of careful:\n%s", groups)
	}
	usual := run("").sleeper(t, "main")
	if got := usual.sh(t, "grep ^Seccomp: /proc/self/status"); !strings.HasSuffix(got, "0\n") {
		t.Errorf("seccomp of the default: %s", got)
	}

	devices := func(p *pod) int {
		config := containerConfig("privileged", shell("ls /dev | wc -l")...)
		config.Linux.SecurityContext.Privileged = true
		return must(strconv.Atoi(strings.TrimSpace(p.output(t, config))))(t)
	}
	if all, few := devices(run("")), devices(run("plain")); few >= all || few > 16 {
		t.Errorf("%d devices for a privileged container of plain, %d for one of the default handler", few, all)
	}
	// The image the kubelet names a handler for is the same for all.
	if _, err := image.ImageStatus(soon(t), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: busybox, RuntimeHandler: "careful"}}); err != nil {
		t.Error(err)
	}
	_, err = image.ImageStatus(soon(t), &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: busybox, RuntimeHandler: "kata"}})
	fails(t, err, is(codes.InvalidArgument), `"kata"`)

	// A handler taken out of the configuration: its pods go on, and get no new containers that would be confined less than the others.
	configure(t, "")
	careful.sh(t, "true")
	_, err = careful.pod.tryCreate(t, containerConfig("late", "sleep", "1000"))
	fails(t, err, is(codes.FailedPrecondition), `"careful"`, "late")
}

// A pod that names no parent has a cgroup of its own, which holds its containers together to what they and the pod may use.
func TestPodHasItsOwnCgroup(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) {
		c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuQuota: 50000, CpuPeriod: 100000}
		c.Linux.Overhead = &cri.LinuxContainerResources{MemoryLimitInBytes: 16 << 20, CpuQuota: 10000, CpuPeriod: 50000}
	})
	a, b := p.sleeper(t, "a"), p.sleeper(t, "b")
	pid := a.hostPid(t)
	memory := func() string { return cgroupFile(t, pid, "memory", "../memory.limit_in_bytes", "../memory.max") }
	if got := memory(); got != "83886080" {
		t.Errorf("memory of the pod: %s", got)
	}
	if got := cgroupFile(t, pid, "cpu", "../cpu.cfs_quota_us", "../cpu.max"); got != "70000" && got != "70000 100000" {
		t.Errorf("quota of the pod: %s", got)
	}
	if got := cgroupFile(t, b.hostPid(t), "memory", "../memory.limit_in_bytes", "../memory.max"); got != memory() {
		t.Errorf("the pod's other container is elsewhere: %s", got)
	}
	update := func(resources *cri.LinuxContainerResources) error {
		_, err := runtime.UpdatePodSandboxResources(soon(t), &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: p.id, Resources: resources})
		return err
	}
	if err := update(&cri.LinuxContainerResources{MemoryLimitInBytes: 128 << 20}); err != nil {
		t.Fatal(err)
	}
	if got := memory(); got != "150994944" {
		t.Errorf("memory of the pod after the update: %s", got)
	}
	fails(t, update(&cri.LinuxContainerResources{MemoryLimitInBytes: 256 << 20, Unified: map[string]string{"memory.nothing": "1"}}), is(codes.InvalidArgument), "memory.nothing")
	if got := memory(); got != "150994944" {
		t.Errorf("memory of the pod after an update that was refused: %s", got)
	}
	info := must(runtime.PodSandboxStatus(soon(t), &cri.PodSandboxStatusRequest{PodSandboxId: p.id, Verbose: true}))(t).Info["info"]
	if !strings.Contains(info, `"overhead":`) || !strings.Contains(info, strconv.Itoa(128<<20)) {
		t.Errorf("verbose: %s", info)
	}
	// More than there are numbers is no limit, and not a negative one.
	if err := update(&cri.LinuxContainerResources{MemoryLimitInBytes: math.MaxInt64}); err != nil {
		t.Error(err)
	}
}

// "My pod has half a processor, and so has its container: I cannot have that half in shorter turns." The kernel's v1 looks at quota
// and period one after the other, and between the two the container must not have more than its pod.
func TestQuotaAndPeriodChangeTogether(t *testing.T) {
	leaveNothing(t)
	half := func(period int64) *cri.LinuxContainerResources {
		return &cri.LinuxContainerResources{CpuPeriod: period, CpuQuota: period / 2}
	}
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.Resources = half(100000) })
	config := containerConfig("main", "sleep", "1000")
	config.Linux.Resources = half(100000)
	c := p.run(t, config)
	pid := c.hostPid(t)
	check := func(period int64) {
		t.Helper()
		got := cgroupFile(t, pid, "cpu", "cpu.cfs_quota_us", "cpu.max")
		if !onlyV2() {
			got += " " + cgroupFile(t, pid, "cpu", "cpu.cfs_period_us", "")
		}
		if want := fmt.Sprint(period/2, " ", period); got != want {
			t.Errorf("quota and period: %s, want %s", got, want)
		}
	}
	for _, period := range []int64{50000, 200000, 20000} {
		must(runtime.UpdateContainerResources(soon(t), &cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: half(period)}))(t)
		check(period)
		refused := half(3 * period)
		refused.Unified = map[string]string{"memory.nothing": "1"}
		_, err := runtime.UpdateContainerResources(soon(t), &cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: refused})
		fails(t, err, is(codes.InvalidArgument), "memory.nothing")
		check(period)
		must(runtime.UpdatePodSandboxResources(soon(t), &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: p.id, Resources: half(period)}))(t)
	}
}

// A machine with many processors, of which a container gets every second one.
func TestALongListOfProcessorsIsTakenWhole(t *testing.T) {
	if controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil && !strings.Contains(string(controllers), "cpuset") {
		t.Skip("this kernel has no cpusets")
	}
	if goruntime.NumCPU() < 2 {
		t.Skip("one processor needs no long list")
	}
	leaveNothing(t)
	config := containerConfig("main", "sleep", "1000")
	config.Linux.Resources = &cri.LinuxContainerResources{CpusetCpus: strings.Repeat("0,", 150) + "1"}
	c := newPod(t).run(t, config)
	if got := cgroupFile(t, c.hostPid(t), "cpuset", "cpuset.cpus", "cpuset.cpus"); got != "0-1" {
		t.Errorf("its processors: %s", got)
	}
	for _, cpus := range []string{strings.Repeat("0,", 2000) + "1", strings.Repeat("0,", 3000) + "1", "99999999999999999999", ",", "0,,1", "0-", "-1"} {
		_, err := runtime.UpdateContainerResources(soon(t), &cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: &cri.LinuxContainerResources{CpusetCpus: cpus}})
		fails(t, err, is(codes.InvalidArgument), "cpuset")
	}
}

// Every limit that an update gives is set at once and told in the status; where one is refused all are as they were.
func TestUpdateOfEveryLimit(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	config := containerConfig("main", "sleep", "1000")
	config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20, MemorySwapLimitInBytes: 32 << 20, CpuShares: 128, OomScoreAdj: 300}
	c := p.run(t, config)
	pid := c.hostPid(t)
	read := func(controller, v1, v2 string) string { t.Helper(); return cgroupFile(t, pid, controller, v1, v2) }
	either := func(what, got, v1, v2 string) {
		t.Helper()
		if want := map[bool]string{false: v1, true: v2}[onlyV2()]; got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	want := &cri.LinuxContainerResources{CpuPeriod: 40000, CpuQuota: 20000, CpuShares: 2048, MemoryLimitInBytes: 48 << 20, MemorySwapLimitInBytes: 80 << 20, OomScoreAdj: 700}
	cpuset := false
	if controllers, _ := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); !onlyV2() || strings.Contains(string(controllers), "cpuset") {
		cpuset, want.CpusetCpus, want.CpusetMems = true, "0", "0"
	}
	update := func(resources *cri.LinuxContainerResources) error {
		_, err := runtime.UpdateContainerResources(soon(t), &cri.UpdateContainerResourcesRequest{ContainerId: c.id, Linux: resources})
		return err
	}
	if err := update(want); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		either(when+": memory", read("memory", "memory.limit_in_bytes", "memory.max"), "50331648", "50331648")
		if _, err := os.Stat("/proc/swaps"); err == nil { // a kernel without it has no such files
			either(when+": swap", read("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"), "83886080", "33554432")
		}
		either(when+": quota", read("cpu", "cpu.cfs_quota_us", "cpu.max"), "20000", "20000 40000")
		either(when+": shares", read("cpu", "cpu.shares", "cpu.weight"), "2048", "174")
		if cpuset {
			either(when+": cpus", read("cpuset", "cpuset.cpus", "cpuset.cpus"), "0", "0")
		}
		for _, of := range []int{pid} {
			if got := strings.TrimSpace(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", of)))(t))); got != "700" {
				t.Errorf("%s: oom_score_adj %s", when, got)
			}
		}
		got := c.status(t).Resources.GetLinux()
		if got.String() != want.String() {
			t.Errorf("%s: the status has %v, want %v", when, got, want)
		}
	}
	check("updated")
	for name, bad := range map[string]*cri.LinuxContainerResources{
		"a quota below the kernel's least":  {MemoryLimitInBytes: 64 << 20, CpuShares: 4096, CpuQuota: 10},
		"a processor that is not there":     {MemoryLimitInBytes: 64 << 20, CpuShares: 4096, CpusetCpus: "4095"},
		"a unified key that is no file":     {MemoryLimitInBytes: 64 << 20, CpuShares: 4096, Unified: map[string]string{"memory.nothing": "1"}},
		"a page size that is not there":     {MemoryLimitInBytes: 64 << 20, CpuShares: 4096, HugepageLimits: []*cri.HugepageLimit{{PageSize: "3MB", Limit: 1}}},
		"swap and memory less than memory":  {MemoryLimitInBytes: 96 << 20},
		"a score that is none":              {MemoryLimitInBytes: 64 << 20, OomScoreAdj: 2000},
		"a negative share":                  {MemoryLimitInBytes: 64 << 20, CpuShares: -2},
		"a unified key that is no resource": {MemoryLimitInBytes: 64 << 20, Unified: map[string]string{"cgroup.freeze": "1"}},
	} {
		if err := update(bad); err == nil {
			t.Errorf("%s was taken", name)
		} else if name != "a page size that is not there" || onlyV2() {
			fails(t, err, is(codes.InvalidArgument, codes.Unimplemented))
		}
		check(name)
	}
	if again := c.sh(t, "cat /proc/self/oom_score_adj"); again != "700\n" {
		t.Errorf("oom_score_adj of an exec after the update: %s", again)
	}
}

func TestHugepageLimits(t *testing.T) {
	leaveNothing(t)
	sizes, _ := filepath.Glob("/sys/kernel/mm/hugepages/hugepages-2048kB")
	if len(sizes) == 0 {
		t.Skip("no huge pages of 2 MB")
	}
	p := newPod(t)
	config := containerConfig("main", "sleep", "1000")
	config.Linux.Resources = &cri.LinuxContainerResources{HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB", Limit: 4 << 20}}}
	c := p.run(t, config)
	read := func() string {
		t.Helper()
		pid := c.hostPid(t)
		path := ""
		for _, line := range strings.Split(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)))(t)), "\n") {
			if unified, found := strings.CutPrefix(line, "0::"); found {
				path = unified
			}
		}
		for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			if limit, err := os.ReadFile(filepath.Join(mount, path, "hugetlb.2MB.max")); err == nil {
				return strings.TrimSpace(string(limit))
			}
		}
		return cgroupFile(t, pid, "hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max")
	}
	if got := read(); got != "4194304" {
		t.Errorf("the limit: %s", got)
	}
	must(runtime.UpdateContainerResources(soon(t), &cri.UpdateContainerResourcesRequest{ContainerId: c.id,
		Linux: &cri.LinuxContainerResources{HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB", Limit: 8 << 20}}}}))(t)
	if got := read(); got != "8388608" {
		t.Errorf("the limit after the update: %s", got)
	}
	if got := c.status(t).Resources.GetLinux().GetHugepageLimits(); len(got) != 1 || got[0].Limit != 8<<20 {
		t.Errorf("in the status: %v", got)
	}
}

// A child that was killed for want of memory makes the container's end OOMKilled, as long as the container fails by it; with
// memory.oom.group the whole container goes with its child.
func TestOutOfMemoryOfAChild(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	limits := func(name, script string, unified map[string]string) *cri.ContainerStatus {
		config := containerConfig(name, shell(script)...)
		config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 32 << 20, MemorySwapLimitInBytes: 32 << 20, Unified: unified}
		return p.run(t, config).ended(t)
	}
	if status := limits("fails", "tail /dev/zero; exit 7", nil); status.Reason != "OOMKilled" || status.ExitCode != 7 {
		t.Errorf("a container that fails by its child: %s, exit code %d", status.Reason, status.ExitCode)
	}
	if status := limits("goes-on", "tail /dev/zero; exit 0", nil); status.Reason != "Completed" || status.ExitCode != 0 {
		t.Errorf("a container that does without its child: %s, exit code %d", status.Reason, status.ExitCode)
	}
	if !onlyV2() {
		return
	}
	if status := limits("group", "tail /dev/zero; exit 7", map[string]string{"memory.oom.group": "1"}); status.Reason != "OOMKilled" || status.ExitCode != 137 {
		t.Errorf("with memory.oom.group: %s, exit code %d", status.Reason, status.ExitCode)
	}
}

// A fork bomb is held by the limit of processes, and nothing of it forks away from the kill.
func TestAForkBombIsKilledAsAWhole(t *testing.T) {
	configure(t, "[limits]\npids = 200\n")
	leaveNothing(t)
	for _, mode := range []cri.NamespaceMode{cri.NamespaceMode_CONTAINER, cri.NamespaceMode_NODE} {
		p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = mode })
		config := containerConfig("bomb", shell(`trap '' TERM; b() { b & b & }; while :; do b; sleep 0.01; done`)...)
		config.Linux.Resources = &cri.LinuxContainerResources{CpuQuota: 50000, CpuPeriod: 100000}
		config.Linux.SecurityContext.NamespaceOptions.Pid = mode
		c := p.run(t, config)
		pid := c.hostPid(t)
		eventually(t, 20*time.Second, "at its limit", func() bool {
			count := must(strconv.Atoi(cgroupFile(t, pid, "pids", "pids.current", "pids.current")))(t)
			if count > 200 {
				t.Errorf("%d processes", count)
			}
			return count > 150
		})
		c.stop(t, 0)
		if status := c.status(t); status.State != cri.ContainerState_CONTAINER_EXITED || status.ExitCode != 137 {
			t.Errorf("after the stop: %v, exit code %d", status.State, status.ExitCode)
		}
		p.remove(t)
	}
}
