package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What an enemy, or a bad day, does to a node. Each test is named after what a person said.

// churn makes, starts, stops and removes a pod with a container, again and again, until a call fails.
func churn(ctx context.Context, runtime cri.RuntimeServiceClient, config *cri.PodSandboxConfig) {
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
		_, _ = runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: made.ContainerId, Cmd: []string{"true"}})
		if rand.IntN(2) == 0 {
			_, _ = runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod.PodSandboxId})
		}
		_, _ = runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod.PodSandboxId})
	}
}

// pulling pulls an image and removes it, again and again, until a call fails.
func pulling(ctx context.Context, image cri.ImageServiceClient, name string) {
	for ctx.Err() == nil {
		if _, err := image.PullImage(ctx, &cri.PullImageRequest{Image: spec(name)}); err != nil {
			return
		}
		if _, err := image.RemoveImage(ctx, &cri.RemoveImageRequest{Image: spec(name)}); err != nil {
			return
		}
	}
}

// listedTruly says that a pod which is listed READY has a monitor, and a container that is listed RUNNING a process.
func listedTruly(t *testing.T) (pods []*cri.PodSandbox) {
	t.Helper()
	eventually(t, 3*time.Second, "as many monitors as pods that are ready", func() bool {
		ready := 0 // right after its start crispd may not have met each monitor yet
		pods = must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t).Items
		for _, p := range pods {
			if p.State == cri.PodSandboxState_SANDBOX_READY {
				ready++
			}
		}
		return len(processesOf("crisp-monitor")) == ready
	})
	for _, listed := range must(runtime.ListContainers(soon(t), &cri.ListContainersRequest{}))(t).Containers {
		if listed.State == cri.ContainerState_CONTAINER_RUNNING {
			c := &container{id: listed.Id}
			if pid := c.hostPid(t); pid <= 0 || dead(pid) {
				t.Errorf("container %s is listed as running, its process %d is dead", listed.Id, pid)
			}
		}
	}
	return pods
}

func removePods(t *testing.T, pods []*cri.PodSandbox) {
	t.Helper()
	for _, p := range pods {
		must(runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: p.Id}))(t)
		must(runtime.RemovePodSandbox(soon(t), &cri.RemovePodSandboxRequest{PodSandboxId: p.Id}))(t)
	}
}

// "The daemon was killed while pods came and went and an image was pulled, and afterwards something was wrong": what is listed
// is true, the same names work at once, the same image can be pulled, all can be removed, nothing is left.
func TestSurvivalTheDaemonWasKilledWhilePodsCameAndWentAndAnImageWasPulled(t *testing.T) {
	leaveNothing(t)
	name := registry + "/crisp/programs:latest"
	for round := range 10 {
		configs := []*cri.PodSandboxConfig{podConfig(t.Name()), podConfig(t.Name())}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		var workers sync.WaitGroup
		for _, config := range configs {
			workers.Go(func() { churn(ctx, runtime, config) })
		}
		workers.Go(func() { pulling(ctx, image, name) })
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		killCrispd(t)
		cancel()
		workers.Wait()
		startCrispd(t)
		listedTruly(t)
		for _, config := range configs {
			again, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config})
			if status.Code(err) == codes.AlreadyExists { // stopped before the end: the kubelet asks for another attempt
				continue
			}
			if err != nil {
				t.Fatalf("round %d: the same pod again: %v", round, err)
			}
			must(runtime.PodSandboxStatus(soon(t), &cri.PodSandboxStatusRequest{PodSandboxId: again.PodSandboxId}))(t)
		}
		pull(t, name)
		if imageStatus(t, name) == nil {
			t.Errorf("round %d: the image that was pulled is not there", round)
		}
		must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}))(t)
		removePods(t, listedTruly(t))
		for _, config := range configs {
			_ = os.RemoveAll(config.LogDirectory)
		}
	}
}

// "One pod's monitor hung, and the whole node stood still": a monitor that is stopped delays only calls to its own pod; these
// end with their caller's patience; the pod can be stopped and removed nevertheless.
func TestOnePodsMonitorHungAndTheWholeNodeStoodStill(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	c := p.sleeper(t, "main")
	monitors := processesOf("crisp-monitor")
	if len(monitors) != 1 {
		t.Fatalf("monitors of one pod: %v", monitors)
	}
	other := newPod(t).sleeper(t, "other")
	if err := syscall.Kill(monitors[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(monitors[0], syscall.SIGCONT) }()
	quick := func(what string, call func(ctx context.Context) error) {
		t.Helper()
		begun := time.Now()
		if err := call(within(t, 2*time.Second)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("%s took %v", what, took)
		}
	}
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			_, err := runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"true"}, Timeout: 1})
			if err == nil {
				t.Error("an exec in a pod whose monitor hangs succeeded")
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	quick("list of pods", func(ctx context.Context) error {
		_, err := runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
		return err
	})
	quick("list of containers", func(ctx context.Context) error {
		_, err := runtime.ListContainers(ctx, &cri.ListContainersRequest{})
		return err
	})
	quick("status of the pod", func(ctx context.Context) error {
		_, err := runtime.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.id, Verbose: true})
		return err
	})
	quick("status of the container", func(ctx context.Context) error {
		_, err := runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: c.id, Verbose: true})
		return err
	})
	quick("stats", func(ctx context.Context) error {
		_, err := runtime.ListContainerStats(ctx, &cri.ListContainerStatsRequest{})
		return err
	})
	quick("exec in the other pod", func(ctx context.Context) error {
		_, err := runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: other.id, Cmd: []string{"true"}})
		return err
	})
	quick("stop of the other container", func(ctx context.Context) error {
		_, err := runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: other.id})
		return err
	})
	waiting.Wait()
	begun := time.Now()
	_, err := runtime.StopContainer(within(t, 10*time.Second), &cri.StopContainerRequest{ContainerId: c.id, Timeout: 1})
	t.Logf("stop of its container: %v, %v", time.Since(begun), err)
	begun = time.Now()
	must(runtime.StopPodSandbox(within(t, 20*time.Second), &cri.StopPodSandboxRequest{PodSandboxId: p.id}))(t)
	t.Logf("stop of the pod: %v", time.Since(begun))
	must(runtime.RemovePodSandbox(soon(t), &cri.RemovePodSandboxRequest{PodSandboxId: p.id}))(t)
}

// Calls that a hung monitor holds up end with their callers' patience and take no room from others; what was asked goes on when
// the monitor does.
func TestCallsToAHungMonitorGoOnWhenItDoes(t *testing.T) {
	leaveNothing(t)
	withConfig(t, "[limits]\ncalls = 16\n")
	p, other := newPod(t), newPod(t)
	var created []*container
	for i := range 30 {
		created = append(created, p.create(t, containerConfig(fmt.Sprintf("main-%d", i), "sleep", "1000")))
	}
	late := containerConfig("late", "sleep", "1000")
	monitor := monitorOfPod(t, p)
	_ = syscall.Kill(monitor, syscall.SIGSTOP)
	defer func() { _ = syscall.Kill(monitor, syscall.SIGCONT) }()
	for round := range 3 {
		var waiting sync.WaitGroup
		call := func(f func(ctx context.Context) error) {
			waiting.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if err := f(ctx); status.Code(err) != codes.DeadlineExceeded {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		for i := range 10 {
			call(func(ctx context.Context) error {
				_, err := runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: created[round*10+i].id})
				return err
			})
		}
		for range 4 {
			call(func(ctx context.Context) error {
				_, err := runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.id, Config: late, SandboxConfig: p.config})
				return err
			})
		}
		waiting.Wait()
		time.Sleep(200 * time.Millisecond)
	}
	if got := other.sleeper(t, "fine").sh(t, "echo fine"); got != "fine\n" {
		t.Errorf("%q", got)
	}
	_ = syscall.Kill(monitor, syscall.SIGCONT)
	for _, c := range created {
		eventually(t, 5*time.Second, "started", func() bool { return c.status(t).State == cri.ContainerState_CONTAINER_RUNNING })
	}
	c := p.run(t, late) // a retry joins, or gets what came of it
	if got := c.sh(t, "echo late"); got != "late\n" {
		t.Errorf("%q", got)
	}
}

// "It was stopped, and ran later": a stop that comes while a hung monitor holds the start is no success before the container has ended.
func TestStopOfAContainerWhoseStartHangs(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	c := p.create(t, containerConfig("main", "sleep", "1000"))
	monitor := monitorOfPod(t, p)
	_ = syscall.Kill(monitor, syscall.SIGSTOP)
	defer func() { _ = syscall.Kill(monitor, syscall.SIGCONT) }()
	_, err := runtime.StartContainer(within(t, 300*time.Millisecond), &cri.StartContainerRequest{ContainerId: c.id})
	fails(t, err, is(codes.DeadlineExceeded))
	_, err = runtime.StopContainer(within(t, time.Second), &cri.StopContainerRequest{ContainerId: c.id})
	fails(t, err, is(codes.DeadlineExceeded))
	_ = syscall.Kill(monitor, syscall.SIGCONT)
	must(runtime.StopContainer(soon(t), &cri.StopContainerRequest{ContainerId: c.id}))(t)
	if status := c.status(t); status.State != cri.ContainerState_CONTAINER_EXITED {
		t.Errorf("stopped, it is %v", status.State)
	}
}

// The pod of a hung monitor is stopped while a start and a create are under way: nothing of either is left.
func TestPodIsStoppedWhoseHungMonitorHoldsCalls(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	created := p.create(t, containerConfig("main", "sleep", "1000"))
	_ = syscall.Kill(monitorOfPod(t, p), syscall.SIGSTOP)
	brief := within(t, 500*time.Millisecond)
	_, err := runtime.StartContainer(brief, &cri.StartContainerRequest{ContainerId: created.id})
	fails(t, err, is(codes.DeadlineExceeded))
	_, err = runtime.CreateContainer(brief, &cri.CreateContainerRequest{PodSandboxId: p.id, Config: containerConfig("late", "true"), SandboxConfig: p.config})
	fails(t, err, is(codes.DeadlineExceeded))
	must(runtime.StopPodSandbox(within(t, 20*time.Second), &cri.StopPodSandboxRequest{PodSandboxId: p.id}))(t)
	must(runtime.RemovePodSandbox(soon(t), &cri.RemovePodSandboxRequest{PodSandboxId: p.id}))(t)
}

// "The node crawled, and crispd forgot a pod whose monitor was merely slow".
func TestSurvivalOfAHungMonitorAtRestart(t *testing.T) {
	leaveNothing(t)
	hung, fine := newPod(t), newPod(t).sleeper(t, "fine")
	hung.sleeper(t, "main")
	monitor := monitorOfPod(t, hung)
	_ = syscall.Kill(monitor, syscall.SIGSTOP)
	killCrispd(t)
	begun := time.Now()
	startCrispd(t)
	if got := fine.sh(t, "echo fine"); got != "fine\n" {
		t.Errorf("the other pod: %q", got)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("ready after %v", took)
	}
	if listed := must(runtime.ListPodSandbox(within(t, time.Second), &cri.ListPodSandboxRequest{}))(t).Items; len(listed) != 2 {
		t.Errorf("%d pods are listed", len(listed))
	}
	time.Sleep(500 * time.Millisecond)
	_ = syscall.Kill(monitor, syscall.SIGCONT)
	eventually(t, 5*time.Second, "the pod ready again", func() bool { return hung.status(t).State == cri.PodSandboxState_SANDBOX_READY })
}

func monitorOfPod(t *testing.T, p *pod) int {
	t.Helper()
	for _, pid := range processesOf("crisp-monitor") {
		text, _ := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "cgroup"))
		if strings.Contains(string(text), p.id) {
			return pid
		}
	}
	t.Fatal("no monitor has the pod's id in its cgroup")
	return 0
}

// "A hundred probes at once": each gets its own answer; nothing is left of those whose commands hide.
func TestAHundredProbesAtOnce(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	var probes sync.WaitGroup
	var wrong atomic.Int64
	for i := range 100 {
		probes.Go(func() {
			want := fmt.Sprintf("%d\n", i)
			answer, err := runtime.ExecSync(soon(t), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: shell(fmt.Sprintf("echo %d; echo %d >&2; exit %d", i, i, i))})
			if err != nil || string(answer.Stdout) != want || string(answer.Stderr) != want || answer.ExitCode != int32(i) {
				wrong.Add(1)
				t.Logf("probe %d: %v, %v", i, answer, err)
			}
		})
	}
	probes.Wait()
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d probes got a wrong answer", n)
	}
}

// "The probe timed out, but what it had started went on": sessions of their own and double forks do not save a command's
// children from its deadline.
func TestTheProbeTimedOutButWhatItHadStartedWentOn(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	script := `setsid sleep 4321 & (setsid sh -c '(sleep 4321 &) ; sleep 4321' &) ; trap '' TERM INT HUP; while :; do sleep 4321; done`
	for range 10 {
		begun := time.Now()
		_, err := c.exec(t, 1, shell(script)...)
		if status.Code(err) != codes.DeadlineExceeded {
			t.Fatalf("after its deadline: %v", err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("a deadline of 1 s took %v", took)
		}
	}
	if left := c.sh(t, "pgrep -f 'sleep 432[1]' | wc -l"); left != "0\n" {
		t.Errorf("processes that went on: %s", left)
	}
}

// "It forks like mad, ignores SIGTERM and writes as fast as it can, and I cannot get rid of it".
func TestItForksLikeMadAndICannotGetRidOfIt(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	config := containerConfig("bomb", shell(`trap '' TERM INT HUP; bomb() { trap '' TERM; (setsid sh -c 'while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done' &) ; n=$((n + 1)); [ $n -gt 60 ] || bomb; }; bomb; while :; do (sleep 0.001 &); done`)...)
	config.Linux.Resources = &cri.LinuxContainerResources{CpuQuota: 50000, CpuPeriod: 100000}
	c := p.run(t, config)
	other := newPod(t).sleeper(t, "other")
	for range 10 {
		time.Sleep(100 * time.Millisecond)
		old := fmt.Sprintf("%s.%d", c.logPath(), time.Now().UnixNano())
		if err := os.Rename(c.logPath(), old); err != nil {
			t.Fatal(err)
		}
		if err := c.reopen(t); err != nil {
			t.Fatal(err)
		}
		// Not all of it: who reads more slowly than it writes would find more each time.
		data := must(os.ReadFile(old))(t)
		_ = os.Remove(old)
		head, tail := data[:min(len(data), 1<<20)], data[max(0, len(data)-10000):]
		parseLog(t, old, head[:bytes.LastIndexByte(head, '\n')+1])
		parseLog(t, old, tail[bytes.IndexByte(tail, '\n')+1:])
	}
	if got := other.sh(t, "echo fine"); got != "fine\n" {
		t.Errorf("the other pod: %q", got)
	}
	begun := time.Now()
	c.stop(t, 1)
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("a stop with 1 s of grace took %v", took)
	}
	if status := c.status(t); status.State != cri.ContainerState_CONTAINER_EXITED || status.ExitCode != 137 {
		t.Errorf("after the stop: %v, exit code %d", status.State, status.ExitCode)
	}
	_ = os.Remove(c.logPath())
}

// "The network's own server was down when the daemon came back, and then the daemon did not come back either": a pod whose ADD
// was under way when crispd was killed is undone beside everything else, however long DEL hangs.
func TestNetworkServerWasDownAndSoTheDaemonDidNotComeBack(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	folder := t.TempDir()
	release := filepath.Join(folder, "release")
	plugin(t, "hanging", fmt.Sprintf(`echo $CNI_COMMAND $CNI_CONTAINERID $$ >>%[1]s/calls
[ "$CNI_COMMAND" = ADD -o "$CNI_COMMAND" = DEL ] || exit 0
while [ ! -e %[1]s/release ]; do sleep 0.05; done
echo $CNI_COMMAND done >>%[1]s/calls
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.78/24"}]}'
`, folder))
	config := podConfig(t.Name())
	_, err := runtime.RunPodSandbox(within(t, 500*time.Millisecond), &cri.RunPodSandboxRequest{Config: config})
	fails(t, err, is(codes.DeadlineExceeded), "network")
	killCrispd(t)
	begun := time.Now()
	startCrispd(t)
	if got := c.sh(t, "echo fine"); got != "fine\n" {
		t.Errorf("the other pod: %q", got)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("crispd came back after %v", took)
	}
	if listed := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t).Items; len(listed) != 1 {
		t.Errorf("%d pods are listed", len(listed))
	}
	begun = time.Now()
	restartCrispd(t) // within 5 s, or this fails
	t.Logf("polite restart while DEL hangs: %v", time.Since(begun))
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "DEL done", func() bool {
		calls, _ := os.ReadFile(filepath.Join(folder, "calls"))
		return bytes.Contains(calls, []byte("DEL done"))
	})
	calls, _ := os.ReadFile(filepath.Join(folder, "calls"))
	eventually(t, 10*time.Second, "the netns gone", func() bool {
		entries, _ := os.ReadDir(filepath.Join(stateDir, "netns"))
		return len(entries) == 1
	})
	if bytes.Contains(calls, []byte("ADD done")) {
		t.Error("an ADD went on beside its DEL after its crispd was dead")
	}
}

// "The disk was full, and I could not even remove an image to make room": an image can be removed with no byte left; what runs
// goes on and can be looked at; what cannot be made says so, leaves nothing, and works when there is room again.
func TestTheDiskWasFullAndICouldNotEvenRemoveAnImage(t *testing.T) {
	crispd := os.Getenv("CRISP_TEST_CRISPD")
	command(t, crispd, "stop")
	command(t, "mount", "-t", "tmpfs", "-o", "mode=700,size=32m", "tmpfs", rootDir)
	t.Cleanup(func() {
		command(t, crispd, "stop")
		command(t, "umount", rootDir)
		startCrispd(t)
	})
	startCrispd(t)
	other := registry + "/crisp/programs:latest"
	pull(t, busybox)
	name := "registry.k8s.io/e2e-test-images/nginx:1.14-2"
	pull(t, name)
	p := newPod(t)
	c := p.sleeper(t, "main")
	filler := filepath.Join(rootDir, "filler")
	_, _ = tryCommand("dd", "if=/dev/zero", "of="+filler, "bs=4k")
	if got := c.sh(t, "echo fine"); got != "fine\n" {
		t.Errorf("what ran before: %q", got)
	}
	_, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: podConfig(t.Name())})
	fails(t, err, is(codes.ResourceExhausted), "No space left on device")
	_, err = p.tryCreate(t, containerConfig("second", "true"))
	fails(t, err, is(codes.ResourceExhausted), "No space left on device")
	_, err = image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(other)})
	fails(t, err, is(codes.ResourceExhausted), "are free")
	must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}))(t)
	if imageStatus(t, name) != nil {
		t.Error("the image that was removed is there")
	}
	killCrispd(t)
	startCrispd(t)
	if listed := must(image.ListImages(soon(t), &cri.ListImagesRequest{}))(t).Images; len(listed) != 1 {
		t.Errorf("%d images are listed after a restart", len(listed))
	}
	p.sleeper(t, "second")
	pull(t, other)
	c.stop(t, 0)
	p.remove(t)
}

// "Monitors die at the worst moment": whatever a call was at, it ends soon, with an error or without; the pod is NOTREADY, what
// ran in it is dead, it can be removed and made again.
func TestMonitorsDieAtTheWorstMoment(t *testing.T) {
	leaveNothing(t)
	for round := range 15 {
		config := podConfig(t.Name())
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		churning, enough := context.WithCancel(ctx)
		var work sync.WaitGroup
		work.Go(func() { churn(churning, runtime, config) })
		work.Go(func() {
			defer enough() // no kill may have hit a call that fails by it
			for i := 0; i < 40 && ctx.Err() == nil; i++ {
				time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
				for _, pid := range processesOf("crisp-monitor") {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
				if rand.IntN(8) == 0 {
					break
				}
			}
		})
		work.Wait()
		if ctx.Err() != nil {
			t.Errorf("round %d: a call hung when its monitor died", round)
		}
		cancel()
		removePods(t, must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t).Items)
		request := &cri.RunPodSandboxRequest{Config: config}
		made, err := runtime.RunPodSandbox(soon(t), request)
		if status.Code(err) == codes.Unavailable { // it has joined the last one of the churn, whose monitor was killed
			made = must(runtime.RunPodSandbox(soon(t), request))(t)
		} else if err != nil {
			t.Fatal(err)
		}
		p := &pod{made.PodSandboxId, config}
		p.sleeper(t, "main")
		p.remove(t)
		_ = os.RemoveAll(config.LogDirectory)
	}
}

// "I restarted the service in the middle of everything": SIGTERM ends crispd within 5 s whatever is under way; what the callers
// were not told of is finished or undone.
func TestSurvivalIRestartedTheServiceInTheMiddleOfEverything(t *testing.T) {
	leaveNothing(t)
	name := registry + "/crisp/programs:latest"
	for range 3 {
		stubborn := newPod(t).run(t, containerConfig("stubborn", shell(`trap '' TERM; while :; do usleep 100000; done`)...))
		config := podConfig(t.Name())
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		var work sync.WaitGroup
		for range 10 {
			work.Go(func() {
				_, _ = runtime.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: stubborn.id, Timeout: 60})
			})
			work.Go(func() {
				_, _ = runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: stubborn.id, Cmd: shell("sleep 4322")})
			})
		}
		work.Go(func() { churn(ctx, runtime, config) })
		work.Go(func() { pulling(ctx, image, name) })
		time.Sleep(time.Duration(100+rand.IntN(200)) * time.Millisecond)
		command(t, os.Getenv("CRISP_TEST_CRISPD"), "stop") // fails after 5 s
		cancel()
		work.Wait()
		startCrispd(t)
		if status := stubborn.status(t); status.State != cri.ContainerState_CONTAINER_RUNNING {
			t.Errorf("a container whose grace had not passed is %v", status.State)
		}
		if left := stubborn.sh(t, "pgrep -f 'sleep 432[2]' | wc -l"); left != "0\n" {
			t.Errorf("commands of a crispd that ended go on: %s", left)
		}
		_, _ = image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)})
		removePods(t, listedTruly(t))
		_ = os.RemoveAll(config.LogDirectory)
	}
}

// "One pod wrote into its /etc/hosts until the whole node's /run was full": what a container can write is on the disk that its
// other files are on, not in the node's memory.
func TestAPodWroteIntoItsHostsFileUntilTheNodesRunWasFull(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	free := func() uint64 {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(stateDir, &fs); err != nil {
			t.Fatal(err)
		}
		return fs.Bavail * uint64(fs.Bsize)
	}
	before := free()
	c.sh(t, "dd if=/dev/zero of=/etc/hosts bs=1M count=64 2>/dev/null")
	if after := free(); before > after+8<<20 {
		t.Errorf("%d bytes of the node's memory are gone", before-after)
	}
}

// "A pod that may write to the node's logs led another's log to where it liked": no symlink leads a log out of its directory.
func TestAPodLedAnothersLogToWhereItLiked(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	elsewhere := t.TempDir()
	victim := filepath.Join(elsewhere, "victim")
	if err := os.WriteFile(victim, []byte("precious\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	logs := p.config.LogDirectory
	_ = os.MkdirAll(logs, 0o755)
	for link, target := range map[string]string{"file.log": victim, "folder": elsewhere} {
		if err := os.Symlink(target, filepath.Join(logs, link)); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Mkdir(filepath.Join(logs, "folder.log"), 0o755)
	_ = syscall.Mkfifo(filepath.Join(logs, "fifo.log"), 0o666)
	for _, path := range []string{"file.log", "folder/new.log", "folder/deep/new.log", "folder.log", "fifo.log"} {
		config := containerConfig("main", "echo", "written")
		config.LogPath = path
		_, err := p.tryCreate(t, config)
		fails(t, err, is(codes.InvalidArgument), path)
	}
	// Put there while it runs: a folder of its log's path, then the pod's log directory itself.
	config := containerConfig("main", shell("while echo line; do usleep 10000; done")...)
	config.LogPath = "own/main.log"
	c := p.run(t, config)
	for _, folder := range []string{filepath.Join(logs, "own"), logs} {
		if err := os.Rename(folder, folder+".aside"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(elsewhere, folder); err != nil {
			t.Fatal(err)
		}
		fails(t, c.reopen(t), is(codes.InvalidArgument), "main.log")
		_ = os.Remove(folder)
		if err := os.Rename(folder+".aside", folder); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.reopen(t); err != nil {
		t.Error(err)
	}
	if got := string(must(os.ReadFile(victim))(t)); got != "precious\n" {
		t.Errorf("the victim now says %q", got)
	}
	if entries := must(os.ReadDir(elsewhere))(t); len(entries) != 1 {
		t.Errorf("a log escaped: %v", entries)
	}
}
