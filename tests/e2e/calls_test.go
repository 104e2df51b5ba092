package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// hostPid gives the pid of the container's first process as the node sees it.
func (c *container) hostPid(t *testing.T) int {
	t.Helper()
	verbose := must(runtime.ContainerStatus(soon(t), &cri.ContainerStatusRequest{ContainerId: c.id, Verbose: true}))(t)
	var info struct{ Pid int }
	if err := json.Unmarshal([]byte(verbose.Info["info"]), &info); err != nil || info.Pid <= 0 {
		t.Fatalf("verbose status has no pid: %v %v", err, verbose.Info)
	}
	return info.Pid
}

// 64 calls that wait for containers which do not want to end, and Version still answers within 5 ms. Then a second stop
// without grace ends them all at once: the earliest end of grace counts.
func TestVersionWhile64StopsWait(t *testing.T) {
	needSpeed(t)
	leaveNothing(t)
	var stubborn []*container
	for range 8 {
		p := newPod(t)
		for i := range 8 {
			stubborn = append(stubborn, p.run(t, containerConfig("stubborn-"+string(rune('a'+i)), shell(`trap "" TERM; echo ready; while :; do sleep 1; done`)...)))
		}
	}
	for _, c := range stubborn {
		eventually(t, 10*time.Second, "a trap set", func() bool { data, _ := os.ReadFile(c.logPath()); return len(data) > 0 })
	}
	var wait sync.WaitGroup
	for _, c := range stubborn {
		wait.Go(func() {
			if _, err := runtime.StopContainer(soon(t), &cri.StopContainerRequest{ContainerId: c.id, Timeout: 50}); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	var took []time.Duration
	for range 50 {
		begin := time.Now()
		must(runtime.Version(soon(t), &cri.VersionRequest{}))(t)
		took = append(took, time.Since(begin))
		time.Sleep(10 * time.Millisecond)
	}
	slices.Sort(took)
	t.Logf("Version: median %v, longest %v", took[25], took[49])
	if took[25] > 5*time.Millisecond || took[49] > 50*time.Millisecond {
		t.Errorf("Version took %v, at most %v", took[25], took[49])
	}
	begin := time.Now()
	for _, c := range stubborn {
		wait.Go(func() { _, _ = runtime.StopContainer(soon(t), &cri.StopContainerRequest{ContainerId: c.id}) })
	}
	wait.Wait()
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("stops without grace took %v beside stops with one", took)
	}
	for _, c := range stubborn {
		if status := c.status(t); status.State != cri.ContainerState_CONTAINER_EXITED || status.ExitCode != 137 {
			t.Errorf("%v, exit code %d", status.State, status.ExitCode)
		}
	}
}

// Stopping and removing what is stopped, removed or was never there is no error.
func TestIdempotence(t *testing.T) {
	leaveNothing(t)
	unknown := strings.Repeat("e", 64)
	c := newPod(t).sleeper(t, "main")
	for range 3 {
		c.stop(t, 1)
	}
	for range 3 {
		c.remove(t)
		c.stop(t, 1)
	}
	for range 3 {
		must(runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: c.pod.id}))(t)
	}
	for range 3 {
		c.pod.remove(t)
	}
	must(runtime.StopContainer(soon(t), &cri.StopContainerRequest{ContainerId: unknown}))(t)
	must(runtime.RemoveContainer(soon(t), &cri.RemoveContainerRequest{ContainerId: unknown}))(t)
	must(runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: unknown}))(t)
	must(runtime.RemovePodSandbox(soon(t), &cri.RemovePodSandboxRequest{PodSandboxId: unknown}))(t)
	must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec("docker.io/library/never-heard-of:it")}))(t)
}

// RemovePodSandbox and RemoveContainer take what still runs.
func TestRemoveWhatRuns(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	p.sleeper(t, "first").remove(t)
	c := p.sleeper(t, "second")
	pid := c.hostPid(t)
	must(runtime.RemovePodSandbox(soon(t), &cri.RemovePodSandboxRequest{PodSandboxId: p.id}))(t)
	if !dead(pid) {
		t.Errorf("process %d of a removed pod lives", pid)
	}
	_, err := runtime.ContainerStatus(soon(t), &cri.ContainerStatusRequest{ContainerId: c.id})
	fails(t, err, is(codes.NotFound))
}

// A retry with the same key and the same configuration joins the running call or gets the finished one's id; with another
// configuration it gets ALREADY_EXISTS.
func TestRetriesJoin(t *testing.T) {
	leaveNothing(t)
	config := podConfig(t.Name())
	ids := make([]string, 6)
	var wait sync.WaitGroup
	for i := range ids {
		wait.Go(func() {
			if made, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config}); err != nil {
				t.Error(err)
			} else {
				ids[i] = made.PodSandboxId
			}
		})
	}
	wait.Wait()
	p := &pod{ids[0], config}
	t.Cleanup(func() { p.remove(t) })
	again := must(runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config}))(t)
	for _, id := range append(ids, again.PodSandboxId) {
		if id != ids[0] {
			t.Errorf("six calls and a late one gave %v", ids)
		}
	}
	if listed := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t).Items; len(listed) != 1 {
		t.Errorf("%d pods are listed", len(listed))
	}

	first, second := p.create(t, containerConfig("main", "sleep", "1000")), p.create(t, containerConfig("main", "sleep", "1000"))
	if first.id != second.id {
		t.Errorf("the same container twice: %s and %s", first.id, second.id)
	}
	_, err := p.tryCreate(t, containerConfig("main", "sleep", "2000"))
	fails(t, err, is(codes.AlreadyExists), "main")

	changed := podConfig(t.Name())
	changed.Metadata = config.Metadata
	changed.Hostname = "another"
	_, err = runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: changed})
	fails(t, err, is(codes.AlreadyExists), config.Metadata.Name)
	first.remove(t)
	p.create(t, containerConfig("main", "sleep", "2000")) // the name is free at once
}

// A client that hangs up never leaves a half-made pod: the call goes on to its end, and a retry finds it.
func TestCallersLeave(t *testing.T) {
	leaveNothing(t)
	for _, limit := range []time.Duration{time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond} {
		config := podConfig(t.Name())
		_, _ = runtime.RunPodSandbox(within(t, limit), &cri.RunPodSandboxRequest{Config: config})
		made := must(runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config}))(t)
		p := &pod{made.PodSandboxId, config}
		if listed := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t).Items; len(listed) != 1 {
			t.Errorf("%d pods after a caller left after %v", len(listed), limit)
		}
		create := &cri.CreateContainerRequest{PodSandboxId: p.id, Config: containerConfig("main", "sleep", "1000"), SandboxConfig: config}
		_, _ = runtime.CreateContainer(within(t, limit), create)
		c := p.create(t, create.Config)
		c.start(t)
		if listed := must(runtime.ListContainers(soon(t), &cri.ListContainersRequest{}))(t).Containers; len(listed) != 1 {
			t.Errorf("%d containers after a caller left after %v", len(listed), limit)
		}
		p.remove(t)
	}
}

// Lists can be filtered by id, its prefix, state, labels and pod; the newest comes first.
func TestFilters(t *testing.T) {
	leaveNothing(t)
	red := newPod(t, func(c *cri.PodSandboxConfig) {
		c.Labels = map[string]string{"color": "red", "kind": "x"}
		c.Annotations = map[string]string{"note": "kept"}
	})
	blue := newPod(t, func(c *cri.PodSandboxConfig) { c.Labels = map[string]string{"color": "blue", "kind": "x"} })
	must(runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: blue.id}))(t)
	pods := func(filter *cri.PodSandboxFilter) (ids []string) {
		for _, p := range must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{Filter: filter}))(t).Items {
			ids = append(ids, p.Id)
		}
		return ids
	}
	for _, one := range []struct {
		filter *cri.PodSandboxFilter
		want   []string
	}{
		{nil, []string{blue.id, red.id}},
		{&cri.PodSandboxFilter{Id: red.id}, []string{red.id}},
		{&cri.PodSandboxFilter{Id: red.id[:20]}, []string{red.id}},
		{&cri.PodSandboxFilter{Id: strings.Repeat("e", 64)}, nil},
		{&cri.PodSandboxFilter{State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}}, []string{red.id}},
		{&cri.PodSandboxFilter{LabelSelector: map[string]string{"kind": "x"}}, []string{blue.id, red.id}},
		{&cri.PodSandboxFilter{LabelSelector: map[string]string{"kind": "x", "color": "blue"}}, []string{blue.id}},
	} {
		if got := pods(one.filter); !slices.Equal(got, one.want) {
			t.Errorf("pods of %v: %v, want %v", one.filter, got, one.want)
		}
	}
	if status := red.status(t); status.Labels["color"] != "red" || status.Annotations["note"] != "kept" || status.Metadata.Uid != red.config.Metadata.Uid {
		t.Errorf("status of the red pod: %v", status)
	}

	running := red.sleeper(t, "running")
	created := red.create(t, containerConfig("created", "true"))
	containers := func(filter *cri.ContainerFilter) (ids []string) {
		for _, c := range must(runtime.ListContainers(soon(t), &cri.ListContainersRequest{Filter: filter}))(t).Containers {
			ids = append(ids, c.Id)
		}
		return ids
	}
	for _, one := range []struct {
		filter *cri.ContainerFilter
		want   []string
	}{
		{nil, []string{created.id, running.id}},
		{&cri.ContainerFilter{PodSandboxId: red.id}, []string{created.id, running.id}},
		{&cri.ContainerFilter{PodSandboxId: blue.id}, nil},
		{&cri.ContainerFilter{State: &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_CREATED}}, []string{created.id}},
		{&cri.ContainerFilter{Id: running.id[:16]}, []string{running.id}},
	} {
		if got := containers(one.filter); !slices.Equal(got, one.want) {
			t.Errorf("containers of %v: %v, want %v", one.filter, got, one.want)
		}
	}
}

func TestVersionStatusAndRuntimeConfig(t *testing.T) {
	needNetwork(t)
	version := must(runtime.Version(soon(t), &cri.VersionRequest{}))(t)
	if version.RuntimeApiVersion != "v1" || version.RuntimeName != "crisp" || version.RuntimeVersion == "" {
		t.Errorf("version: %v", version)
	}
	answer := must(runtime.Status(soon(t), &cri.StatusRequest{Verbose: true}))(t)
	for _, kind := range []string{"RuntimeReady", "NetworkReady"} {
		if !slices.ContainsFunc(answer.Status.Conditions, func(c *cri.RuntimeCondition) bool { return c.Type == kind && c.Status }) {
			t.Errorf("no %s in %v", kind, answer.Status.Conditions)
		}
	}
	for key, value := range answer.Info {
		if !json.Valid([]byte(value)) {
			t.Errorf("verbose status: %s is no JSON: %q", key, value)
		}
	}
	if config := must(runtime.RuntimeConfig(soon(t), &cri.RuntimeConfigRequest{}))(t); config.Linux.CgroupDriver != cri.CgroupDriver_CGROUPFS {
		t.Errorf("runtime config: %v", config)
	}
}

// What a later version builds answers UNIMPLEMENTED with its name, never OK.
func TestUnimplementedSaysSo(t *testing.T) {
	c := newPod(t).sleeper(t, "main")
	for name, call := range map[string]func() error{
		"CheckpointContainer": func() error {
			_, err := runtime.CheckpointContainer(soon(t), &cri.CheckpointContainerRequest{ContainerId: c.id, Location: "/tmp/x"})
			return err
		},
	} {
		if err := call(); err == nil || (status.Code(err) == codes.Unimplemented && !strings.Contains(err.Error(), name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A second crispd on the same socket refuses to start, and the first one does not notice.
func TestSecondCrispd(t *testing.T) {
	program := must(os.Readlink("/proc/self/exe"))(t)
	if path, err := exec.LookPath("crispd"); err == nil {
		program = path
	}
	output, err := tryCommand(program, "--config", configFile)
	if err == nil || strings.TrimSpace(output) == "" {
		t.Errorf("a second crispd: %v, %q", err, output)
	}
	must(runtime.Version(soon(t), &cri.VersionRequest{}))(t)
}

func TestSocketIsForRootAndItsGroup(t *testing.T) {
	info := must(os.Stat(strings.TrimPrefix(endpoint, "unix://")))(t)
	if mode := info.Mode().Perm(); mode != 0o660 {
		t.Errorf("the socket's mode is %o", mode)
	}
}

// Unknown keys and wrong types are errors with file and line.
func TestCheckConfig(t *testing.T) {
	command(t, "crispd", "--check-config", "--config", configFile)
	path := filepath.Join(t.TempDir(), "config.toml")
	for _, text := range []string{"root = \"/x\"\nno_such_key = 1\n", "root = \"/x\"\nsocket = 7\n", "root = \"/x\"\n[network\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		output, err := tryCommand("crispd", "--check-config", "--config", path)
		if err == nil || !strings.Contains(output, path+":2") {
			t.Errorf("%q: %v %q, want an error with %s:2", text, err, output, path)
		}
	}
}
