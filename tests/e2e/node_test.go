// Package e2e tests crisp as its users see it: over the CRI socket, through crictl and crispctl, on real images from a real
// registry, in a node that hack/node makes. Run it by `hack/test e2e [REGEXP]`.
package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What hack/node says of the node (tests/node/inside lists it all).
var (
	registry   = os.Getenv("CRISP_TEST_REGISTRY")
	nodeDir    = os.Getenv("CRISP_TEST_NODE")
	crispdLog  = os.Getenv("CRISP_TEST_LOG")
	configFile = os.Getenv("CRISP_TEST_CONFIG")
	rootDir    = os.Getenv("CRISP_TEST_ROOT")
	stateDir   = os.Getenv("CRISP_TEST_STATE")
	outside    = os.Getenv("CRISP_TEST_OUTSIDE")
	endpoint   = os.Getenv("CONTAINER_RUNTIME_ENDPOINT")
)

const busybox = "docker.io/library/busybox:latest"

// patience is for a call whose duration a test does not look at.
var patience = 60 * time.Second

// Clients of crispd, connected anew when it was restarted.
var (
	connection *grpc.ClientConn
	runtime    cri.RuntimeServiceClient
	image      cri.ImageServiceClient
)

func TestMain(m *testing.M) {
	if nodeDir == "" {
		fmt.Fprintln(os.Stderr, "tests/e2e runs in a node: hack/test e2e")
		os.Exit(2)
	}
	if os.Getenv("CRISP_TEST_SLOW") != "" {
		patience *= 5
	}
	connect()
	if err := warmUp(); err != nil {
		fmt.Fprintln(os.Stderr, "the first pod of all:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func connect() {
	if connection != nil {
		connection.Close()
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(endpoint, "unix://"))
	}
	var err error
	connection, err = grpc.NewClient("passthrough:///crisp", grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		panic(err)
	}
	runtime, image = cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection)
}

// warmUp makes what stays after the first pod (bridges, tables, folders of the plugins, images), so that leaveNothing
// compares a node in use.
func warmUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := image.PullImage(ctx, &cri.PullImageRequest{Image: spec(busybox)}); err != nil {
		return err
	}
	config := podConfig("warm-up")
	if reason, err := networkReason(ctx); err != nil {
		return err
	} else if reason == "" {
		config.PortMappings = []*cri.PortMapping{{HostPort: 31999, ContainerPort: 80}}
	}
	pod, err := runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		return err
	}
	made, err := runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: pod.PodSandboxId,
		Config: containerConfig("warm-up", "true"), SandboxConfig: config})
	if err != nil {
		return err
	}
	if _, err := runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: made.ContainerId}); err != nil {
		return err
	}
	if _, err := runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod.PodSandboxId}); err != nil {
		return err
	}
	_, err = runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod.PodSandboxId})
	os.RemoveAll(config.LogDirectory)
	return err
}

// networkReason gives what Status says for why the network is not whole, "" if it is: the built-in one can neither masquerade nor
// map ports under a kernel without nftables for ip (User Mode Linux).
func networkReason(ctx context.Context) (string, error) {
	status, err := runtime.Status(ctx, &cri.StatusRequest{})
	for _, condition := range status.GetStatus().GetConditions() {
		if condition.Type == "NetworkReady" && !condition.Status {
			return condition.Message, err
		}
	}
	return "", err
}

// needNetwork skips a test for which pods must reach other hosts, or have host ports, where they can't.
func needNetwork(t *testing.T) {
	t.Helper()
	if reason := must(networkReason(soon(t)))(t); reason != "" {
		t.Skip(reason)
	}
}

// needSpeed skips a test of how long something takes, where that says nothing.
func needSpeed(t *testing.T) {
	t.Helper()
	if os.Getenv("CRISP_TEST_SLOW") != "" {
		t.Skip("this kernel runs in a process: what takes how long says nothing here")
	}
}

func spec(name string) *cri.ImageSpec { return &cri.ImageSpec{Image: name} }

// within gives a context for one call of a test.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func soon(t *testing.T) context.Context { t.Helper(); return within(t, patience) }

// must ends the test if a call failed, and gives the call's answer.
func must[T any](answer T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}

// fails says that a call must have failed with one of the codes, in one sentence that has all the words.
func fails(t *testing.T, err error, want []codes.Code, words ...string) {
	t.Helper()
	got, message := status.Code(err), status.Convert(err).Message()
	found := false
	for _, code := range want {
		found = found || got == code
	}
	if !found {
		t.Errorf("got %v %q, want %v", got, message, want)
		return
	}
	if strings.ContainsAny(message, "\n\r") || len(message) < 10 {
		t.Errorf("%q is not one sentence", message)
	}
	for _, word := range words {
		if !strings.Contains(message, word) {
			t.Errorf("%q does not say %q", message, word)
		}
	}
}

func is(code ...codes.Code) []codes.Code { return code }

// eventually looks every few milliseconds until what it looks for is so.
func eventually(t *testing.T, limit time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v: not %s", limit, what)
		}
	}
}

// command runs a program of the node and gives its output; it must succeed.
func command(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	output, err := tryCommand(name, arguments...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(arguments, " "), err, output)
	}
	return output
}

// tryCommand gives stdout, and of a program that failed stderr after it.
func tryCommand(name string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var errors strings.Builder
	program := exec.CommandContext(ctx, name, arguments...)
	program.Stderr = &errors
	output, err := program.Output()
	if err != nil {
		return string(output) + errors.String(), err
	}
	return string(output), nil
}

// leaveNothing says that when the test is over the node is as it is now: no mount, process, cgroup, namespace, link, rule,
// file or fd more or less (hack/leaks). To be called before anything is made.
func leaveNothing(t *testing.T) {
	t.Helper()
	pullerGone(t)
	leaks := filepath.Join(os.Getenv("CRISP_TEST_TOP"), "hack/leaks")
	snapshot := filepath.Join(nodeDir, "snapshot") // outside of what is compared
	command(t, leaks, "before", snapshot)
	t.Cleanup(func() {
		if t.Failed() {
			return // what a failed test leaves is no news
		}
		pullerGone(t)
		if output, err := tryCommand(leaks, "after", snapshot); err != nil {
			t.Errorf("something is left behind\n%s", output)
		}
	})
}

// configure restarts crispd with these lines in its configuration, until the test ends.
func configure(t *testing.T, lines string) {
	t.Helper()
	file := filepath.Join(filepath.Dir(configFile), "config.d/90-test.toml")
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Remove(file)
		restartCrispd(t)
	})
	restartCrispd(t)
}

// pullerGone ends crisp-pull, which ends by itself only when it was idle for a while.
func pullerGone(t *testing.T) {
	t.Helper()
	killed := processesOf("crisp-pull")
	for _, pid := range killed {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	// A pull that was under way may have brought up its successor.
	eventually(t, 5*time.Second, "crisp-pull gone", func() bool {
		return !slices.ContainsFunc(processesOf("crisp-pull"), func(pid int) bool { return slices.Contains(killed, pid) })
	})
	// crispd deletes what lies in its directory, once it has heard of the death.
	for range 100 {
		if sessions, _ := os.ReadDir(filepath.Join(rootDir, "images/incoming")); len(sessions) <= len(processesOf("crisp-pull")) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// processesOf gives the pids of the node's processes whose executable has that name, without those that such a process cloned
// and that have not executed another yet: the init of a container that was created and not started is no monitor.
func processesOf(name string) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	parents := map[int]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		executable, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		executable = strings.TrimPrefix(filepath.Base(strings.TrimSuffix(executable, " (deleted)")), "memfd:")
		if err == nil && executable == name && ofThisNode(pid) {
			parents[pid] = parentOf(pid)
		}
	}
	for pid, parent := range parents {
		if _, cloned := parents[parent]; !cloned {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf gives 0 for a process that is gone.
func parentOf(pid int) (parent int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, after, found := strings.Cut(string(status), "\nPPid:\t"); found {
		_, _ = fmt.Sscan(after, &parent)
	}
	return parent
}

// ofThisNode tells processes of this node from those of others by the cgroup namespace: what is not beneath its root
// begins with "/..".
func ofThisNode(pid int) bool {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && !strings.Contains(string(groups), ":/..")
}
