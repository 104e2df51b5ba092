package kubelet

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

var statsFromCRI = strings.Contains(gates, "PodAndContainerStatsFromCRI=true")

// A pod that uses some memory, processor, disk and network.
const busyPod = `
volumes: [{name: v, emptyDir: {medium: Memory}}]
containers:
- name: main
  resources: {limits: {memory: 256Mi}}
  command: [sh, -c, 'dd if=/dev/zero of=/v/x bs=1M count=20 2>/dev/null; dd if=/dev/zero of=/file bs=1M count=5 2>/dev/null; while :; do wget -q -O /dev/null http://203.0.113.2:1 2>/dev/null; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; done']
  volumeMounts: [{name: v, mountPath: /v}]
- {name: idle, command: [sleep, "1000"]}`

func podStats(t *testing.T, p *pod) *stats.PodStats {
	t.Helper()
	for _, found := range getJSON[stats.Summary](t, "/stats/summary").Pods {
		if found.PodRef.Name == p.name {
			return &found
		}
	}
	return nil
}

func value(number *uint64) uint64 {
	if number == nil {
		return 0
	}
	return *number
}

// The kubelet's summary, which eviction and kubectl top live on, has the pod with values that can be true.
func TestTheStatsSummary(t *testing.T) {
	t.Parallel()
	p := start(t, busyPod)
	p.becomesReady()
	var got *stats.PodStats
	eventually(t, 2*patience, "the summary has the pod's work", func() bool {
		got = podStats(t, p)
		return got != nil && got.CPU != nil && value(got.CPU.UsageNanoCores) > 0 && len(got.Containers) == 2 && got.Memory != nil && value(got.Memory.WorkingSetBytes) > 20<<20
	})
	if working := value(got.Memory.WorkingSetBytes); working > 256<<20 {
		t.Errorf("the pod works with %d bytes", working)
	}
	if cores := value(got.CPU.UsageNanoCores); cores > 4e9 {
		t.Errorf("the pod uses %d nanocores", cores)
	}
	for _, c := range got.Containers {
		if c.CPU == nil || c.Memory == nil || value(c.Memory.WorkingSetBytes) == 0 || c.Rootfs == nil || c.Rootfs.UsedBytes == nil || time.Since(c.StartTime.Time) > time.Hour {
			t.Errorf("container %s: %+v", c.Name, c)
		}
	}
	if statsFromCRI {
		eventually(t, patience, "the 5 MiB that main wrote seen", func() bool {
			for _, c := range podStats(t, p).Containers {
				if c.Name == "main" {
					return value(c.Rootfs.UsedBytes) >= 5<<20
				}
			}
			return false
		})
	}
	if statsFromCRI && (got.Network == nil || got.Network.Name != "eth0" || value(got.Network.TxBytes) == 0) {
		t.Errorf("the pod's network: %+v", got.Network)
	}
	if statsFromCRI && (got.ProcessStats == nil || value(got.ProcessStats.ProcessCount) < 2) {
		t.Errorf("the pod's processes: %+v", got.ProcessStats)
	}
}

// With PodAndContainerStatsFromCRI the metrics bear the pods' names; without, cAdvisor's have none for a runtime it does not know.
func TestTheCadvisorMetrics(t *testing.T) {
	t.Parallel()
	if !statsFromCRI {
		t.Skip("the gate PodAndContainerStatsFromCRI is off")
	}
	p := start(t, busyPod)
	p.becomesReady()
	sample := func(metric, labels string) (float64, bool) {
		line := regexp.MustCompile(`(?m)^` + metric + `\{[^}]*` + labels + `[^}]*pod="` + p.name + `"[^}]*\} (\S+)`).FindStringSubmatch(get(t, "/metrics/cadvisor"))
		if line == nil {
			return 0, false
		}
		number, err := strconv.ParseFloat(line[1], 64)
		return number, err == nil
	}
	for _, c := range []struct {
		metric, labels string
		least, most    float64
	}{
		{"container_cpu_usage_seconds_total", `container="main"`, 0.01, 600},
		{"container_memory_working_set_bytes", `container="main"`, 20 << 20, 256 << 20},
		{"container_memory_working_set_bytes", `container="idle"`, 4096, 64 << 20},
		{"container_spec_memory_limit_bytes", `container="main"`, 256 << 20, 256 << 20},
		{"container_network_transmit_bytes_total", `interface="eth0"`, 1, 1 << 40},
		{"container_start_time_seconds", `container="main"`, float64(time.Now().Add(-time.Hour).Unix()), float64(time.Now().Add(time.Hour).Unix())},
		{"container_processes", `container="idle"`, 1, 1},
		{"container_fs_usage_bytes", `container="main"`, 5 << 20, 256 << 20},
	} {
		var got float64
		eventually(t, patience, c.metric+" of "+c.labels+" as it can be", func() bool {
			var there bool
			got, there = sample(c.metric, c.labels)
			return there && got >= c.least && got <= c.most
		})
	}
}
