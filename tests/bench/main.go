// Command bench times what a pod's life costs over the CRI socket, call by call, back to back and with pauses (some prices
// show only after a pause), beside the budget of the design. Run it by hack/bench.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var (
	pods   = flag.Int("pods", 30, "pods in each round")
	pause  = flag.Duration("pause", 100*time.Millisecond, "pause between the calls of the second round")
	idle   = flag.Int("idle-pods", 20, "pods that run while memory is measured")
	stream = flag.Int64("stream", 1024, "MiB through each kind of stream; 0: none")
	name   = flag.String("image", "docker.io/library/busybox:latest", "image with sleep and true")
	daemon = flag.String("daemon", "crispd", "program whose memory is measured")
	shim   = flag.String("shim", "crisp-monitor", "program of which there is one for each pod")
)

// The lines of the table: one or two calls, and what they may cost in milliseconds with the built-in network and with CNI.
var lines = []struct {
	title        string
	calls        []string
	builtin, cni float64
}{
	{"RunPodSandbox", []string{"RunPodSandbox"}, 5, 40},
	{"CreateContainer", []string{"CreateContainer"}, 0, 0},
	{"StartContainer", []string{"StartContainer"}, 0, 0},
	{"Create + Start", []string{"CreateContainer", "StartContainer"}, 3, 3},
	{"ExecSync of true", []string{"ExecSync"}, 1.5, 1.5},
	{"StopContainer", []string{"StopContainer"}, 0, 0},
	{"RemoveContainer", []string{"RemoveContainer"}, 0, 0},
	{"Stop + Remove container", []string{"StopContainer", "RemoveContainer"}, 3, 3},
	{"StopPodSandbox", []string{"StopPodSandbox"}, 0, 0},
	{"RemovePodSandbox", []string{"RemovePodSandbox"}, 0, 0},
	{"Stop + Remove pod", []string{"StopPodSandbox", "RemovePodSandbox"}, 8, 0},
	{"Version", []string{"Version"}, 0, 0},
	{"Status", []string{"Status"}, 0, 0},
	{"ListPodSandbox", []string{"ListPodSandbox"}, 0, 0},
	{"ListContainers", []string{"ListContainers"}, 0, 0},
	{"ContainerStatus", []string{"ContainerStatus"}, 0, 0},
	{"ListContainerStats", []string{"ListContainerStats"}, 0, 0},
}

// A bench is one round: a client and the times of each call.
type bench struct {
	connection *grpc.ClientConn
	runtime    cri.RuntimeServiceClient
	image      cri.ImageServiceClient
	pause      time.Duration
	serial     int
	times      map[string][]time.Duration
}

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// call makes one call, notes how long it took, and pauses.
func call[Q, A any](b *bench, title string, f func(context.Context, *Q, ...grpc.CallOption) (*A, error), request *Q) *A {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begin := time.Now()
	answer, err := f(ctx, request)
	took := time.Since(begin)
	if err != nil {
		fatal(fmt.Errorf("%s: %w", title, err))
	}
	b.times[title] = append(b.times[title], took)
	time.Sleep(b.pause)
	return answer
}

func (b *bench) runPod() (id string, config *cri.PodSandboxConfig) {
	b.serial++
	unique := fmt.Sprintf("bench-%d-%d-%d", os.Getpid(), b.pause, b.serial)
	config = &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: unique, Uid: unique, Namespace: "bench"},
		LogDirectory: filepath.Join(os.TempDir(), unique),
		Linux:        &cri.LinuxPodSandboxConfig{},
	}
	return call(b, "RunPodSandbox", b.runtime.RunPodSandbox, &cri.RunPodSandboxRequest{Config: config}).PodSandboxId, config
}

// startContainer's command ends at once on SIGTERM.
func (b *bench) startContainer(pod string, config *cri.PodSandboxConfig) string {
	container := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "main"},
		Image:    &cri.ImageSpec{Image: *name},
		Command:  []string{"sh", "-c", `trap "exit 0" TERM; sleep 1000 & wait`},
		LogPath:  "main.log",
		Linux:    &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}}},
	}
	id := call(b, "CreateContainer", b.runtime.CreateContainer, &cri.CreateContainerRequest{PodSandboxId: pod, Config: container, SandboxConfig: config}).ContainerId
	call(b, "StartContainer", b.runtime.StartContainer, &cri.StartContainerRequest{ContainerId: id})
	return id
}

func (b *bench) removePod(pod string, config *cri.PodSandboxConfig) {
	call(b, "StopPodSandbox", b.runtime.StopPodSandbox, &cri.StopPodSandboxRequest{PodSandboxId: pod})
	call(b, "RemovePodSandbox", b.runtime.RemovePodSandbox, &cri.RemovePodSandboxRequest{PodSandboxId: pod})
	os.RemoveAll(config.LogDirectory)
}

func (b *bench) life() {
	pod, config := b.runPod()
	id := b.startContainer(pod, config)
	if answer := call(b, "ExecSync", b.runtime.ExecSync, &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}, Timeout: 10}); answer.ExitCode != 0 {
		fatal(fmt.Errorf("true: exit code %d", answer.ExitCode))
	}
	call(b, "Version", b.runtime.Version, &cri.VersionRequest{})
	call(b, "Status", b.runtime.Status, &cri.StatusRequest{})
	call(b, "ListPodSandbox", b.runtime.ListPodSandbox, &cri.ListPodSandboxRequest{})
	call(b, "ListContainers", b.runtime.ListContainers, &cri.ListContainersRequest{})
	call(b, "ContainerStatus", b.runtime.ContainerStatus, &cri.ContainerStatusRequest{ContainerId: id})
	call(b, "ListContainerStats", b.runtime.ListContainerStats, &cri.ListContainerStatsRequest{})
	call(b, "StopContainer", b.runtime.StopContainer, &cri.StopContainerRequest{ContainerId: id, Timeout: 10})
	call(b, "RemoveContainer", b.runtime.RemoveContainer, &cri.RemoveContainerRequest{ContainerId: id})
	b.removePod(pod, config)
}

// of gives median and 95th percentile, in milliseconds, of the calls' sum.
func (b *bench) of(calls []string) (median, p95 float64) {
	sums := slices.Clone(b.times[calls[0]])
	for _, more := range calls[1:] {
		for i, took := range b.times[more] {
			sums[i] += took
		}
	}
	slices.Sort(sums)
	at := func(q float64) float64 {
		return float64(sums[min(len(sums)-1, int(q*float64(len(sums))))]) / float64(time.Millisecond)
	}
	return at(0.5), at(0.95)
}

// processes gives the pids of a program, of this node: others may run on the machine. A monitor runs from a memfd.
func processes(program string) (pids []int) {
	own, _ := os.Readlink("/proc/self/ns/cgroup")
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		executable, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		name := strings.TrimPrefix(strings.TrimSuffix(filepath.Base(executable), " (deleted)"), "memfd:")
		if name != program {
			continue
		}
		if namespace, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/cgroup", pid)); namespace == own {
			pids = append(pids, pid)
		}
	}
	return pids
}

// kilobytes reads a line like "Pss: 12 kB" of a file below /proc/PID.
func kilobytes(pid int, file, key string) float64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == key+":" {
			value, _ := strconv.ParseFloat(fields[1], 64)
			return value
		}
	}
	return 0
}

func (b *bench) memory() {
	type running struct {
		id     string
		config *cri.PodSandboxConfig
	}
	var all []running
	for range *idle {
		pod, config := b.runPod()
		b.startContainer(pod, config)
		all = append(all, running{pod, config})
	}
	time.Sleep(2 * time.Second)
	for _, pid := range processes(*daemon) {
		fmt.Printf("%-26s RSS %.1f MB (budget 15), anonymous %.1f MB (budget 5), with %d pods\n", *daemon,
			kilobytes(pid, "status", "VmRSS")/1024, kilobytes(pid, "status", "RssAnon")/1024, *idle)
	}
	var pss []float64
	for _, pid := range processes(*shim) {
		pss = append(pss, kilobytes(pid, "smaps_rollup", "Pss"))
	}
	if slices.Sort(pss); len(pss) > 0 {
		fmt.Printf("%-26s PSS %.0f kB median, %.0f kB largest of %d (budget 400 kB a pod)\n", *shim, pss[len(pss)/2], pss[len(pss)-1], len(pss))
	}
	for _, one := range all {
		b.removePod(one.id, one.config)
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "pull" {
		pullMain(os.Args[2:])
		return
	}
	flag.Parse()
	socket := strings.TrimPrefix(os.Getenv("CONTAINER_RUNTIME_ENDPOINT"), "unix://")
	b := connect(socket)
	call(b, "PullImage", b.image.PullImage, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: *name}})
	b.life() // the first of all makes bridges, caches and threads
	rounds := []*bench{}
	for _, wait := range []time.Duration{0, *pause} {
		round := connect(socket)
		round.pause = wait
		for range *pods {
			round.life()
		}
		rounds = append(rounds, round)
	}
	cni := os.Getenv("CRISP_TEST_NETWORK") != "builtin"
	fmt.Printf("%d pods a round, %s network; milliseconds\n", *pods, map[bool]string{true: "CNI", false: "built-in"}[cni])
	fmt.Printf("%-26s %10s %10s   %10s %10s   %8s\n", "", "median", "p95", "paused", "p95", "budget")
	for _, line := range lines {
		median, p95 := rounds[0].of(line.calls)
		pausedMedian, pausedP95 := rounds[1].of(line.calls)
		budget := line.builtin
		if cni {
			budget = line.cni
		}
		text := ""
		if budget > 0 {
			text = fmt.Sprintf("%.1f", budget)
			if median > budget || pausedMedian > budget {
				text += " !"
			}
		}
		fmt.Printf("%-26s %10.2f %10.2f   %10.2f %10.2f   %8s\n", line.title, median, p95, pausedMedian, pausedP95, text)
	}
	b.memory()
	if *stream > 0 {
		b.streaming(*stream << 20)
	}
}
