package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// counter writes 1, 2, 3, … to its log, some twenty a second, until it is stopped.
func counter() *cri.ContainerConfig {
	return containerConfig("counter", shell(`i=0; while :; do i=$((i + 1)); echo $i; usleep 40000; done`)...)
}

// noGap says that the lines are 1, 2, 3, …, each once and whole, and returns how many.
func noGap(t *testing.T, lines []line) int {
	t.Helper()
	for i, line := range lines {
		if line.text != strconv.Itoa(i+1) || line.partial || line.stream != "stdout" {
			t.Fatalf("line %d of the log is %+v", i+1, line)
		}
	}
	return len(lines)
}

// crispd is killed with SIGKILL while 20 pods run. A new crispd lists them all as they are; their logs have gone on without a
// missing line; an exit in between is reported with its true code and time; exec, stop and remove work.
func TestSurvivalOfCrispdsDeath(t *testing.T) {
	leaveNothing(t)
	const pods = 20
	signals := t.TempDir()
	var counters []*container
	for range pods {
		counters = append(counters, newPod(t).run(t, counter()))
	}
	config := containerConfig("leaver", shell(`while [ ! -e /signals/leave ]; do usleep 5000; done; echo leaving; exit 42`)...)
	config.Mounts = []*cri.Mount{{HostPath: signals, ContainerPath: "/signals", Readonly: true}}
	leaver := counters[0].pod.run(t, config)
	before := make([]int, pods)
	for i, c := range counters {
		eventually(t, 10*time.Second, "a counter that counts", func() bool {
			data, _ := os.ReadFile(c.logPath())
			before[i] = strings.Count(string(data), "\n")
			return before[i] > 3
		})
	}

	killCrispd(t)
	left := time.Now()
	if err := os.WriteFile(filepath.Join(signals, "leave"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	back := time.Now()
	startCrispd(t)

	listed := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t).Items
	if len(listed) != pods {
		t.Errorf("%d pods are listed, want %d", len(listed), pods)
	}
	for _, p := range listed {
		if p.State != cri.PodSandboxState_SANDBOX_READY {
			t.Errorf("pod %s is %v", p.Id, p.State)
		}
	}
	status := leaver.ended(t)
	finished := time.Unix(0, status.FinishedAt)
	if status.ExitCode != 42 || finished.Before(left.Add(-time.Second)) || finished.After(back) {
		t.Errorf("the container that left at %v: exit code %d, finished %v, reason %q", left, status.ExitCode, finished, status.Reason)
	}
	if got := leaver.stdout(t); got != "leaving\n" {
		t.Errorf("its log says %q", got)
	}
	for i, c := range counters {
		status := c.status(t)
		if status.State != cri.ContainerState_CONTAINER_RUNNING || status.StartedAt == 0 || status.Metadata.Name != "counter" || status.LogPath != c.logPath() {
			t.Errorf("counter %d: %v", i, status)
		}
		if got := c.sh(t, "echo works"); got != "works\n" {
			t.Errorf("exec in counter %d: %q", i, got)
		}
		c.stop(t, 0)
		if n := noGap(t, readLog(t, c.logPath())); n < before[i]+5 {
			t.Errorf("counter %d wrote %d lines before crispd's death and %d in all: it did not go on", i, before[i], n)
		}
		c.remove(t)
	}
}

// crispd may be killed at any instruction: whatever a RunPodSandbox, CreateContainer or StopPodSandbox was at, the next crispd
// starts, and all that it lists can be removed; then nothing is left.
func TestSurvivalOfDeathsInTheMiddleOfCalls(t *testing.T) {
	leaveNothing(t)
	const rounds = 12
	for round := range rounds {
		config := podConfig(t.Name())
		done := make(chan struct{})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		go func(runtime cri.RuntimeServiceClient) {
			defer close(done)
			for ctx.Err() == nil {
				pod, err := runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
				if err != nil {
					return
				}
				made, err := runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: pod.PodSandboxId,
					Config: containerConfig("main", "sleep", "1000"), SandboxConfig: config})
				if err != nil {
					return
				}
				_, _ = runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: made.ContainerId})
				_, _ = runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod.PodSandboxId})
				_, _ = runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod.PodSandboxId})
			}
		}(runtime)
		time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond)
		killCrispd(t)
		cancel()
		<-done
		startCrispd(t)
		for _, p := range must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t).Items {
			must(runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: p.Id}))(t)
			must(runtime.RemovePodSandbox(soon(t), &cri.RemovePodSandboxRequest{PodSandboxId: p.Id}))(t)
		}
		// The name is free, and the pod's monitor of before is nobody's.
		made, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config})
		if err != nil {
			t.Fatalf("round %d: the same pod again: %v", round, err)
		}
		p := &pod{made.PodSandboxId, config}
		p.remove(t)
	}
}

// SIGTERM ends crispd within 5 s and leaves the pods as they are.
func TestSurvivalOfARestart(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).run(t, counter())
	pid := c.hostPid(t)
	restartCrispd(t)
	if status := c.status(t); status.State != cri.ContainerState_CONTAINER_RUNNING || dead(pid) {
		t.Errorf("after crispd's restart: %v", status)
	}
	c.stop(t, 0)
	noGap(t, readLog(t, c.logPath()))
}

// A monitor that is killed is seen within a second: its containers are dead and EXITED with 137 and MonitorLost, its pod is
// NOTREADY; another pod knows nothing of it.
func TestSurvivalOfAMonitorsDeath(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	first, second := p.run(t, counter()), p.sleeper(t, "second")
	monitors := processesOf("crisp-monitor")
	if len(monitors) != 1 {
		t.Fatalf("monitors of one pod: %v", monitors)
	}
	other := newPod(t).sleeper(t, "other")
	pids := []int{first.hostPid(t), second.hostPid(t)}
	if err := syscall.Kill(monitors[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	lost(t, time.Second, p, first, second)
	for _, pid := range pids {
		if !dead(pid) {
			t.Errorf("process %d of a pod without monitor lives", pid)
		}
	}
	if got := other.sh(t, "echo fine"); got != "fine\n" {
		t.Errorf("the other pod: %q", got)
	}
	p.remove(t)
}

// The same while no crispd is there: the next one finds it at its start.
func TestSurvivalOfBoth(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	c := p.run(t, counter())
	pid := c.hostPid(t)
	monitors := processesOf("crisp-monitor")
	killCrispd(t)
	for _, monitor := range monitors {
		_ = syscall.Kill(monitor, syscall.SIGKILL)
	}
	startCrispd(t)
	lost(t, 2*time.Second, p, c)
	if !dead(pid) {
		t.Errorf("process %d of a pod without monitor lives", pid)
	}
}

func lost(t *testing.T, limit time.Duration, p *pod, containers ...*container) {
	t.Helper()
	eventually(t, limit, "pod NOTREADY", func() bool { return p.status(t).State == cri.PodSandboxState_SANDBOX_NOTREADY })
	for _, c := range containers {
		var status *cri.ContainerStatus
		eventually(t, limit, "container EXITED", func() bool {
			status = c.status(t)
			return status.State == cri.ContainerState_CONTAINER_EXITED
		})
		if status.ExitCode != 137 || status.Reason != "MonitorLost" {
			t.Errorf("%s: exit code %d, reason %q, want 137 and MonitorLost", status.Metadata.Name, status.ExitCode, status.Reason)
		}
	}
}

// Recovery is never fatal: a torn record costs its own pod at most, and crispd says so.
func TestSurvivalOfDamagedRecords(t *testing.T) {
	whole, torn := newPod(t).sleeper(t, "whole"), newPod(t)
	c := torn.sleeper(t, "torn")
	pid := c.hostPid(t)
	killCrispd(t)
	damaged := 0
	for _, folder := range []string{filepath.Join(rootDir, "pods", torn.id), filepath.Join(rootDir, "containers", c.id)} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err == nil && info.Mode().IsRegular() && info.Size() > 1 {
				if err := os.Truncate(filepath.Join(folder, entry.Name()), info.Size()/2); err != nil {
					t.Fatal(err)
				}
				damaged++
			}
		}
	}
	if damaged == 0 {
		t.Fatal("no record found to damage")
	}
	startCrispd(t)
	if got := whole.sh(t, "echo fine"); got != "fine\n" {
		t.Errorf("the pod with whole records: %q", got)
	}
	listed := must(runtime.ListContainers(soon(t), &cri.ListContainersRequest{Filter: &cri.ContainerFilter{Id: c.id}}))(t).Containers
	if len(listed) == 0 {
		eventually(t, 5*time.Second, fmt.Sprintf("process %d of a pod that crispd does not know dead", pid), func() bool { return dead(pid) })
	}
	if known := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{Id: torn.id}}))(t).Items; len(known) == 0 {
		eventually(t, 5*time.Second, "cgroups of a pod that crispd does not know gone", func() bool {
			left, _ := filepath.Glob("/sys/fs/cgroup/*/crisp/" + torn.id)
			alone, _ := filepath.Glob("/sys/fs/cgroup/crisp/" + torn.id)
			return len(left)+len(alone) == 0
		})
	}
	if log := string(must(os.ReadFile(crispdLog))(t)); !strings.Contains(log, torn.id[:12]) {
		t.Errorf("crispd did not log a word of pod %s", torn.id)
	}
}

// "crispd was restarted, and then no container could be made in a pod that had none."
func TestSurvivalAPodWithoutContainersTakesOneLater(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	restartCrispd(t)
	if got := p.output(t, containerConfig("main", "echo", "here")); got != "here\n" {
		t.Errorf("%q", got)
	}
}
