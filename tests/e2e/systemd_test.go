package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// needSystemd skips what needs a machine that systemd runs: tests/node/systemd makes one.
func needSystemd(t *testing.T) {
	t.Helper()
	if os.Getenv("CRISP_TEST_SYSTEMD") == "" {
		t.Skip("systemd does not run this node")
	}
}

func property(t *testing.T, unit, name string) string {
	t.Helper()
	return strings.TrimSpace(command(t, "systemctl", "show", "--value", "-p", name, unit))
}

func unitsOf(t *testing.T, pattern string) string {
	t.Helper()
	return strings.TrimSpace(command(t, "systemctl", "list-units", "--all", "--plain", "--no-legend", pattern))
}

const burstable = "/kubepods.slice/kubepods-burstable.slice/"

// The kubelet names a pod's slice; its containers are scopes in it, with their limits as properties, so that nothing that
// systemd does later sets others.
func TestSystemdMakesTheCgroups(t *testing.T) {
	needSystemd(t)
	if got := must(runtime.RuntimeConfig(soon(t), &cri.RuntimeConfigRequest{}))(t).Linux.CgroupDriver; got != cri.CgroupDriver_SYSTEMD {
		t.Errorf("RuntimeConfig names %v", got)
	}
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.CgroupParent = burstable + "kubepods-burstable-pod1_a.slice" })
	config := containerConfig("main", "sleep", "1000")
	config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, MemorySwapLimitInBytes: 96 << 20, CpuShares: 2048,
		CpuQuota: 12345, CpuPeriod: 50000, Unified: map[string]string{"memory.high": "50331648"}}
	c := p.run(t, config)
	scope := "crisp-" + c.id + ".scope"
	path := burstable + "kubepods-burstable-pod1_a.slice/" + scope
	pid := c.hostPid(t)
	if got := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)))(t)); got != "0::"+path+"\n" {
		t.Errorf("its cgroup: %s", got)
	}
	info := must(runtime.ContainerStatus(soon(t), &cri.ContainerStatusRequest{ContainerId: c.id, Verbose: true}))(t).Info["info"]
	if !strings.Contains(info, path) {
		t.Errorf("verbose: %s", info)
	}
	properties := map[string]string{"ActiveState": "active", "Slice": "kubepods-burstable-pod1_a.slice", "Delegate": "yes", "MemoryMax": "67108864",
		"MemorySwapMax": "33554432", "MemoryHigh": "50331648", "CPUWeight": "174", "CPUQuotaPeriodUSec": "50ms", "CPUQuotaPerSecUSec": "250ms", "TasksMax": "infinity",
		"DevicePolicy": "strict", "DefaultDependencies": "no", "CollectMode": "inactive-or-failed"}
	for name, want := range properties {
		if got := property(t, scope, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	devices := property(t, scope, "DeviceAllow")
	for _, want := range []string{"/dev/char/1:3 rwm", "char-136 rwm", "char-* m", "block-* m"} {
		if !strings.Contains(devices, want) {
			t.Errorf("DeviceAllow has no %s: %s", want, devices)
		}
	}
	if got := cgroupFile(t, pid, "cpu", "", "cpu.max"); got != "12345 50000" {
		t.Errorf("cpu.max: %s", got)
	}

	must(runtime.UpdateContainerResources(soon(t), &cri.UpdateContainerResourcesRequest{ContainerId: c.id,
		Linux: &cri.LinuxContainerResources{MemoryLimitInBytes: 80 << 20, CpuShares: 1024, CpuQuota: 20000}}))(t)
	for name, want := range map[string]string{"MemoryMax": "83886080", "MemorySwapMax": "16777216", "CPUWeight": "100", "CPUQuotaPerSecUSec": "400ms"} {
		if got := property(t, scope, name); got != want {
			t.Errorf("%s after the update: %q, want %q", name, got, want)
		}
	}
	_, err := runtime.UpdateContainerResources(soon(t), &cri.UpdateContainerResourcesRequest{ContainerId: c.id,
		Linux: &cri.LinuxContainerResources{CpuShares: 512, Unified: map[string]string{"memory.nothing": "1"}}})
	fails(t, err, is(codes.InvalidArgument), "memory.nothing")
	if got := property(t, scope, "CPUWeight"); got != "100" {
		t.Errorf("CPUWeight after an update that was refused: %s", got)
	}

	stats := must(runtime.ListPodSandboxStats(soon(t), &cri.ListPodSandboxStatsRequest{Filter: &cri.PodSandboxStatsFilter{Id: p.id}}))(t).Stats
	if len(stats) != 1 || stats[0].Linux.GetProcess().GetProcessCount().GetValue() != 1 {
		t.Errorf("one process: %v", stats)
	}
	c.stop(t, 0)
	c.remove(t)
	eventually(t, 5*time.Second, "without the scope", func() bool { return unitsOf(t, scope) == "" })
	p.remove(t)
	eventually(t, 5*time.Second, "without the pod's slice", func() bool { return unitsOf(t, "kubepods*") == "" })
}

// "I ran systemctl daemon-reload and my containers lost their devices."
func TestSystemdWasReloadedAndTheContainersLostTheirDevices(t *testing.T) {
	needSystemd(t)
	p := newPod(t)
	config := containerConfig("main", "sleep", "1000")
	config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuShares: 512}
	config.Devices = []*cri.Device{{ContainerPath: "/dev/mine", HostPath: "/dev/kmsg", Permissions: "r"}}
	c := p.run(t, config)
	check := func(when string) {
		t.Helper()
		c.sh(t, "head -c 1 /dev/zero >/dev/null && head -c 1 /dev/urandom >/dev/null && : </dev/mine")
		// Nodes may be made of any device, and used of those in the list only.
		if answer := must(c.exec(t, 0, shell("mknod /tmp/mem c 1 1 && : </tmp/mem; status=$?; rm -f /tmp/mem; exit $status")...))(t); answer.ExitCode == 0 {
			t.Errorf("%s: /dev/mem could be opened", when)
		}
		if got := cgroupFile(t, c.hostPid(t), "memory", "", "memory.max"); got != "67108864" {
			t.Errorf("%s: memory.max %s", when, got)
		}
	}
	check("at first")
	command(t, "systemctl", "daemon-reload")
	check("after daemon-reload")
	command(t, "systemctl", "daemon-reexec")
	check("after daemon-reexec")
	p.sleeper(t, "another") // by a connection that was made anew
	command(t, "systemctl", "restart", "dbus")
	p.sleeper(t, "a-third")
	restartCrispd(t)
	check("after a restart of crispd")
	p.sleeper(t, "a-fourth")
	command(t, "systemctl", "daemon-reload")
	check("after all that")
}

// A pod that names no slice has one of its own, with its limits; what is no slice is refused.
func TestSystemdSlicesOfPods(t *testing.T) {
	needSystemd(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) {
		c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20}
	})
	slice := "crisp-" + p.id + ".slice"
	p.sleeper(t, "main")
	if got := property(t, slice, "MemoryMax"); got != "67108864" {
		t.Errorf("MemoryMax of the pod: %s", got)
	}
	must(runtime.UpdatePodSandboxResources(soon(t), &cri.UpdatePodSandboxResourcesRequest{PodSandboxId: p.id,
		Overhead: &cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 20}, Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: 127 << 20}}))(t)
	if got := property(t, slice, "MemoryMax"); got != "134217728" {
		t.Errorf("MemoryMax of the pod after the update: %s", got)
	}
	for _, parent := range []string{"/kubepods/pod1", "pod1", "a--b.slice", "-.slice", "/kubepods.slice/x.service"} {
		config := podConfig(t.Name())
		config.Linux.CgroupParent = parent
		_, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config})
		fails(t, err, is(codes.InvalidArgument), "slice", parent)
	}
	p.remove(t)
	eventually(t, 5*time.Second, "without the slice", func() bool { return unitsOf(t, "crisp-*") == "" })
}

// systemd removes a scope at once when it is empty: the kernel's count of kills is read before.
func TestSystemdAndOutOfMemory(t *testing.T) {
	needSystemd(t)
	p := newPod(t)
	for i := range 10 {
		config := containerConfig(fmt.Sprint("main-", i), "tail", "/dev/zero")
		config.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 16 << 20, MemorySwapLimitInBytes: 16 << 20}
		if i%2 == 1 {
			config.Linux.Resources.Unified = map[string]string{"memory.oom.group": "1"}
		}
		if status := p.run(t, config).ended(t); status.Reason != "OOMKilled" || status.ExitCode != 137 {
			t.Errorf("%d: %s, exit code %d", i, status.Reason, status.ExitCode)
		}
	}
}

// Many at once: one connection carries them all, and no unit, failed or not, is left of them.
func TestSystemdManyScopesAtOnce(t *testing.T) {
	needSystemd(t)
	pods := []*pod{newPod(t), newPod(t), newPod(t)}
	var all sync.WaitGroup
	for i := range 24 {
		all.Add(1)
		go func() {
			defer all.Done()
			c, err := pods[i%3].tryCreate(t, containerConfig(fmt.Sprint("main-", i), shell("exit 3")...))
			if err == nil {
				err = c.tryStart(t)
			}
			if err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	for _, p := range pods {
		p.remove(t)
	}
	eventually(t, 10*time.Second, "without units", func() bool { return unitsOf(t, "crisp-*") == "" })
	if left, _ := filepath.Glob("/sys/fs/cgroup/crisp.slice/*.slice"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
