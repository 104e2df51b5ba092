package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ownCgroup gives a pod a parent cgroup for itself, as the kubelet does.
func ownCgroup(name string) func(*cri.PodSandboxConfig) {
	return func(c *cri.PodSandboxConfig) { c.Linux.CgroupParent = "/crisp-e2e-" + name }
}

func hasPressure() bool {
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.ReadFile(dir + "/cpu.pressure"); err == nil {
			return true
		}
	}
	return false
}

// busyPod runs a pod with a container that computes, holds memory, sends and forks.
func busyPod(t *testing.T, change ...func(*cri.PodSandboxConfig)) (*pod, *container) {
	t.Helper()
	p := newPod(t, change...)
	config := containerConfig("busy", shell(`head -c 8000000 /dev/urandom >/dev/shm/x; sleep 1000 & sleep 1000 & touch /busy; while :; do :; done`)...)
	config.Linux.Resources = &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 50000, CpuShares: 512, MemoryLimitInBytes: 64 << 20, MemorySwapLimitInBytes: 64 << 20}
	c := p.run(t, config)
	p.sleeper(t, "idle")
	c.sh(t, "while [ ! -e /busy ]; do sleep 0.05; done")
	time.Sleep(1200 * time.Millisecond)
	return p, c
}

func TestPodStats(t *testing.T) {
	leaveNothing(t)
	for name, own := range map[string]bool{"own": true, "shared": false} {
		t.Run(name, func(t *testing.T) {
			var change []func(*cri.PodSandboxConfig)
			if own {
				change = append(change, ownCgroup("stats"))
			}
			p, c := busyPod(t, change...)
			stats := must(runtime.PodSandboxStats(soon(t), &cri.PodSandboxStatsRequest{PodSandboxId: p.id}))(t).Stats
			linux := stats.Linux
			if stats.Attributes.Id != p.id || stats.Attributes.Metadata.Name == "" || linux == nil {
				t.Fatalf("%v", stats)
			}
			if linux.Cpu.UsageCoreNanoSeconds.GetValue() < 100e6 || linux.Cpu.UsageNanoCores.GetValue() < 50e6 || linux.Cpu.UsageNanoCores.GetValue() > 4e9 {
				t.Errorf("cpu: %v", linux.Cpu)
			}
			if linux.Memory.WorkingSetBytes.GetValue() < 8e6 || linux.Memory.UsageBytes.GetValue() < linux.Memory.WorkingSetBytes.GetValue() || linux.Memory.RssBytes == nil {
				t.Errorf("memory: %v", linux.Memory)
			}
			if n := linux.Process.ProcessCount.GetValue(); n < 4 || n > 10 {
				t.Errorf("processes: %d", n)
			}
			if len(linux.Containers) != 2 {
				t.Errorf("containers: %v", linux.Containers)
			}
			if own && hasPressure() && (linux.Cpu.Psi.GetSome() == nil || linux.Memory.Psi.GetFull() == nil || linux.Io.Psi.GetSome() == nil) {
				t.Errorf("pressure: %v", linux)
			}
			// What it sends is counted.
			before := linux.Network.GetDefaultInterface()
			if before.GetName() != "eth0" {
				t.Fatalf("network: %v", linux.Network)
			}
			c.sh(t, "ping -c 3 -i 0.01 -s 1000 $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') >/dev/null 2>&1 || true")
			after := must(runtime.PodSandboxStats(soon(t), &cri.PodSandboxStatsRequest{PodSandboxId: p.id}))(t).Stats.Linux.Network.DefaultInterface
			if after.TxBytes.GetValue() <= before.TxBytes.GetValue() {
				t.Errorf("sent: %v, then %v", before, after)
			}
		})
	}
}

func TestContainerStatsHavePressureAndSwap(t *testing.T) {
	_, c := busyPod(t)
	stats := must(runtime.ContainerStats(soon(t), &cri.ContainerStatsRequest{ContainerId: c.id}))(t).Stats
	if rate := stats.Cpu.UsageNanoCores.GetValue(); rate < 50e6 || rate > 1e9 {
		t.Errorf("half a core: %d", rate)
	}
	if left := stats.Memory.AvailableBytes.GetValue(); left == 0 || left > 56<<20 {
		t.Errorf("memory left of 64 MiB: %d", left)
	}
	if hasPressure() && (stats.Cpu.Psi.GetSome().GetTotal() == 0 || stats.Io.Psi.GetFull() == nil) {
		t.Errorf("pressure: %v, %v", stats.Cpu.Psi, stats.Io.Psi)
	}
	if stats.WritableLayer == nil || stats.Swap == nil {
		t.Errorf("%v", stats)
	}
}

func TestListPodStats(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Labels = map[string]string{"one": "yes"} })
	newPod(t)
	stopped := newPod(t)
	must(runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: stopped.id}))(t)
	list := func(filter *cri.PodSandboxStatsFilter) (ids []string) {
		for _, stats := range must(runtime.ListPodSandboxStats(soon(t), &cri.ListPodSandboxStatsRequest{Filter: filter}))(t).Stats {
			ids = append(ids, stats.Attributes.Id)
		}
		return ids
	}
	if ids := list(nil); len(ids) != 2 || slices.Contains(ids, stopped.id) {
		t.Errorf("all: %v", ids)
	}
	if ids := list(&cri.PodSandboxStatsFilter{Id: p.id}); len(ids) != 1 || ids[0] != p.id {
		t.Errorf("by id: %v", ids)
	}
	if ids := list(&cri.PodSandboxStatsFilter{LabelSelector: map[string]string{"one": "yes"}}); len(ids) != 1 || ids[0] != p.id {
		t.Errorf("by label: %v", ids)
	}
	if ids := list(&cri.PodSandboxStatsFilter{LabelSelector: map[string]string{"one": "no"}}); len(ids) != 0 {
		t.Errorf("by another label: %v", ids)
	}
	_, err := runtime.PodSandboxStats(soon(t), &cri.PodSandboxStatsRequest{PodSandboxId: strings.Repeat("f", 64)})
	fails(t, err, is(codes.NotFound), "ffff")
}

// Which of the metrics need a disk that counts, or a kernel with the feature.
var metricsThatMayLack = []string{"container_blkio_device_usage_total", "container_fs_reads_bytes_total", "container_fs_reads_total",
	"container_fs_writes_bytes_total", "container_fs_writes_total", "container_hugetlb_usage_bytes", "container_hugetlb_max_usage_bytes"}

// Every metric that is described comes with a value and as many labels as described, and says what is so.
func TestMetrics(t *testing.T) {
	leaveNothing(t)
	p, c := busyPod(t, ownCgroup("metrics"))
	c.sh(t, "for i in 1 2 3; do echo hi >/file$i; done; sync")
	described := map[string][]string{}
	for _, d := range must(runtime.ListMetricDescriptors(soon(t), &cri.ListMetricDescriptorsRequest{}))(t).Descriptors {
		if described[d.Name] != nil || d.Help == "" || len(d.LabelKeys) < 6 {
			t.Errorf("%v", d)
		}
		described[d.Name] = d.LabelKeys
	}
	if len(described) != 56 {
		t.Errorf("%d metrics are described", len(described))
	}
	pods := must(runtime.ListPodSandboxMetrics(soon(t), &cri.ListPodSandboxMetricsRequest{}))(t).PodMetrics
	if len(pods) != 1 || pods[0].PodSandboxId != p.id || len(pods[0].ContainerMetrics) != 2 {
		t.Fatalf("%v", pods)
	}
	all := pods[0].Metrics
	found := map[string]uint64{} // of the busy container, the last value of each
	for _, container := range pods[0].ContainerMetrics {
		all = append(all, container.Metrics...)
		if container.ContainerId == c.id {
			for _, m := range container.Metrics {
				found[m.Name] = m.Value.GetValue()
			}
		}
	}
	seen := map[string]bool{}
	for _, m := range all {
		keys := described[m.Name]
		if len(m.LabelValues) != len(keys) || m.Value == nil {
			t.Errorf("%v, described with %v", m, keys)
		}
		if series := m.Name + fmt.Sprint(m.LabelValues); seen[series] {
			t.Errorf("twice: %s", series)
		} else {
			seen[series] = true
		}
		seen[m.Name] = true
	}
	for name := range described {
		if !seen[name] && !slices.Contains(metricsThatMayLack, name) && (hasPressure() || !strings.HasPrefix(name, "container_pressure_")) {
			t.Errorf("no value of %s", name)
		}
	}
	now := uint64(time.Now().Unix())
	for name, good := range map[string]func(uint64) bool{
		"container_processes":                    func(v uint64) bool { return v >= 3 && v <= 6 },
		"container_threads":                      func(v uint64) bool { return v >= 3 && v <= 6 },
		"container_file_descriptors":             func(v uint64) bool { return v >= 9 },
		"container_memory_usage_bytes":           func(v uint64) bool { return v > 8e6 && v < 64<<20 },
		"container_memory_max_usage_bytes":       func(v uint64) bool { return v > 8e6 },
		"container_memory_cache":                 func(v uint64) bool { return v > 7e6 },
		"container_spec_memory_limit_bytes":      func(v uint64) bool { return v == 64<<20 },
		"container_spec_cpu_period":              func(v uint64) bool { return v == 100000 },
		"container_spec_cpu_quota":               func(v uint64) bool { return v == 50000 },
		"container_spec_cpu_shares":              func(v uint64) bool { return v > 480 && v < 540 },
		"container_cpu_cfs_periods_total":        func(v uint64) bool { return v > 3 },
		"container_start_time_seconds":           func(v uint64) bool { return v > now-60 && v <= now },
		"container_last_seen":                    func(v uint64) bool { return v > now-10 && v <= now+1 },
		"container_ulimits_soft":                 func(v uint64) bool { return v >= 1024 },
		"container_fs_limit_bytes":               func(v uint64) bool { return v > 1<<20 },
		"container_oom_events_total":             func(v uint64) bool { return v == 0 },
		"container_spec_memory_swap_limit_bytes": func(v uint64) bool { return v <= 64<<20 },
	} {
		if value := found[name]; !good(value) {
			t.Errorf("%s is %d", name, value)
		}
	}
	if output := command(t, "crictl", "metricdescs"); !strings.Contains(output, "container_pressure_io_stalled_seconds_total") {
		t.Errorf("crictl metricdescs said %q", output)
	}
}

// Stats of many containers are read while one of them is frozen in the middle of things, and nobody waits.
func TestStatsOfWhatHangs(t *testing.T) {
	p := newPod(t)
	c := p.sleeper(t, "main")
	command(t, "kill", "-STOP", fmt.Sprint(c.hostPid(t)))
	defer command(t, "kill", "-CONT", fmt.Sprint(c.hostPid(t)))
	start := time.Now()
	must(runtime.ListPodSandboxStats(soon(t), &cri.ListPodSandboxStatsRequest{}))(t)
	must(runtime.ListPodSandboxMetrics(soon(t), &cri.ListPodSandboxMetricsRequest{}))(t)
	if took := time.Since(start); took > time.Second {
		t.Errorf("it took %s", took)
	}
}
