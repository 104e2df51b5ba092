package kubelet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// These tests end what the others run on: those that do are not parallel.

// A few pods of different kinds, running; what is theirs must be the same after whatever happens.
func somePods(t *testing.T) []*pod {
	var pods []*pod
	for i, spec := range []string{
		`containers: [{name: main, command: [sleep, "1000"]}]`,
		`
initContainers: [{name: sidecar, restartPolicy: Always, command: [sleep, "1000"]}, {name: init, command: ["true"]}]
containers: 
- {name: main, command: [sleep, "1000"], readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1}, livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1}}
- {name: other, command: [sleep, "1000"]}`,
		`
hostNetwork: true
containers: [{name: main, command: [sleep, "1000"]}]`,
		`
hostUsers: false
volumes: [{name: v, emptyDir: {medium: Memory}}]
containers: [{name: main, command: [sleep, "1000"], volumeMounts: [{name: v, mountPath: /v}]}]`,
	} {
		pods = append(pods, startNamed(t, fmt.Sprintf("%s-%d", podName(t), i), spec))
	}
	removeTogether(t, pods)
	for _, p := range pods {
		p.becomesReady()
	}
	return pods
}

// removeTogether takes the pods down at the end of the test, all at once: one after the other each takes its seconds.
func removeTogether(t *testing.T, pods []*pod) {
	t.Cleanup(func() {
		for _, p := range pods {
			_ = os.Remove(p.file)
		}
		for _, p := range pods {
			eventually(t, 2*patience, p.name+" stopped", func() bool { return p.find() == nil && p.stopped() })
		}
	})
}

// containersOf gives what a restart of anything must leave as it is: each container's id and how often it was started.
func containersOf(pods []*pod) string {
	var all strings.Builder
	for _, p := range pods {
		status := p.status()
		fmt.Fprintf(&all, "%s %s %v\n", p.name, status.PodIP, ready(status))
		for _, c := range append(status.InitContainerStatuses, status.ContainerStatuses...) {
			fmt.Fprintf(&all, "  %s %s %d %v\n", c.Name, c.ContainerID, c.RestartCount, c.State.Running != nil)
		}
	}
	return all.String()
}

func unchanged(t *testing.T, pods []*pod, before string) {
	t.Helper()
	for _, p := range pods {
		p.becomesReady()
	}
	time.Sleep(3 * time.Second) // the kubelet looks at every pod several times
	if after := containersOf(pods); after != before {
		t.Errorf("before it was\n%sand is now\n%s", before, after)
	}
}

func TestKubeletRestartsUnderRunningPods(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			pods := somePods(t)
			before := containersOf(pods)
			stopKubelet(signal)
			if err := startKubelet(); err != nil {
				t.Fatal(err)
			}
			unchanged(t, pods, before)
			must(pods[0].exec("main", "true"))(t)
		})
	}
}

// A pod whose manifest went while no kubelet ran is taken down by the next one.
func TestAManifestGoesWhileNoKubeletRuns(t *testing.T) {
	p := start(t, `containers: [{name: main, command: [sleep, "1000"]}]`)
	p.becomesReady()
	stopKubelet(syscall.SIGTERM)
	if err := os.Remove(p.file); err != nil {
		t.Fatal(err)
	}
	if err := startKubelet(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*patience, "taken down", p.stopped)
}

func crispd(t *testing.T, what string) {
	t.Helper()
	if output, err := exec.Command(os.Getenv("CRISP_TEST_CRISPD"), what).CombinedOutput(); err != nil {
		t.Fatalf("crispd %s: %v: %s", what, err, output)
	}
}

func killCrispd(t *testing.T) {
	t.Helper()
	pid := must(strconv.Atoi(strings.TrimSpace(string(must(os.ReadFile(os.Getenv("CRISP_TEST_PIDFILE")))(t)))))(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "crispd dead", func() bool {
		program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)) // a zombie has none
		return program == ""
	})
	crispd(t, "start")
}

func TestCrispdRestartsUnderRunningPods(t *testing.T) {
	pods := somePods(t)
	before := containersOf(pods)
	crispd(t, "stop")
	crispd(t, "start")
	unchanged(t, pods, before)
	for range 3 {
		killCrispd(t)
		time.Sleep(time.Second)
	}
	unchanged(t, pods, before)
	must(pods[1].exec("other", "true"))(t)
}

// For a minute crispd is killed every few seconds under 30 pods with probes, some of which end again and again: at the end every
// pod is as its manifest says, and no container was started again that need not be.
func TestCrispdIsKilledAgainAndAgain(t *testing.T) {
	var steady, restless []*pod
	for i := range 30 {
		if i%6 == 5 {
			restless = append(restless, startNamed(t, fmt.Sprintf("restless-%d", i), `containers: [{name: main, command: [sh, -c, sleep 5; exit 3]}]`))
			continue
		}
		steady = append(steady, startNamed(t, fmt.Sprintf("steady-%d", i), `
containers: 
- name: main
  command: [sleep, "1000"]
  livenessProbe: {exec: {command: ["true"]}, periodSeconds: 2, timeoutSeconds: 10}
  readinessProbe: {exec: {command: ["true"]}, periodSeconds: 2, timeoutSeconds: 10}`))
	}
	for _, p := range steady {
		p.becomesReady()
	}
	removeTogether(t, append(steady, restless...))
	before := containersOf(steady)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(3 * time.Second) {
		killCrispd(t)
	}
	unchanged(t, steady, before)
	for _, p := range restless {
		count := container(p.status(), "main").RestartCount
		p.becomes("started again once more", func(s v1.PodStatus) bool { return container(s, "main").RestartCount > count })
	}
}

// crispd dies while pods start: each becomes Ready all the same, and has no container more than it needs running.
func TestCrispdIsKilledWhilePodsStart(t *testing.T) {
	var pods []*pod
	for i := range 6 {
		pods = append(pods, startNamed(t, fmt.Sprintf("killed-while-starting-%d", i), `
initContainers: [{name: init, command: ["true"]}]
containers: [{name: main, command: [sleep, "1000"]}]`))
	}
	for range 4 {
		time.Sleep(300 * time.Millisecond)
		killCrispd(t)
	}
	for _, p := range pods {
		p.becomesReady()
		running := 0
		for _, c := range p.containers() {
			if c.Metadata.Name == "main" && c.State == cri.ContainerState_CONTAINER_RUNNING {
				running++
			}
		}
		if running != 1 {
			t.Errorf("%s has %d running containers", p.name, running)
		}
	}
}

// When the manifest goes, in the end everything of the pod goes: sandbox, containers, cgroup, volumes, logs.
func TestNothingStaysOfAPod(t *testing.T) {
	t.Parallel()
	p := start(t, `
volumes: [{name: v, emptyDir: {medium: Memory}}]
containers: [{name: main, command: [sh, -c, 'echo x; exec sleep 1000'], volumeMounts: [{name: v, mountPath: /v}]}]`)
	p.becomesReady()
	uid := string(p.find().UID)
	p.remove()
	eventually(t, 3*patience, "everything gone", func() bool {
		return len(p.sandboxes()) == 0 && len(p.containers()) == 0 && len(traces(t, uid)) == 0
	})
}

func TestAPodGoesWhileItStarts(t *testing.T) {
	for i := range 5 {
		p := startNamed(t, fmt.Sprintf("goes-while-starting-%d", i), `
initContainers: [{name: init, command: [sleep, "1"]}]
containers: [{name: main, command: [sleep, "1000"]}]`)
		time.Sleep(time.Duration(i) * 200 * time.Millisecond)
		p.remove()
		eventually(t, 3*patience, "stopped for good", p.stopped)
	}
}

// traces lists what bears the pod's uid among cgroups, mounts, the kubelet's folders and logs.
func traces(t *testing.T, uid string) []string {
	var found []string
	for _, pattern := range []string{"/var/lib/kubelet/pods/" + uid, "/var/log/pods/*" + uid, "/sys/fs/cgroup/*/kubepods/*/pod" + uid, "/sys/fs/cgroup/kubepods/*/pod" + uid} {
		found = append(found, must(filepath.Glob(pattern))(t)...)
	}
	for _, line := range strings.Split(string(must(os.ReadFile("/proc/self/mountinfo"))(t)), "\n") {
		if strings.Contains(line, uid) {
			found = append(found, line)
		}
	}
	return found
}

// A container that dies is started again, also when it died while crispd was away.
func TestAContainerDiesWhileCrispdIsAway(t *testing.T) {
	p := start(t, `containers: [{name: main, command: [sleep, "1000"]}]`)
	p.becomesReady()
	pid := p.pid("main")
	crispd(t, "stop")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	crispd(t, "start")
	status := p.becomes("started again", func(s v1.PodStatus) bool { return ready(s) && container(s, "main").RestartCount == 1 })
	if last := container(status, "main").LastTerminationState.Terminated; last == nil || last.ExitCode != 137 {
		t.Errorf("it last ended as %+v", last)
	}
}
