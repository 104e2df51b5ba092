// Command bench times what a pod's life costs over the CRI socket, call by call, back to back and with pauses (some prices
// show only after a pause), what daemons and shims take of memory, and how fast streams are; `bench pull` times pulls. It starts
// crispd itself, and others beside it, which take turns. Run it by hack/bench.
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
	names  = flag.String("peers", "crisp-builtin,crisp", "who is measured, of crisp-builtin, crisp (with CNI) and containerd")
	rounds = flag.Int("rounds", 3, "rounds; each peer once in each, its daemon started anew")
	pods   = flag.Int("pods", 10, "pods in each round, and as many with pauses")
	pause  = flag.Duration("pause", 100*time.Millisecond, "pause between the calls of these")
	idle   = flag.Int("idle-pods", 20, "pods that run while memory is measured")
	stream = flag.Int64("stream", 256, "MiB through each kind of stream; 0: none")
	name   = flag.String("image", "docker.io/library/busybox:latest", "image with sleep and true")
	write  = flag.Bool("write-docs", false, "put the tables into docs/performance.md")
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

// A bench is a client and the times of each call.
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

// processes gives the pids of programs, of this node: others may run on the machine. A monitor runs from a memfd.
func processes(programs ...string) (pids []int) {
	own, _ := os.Readlink("/proc/self/ns/cgroup")
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		executable, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		name := strings.TrimPrefix(strings.TrimSuffix(filepath.Base(executable), " (deleted)"), "memfd:")
		if !slices.Contains(programs, name) {
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

func main() {
	if len(os.Args) > 1 && os.Args[1] == "pull" {
		pullMain(os.Args[2:])
		return
	}
	flag.Parse()
	var all []*standing
	for _, p := range chosen(*names) {
		all = append(all, newStanding(p))
	}
	for range *rounds {
		for _, s := range all {
			s.round()
		}
	}
	report(all)
}
