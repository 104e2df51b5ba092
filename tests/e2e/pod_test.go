package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var serial atomic.Int64 // makes names unique

func podConfig(name string) *cri.PodSandboxConfig {
	unique := fmt.Sprintf("%s-%d-%d", strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(name)), os.Getpid(), serial.Add(1))
	return &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: unique, Uid: "uid-" + unique, Namespace: "e2e"},
		LogDirectory: filepath.Join(os.TempDir(), "log-"+unique),
		Linux:        &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}}},
	}
}

// containerConfig is a container of busybox that runs the command.
func containerConfig(name string, command ...string) *cri.ContainerConfig {
	return &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: name},
		Image:    spec(busybox),
		Command:  command,
		LogPath:  name + ".log",
		Linux:    &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: &cri.NamespaceOption{Pid: cri.NamespaceMode_CONTAINER}}},
	}
}

func shell(script string) []string { return []string{"sh", "-c", script} }

type pod struct {
	id     string
	config *cri.PodSandboxConfig
}

// newPod runs a pod that is stopped and removed when the test is over.
func newPod(t *testing.T, change ...func(*cri.PodSandboxConfig)) *pod {
	t.Helper()
	config := podConfig(t.Name())
	for _, f := range change {
		f(config)
	}
	made := must(runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config}))(t)
	p := &pod{made.PodSandboxId, config}
	t.Cleanup(func() { p.remove(t) })
	return p
}

func (p *pod) remove(t *testing.T) {
	t.Helper()
	must(runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: p.id}))(t)
	must(runtime.RemovePodSandbox(soon(t), &cri.RemovePodSandboxRequest{PodSandboxId: p.id}))(t)
	os.RemoveAll(p.config.LogDirectory)
}

func (p *pod) status(t *testing.T) *cri.PodSandboxStatus {
	t.Helper()
	return must(runtime.PodSandboxStatus(soon(t), &cri.PodSandboxStatusRequest{PodSandboxId: p.id}))(t).Status
}

type container struct {
	id     string
	pod    *pod
	config *cri.ContainerConfig
}

func (p *pod) tryCreate(t *testing.T, config *cri.ContainerConfig) (*container, error) {
	t.Helper()
	made, err := runtime.CreateContainer(soon(t), &cri.CreateContainerRequest{PodSandboxId: p.id, Config: config, SandboxConfig: p.config})
	if err != nil {
		return nil, err
	}
	return &container{made.ContainerId, p, config}, nil
}

func (p *pod) create(t *testing.T, config *cri.ContainerConfig) *container {
	t.Helper()
	return must(p.tryCreate(t, config))(t)
}

// run creates and starts a container.
func (p *pod) run(t *testing.T, config *cri.ContainerConfig) *container {
	t.Helper()
	c := p.create(t, config)
	c.start(t)
	return c
}

// sleeper is a container that only waits.
func (p *pod) sleeper(t *testing.T, name string) *container {
	t.Helper()
	return p.run(t, containerConfig(name, "sleep", "1000"))
}

// output runs a container to its end and gives what it wrote to stdout.
func (p *pod) output(t *testing.T, config *cri.ContainerConfig) string {
	t.Helper()
	c := p.run(t, config)
	c.ended(t)
	return c.stdout(t)
}

func (c *container) tryStart(t *testing.T) error {
	t.Helper()
	_, err := runtime.StartContainer(soon(t), &cri.StartContainerRequest{ContainerId: c.id})
	return err
}

func (c *container) start(t *testing.T) {
	t.Helper()
	if err := c.tryStart(t); err != nil {
		t.Fatal(err)
	}
}

func (c *container) stop(t *testing.T, grace int64) {
	t.Helper()
	must(runtime.StopContainer(soon(t), &cri.StopContainerRequest{ContainerId: c.id, Timeout: grace}))(t)
}

func (c *container) remove(t *testing.T) {
	t.Helper()
	must(runtime.RemoveContainer(soon(t), &cri.RemoveContainerRequest{ContainerId: c.id}))(t)
}

func (c *container) status(t *testing.T) *cri.ContainerStatus {
	t.Helper()
	return must(runtime.ContainerStatus(soon(t), &cri.ContainerStatusRequest{ContainerId: c.id}))(t).Status
}

// ended waits for the container's end and gives its status.
func (c *container) ended(t *testing.T) *cri.ContainerStatus {
	t.Helper()
	var last *cri.ContainerStatus
	eventually(t, 20*time.Second, "EXITED", func() bool {
		last = c.status(t)
		return last.State == cri.ContainerState_CONTAINER_EXITED
	})
	return last
}

// sh runs a script in the container, which must end with 0, and gives its stdout.
func (c *container) sh(t *testing.T, script string) string {
	t.Helper()
	answer := must(c.exec(t, 0, shell(script)...))(t)
	if answer.ExitCode != 0 {
		t.Fatalf("%s: exit code %d, stdout %q, stderr %q", script, answer.ExitCode, answer.Stdout, answer.Stderr)
	}
	return string(answer.Stdout)
}

func (c *container) exec(t *testing.T, timeout int64, command ...string) (*cri.ExecSyncResponse, error) {
	t.Helper()
	return runtime.ExecSync(soon(t), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: command, Timeout: timeout})
}

func (c *container) logPath() string {
	return filepath.Join(c.pod.config.LogDirectory, c.config.LogPath)
}

// A line of a log in the CRI format.
type line struct {
	time    time.Time
	stream  string
	partial bool
	text    string
}

var logLine = regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([PF]) (.*)$`)

// readLog gives the lines of log files in their order; a line that is not of the format fails the test.
func readLog(t *testing.T, paths ...string) (lines []line) {
	t.Helper()
	for _, path := range paths {
		lines = append(lines, parseLog(t, path, must(os.ReadFile(path))(t))...)
	}
	return lines
}

func parseLog(t *testing.T, path string, data []byte) (lines []line) {
	t.Helper()
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		part := logLine.FindStringSubmatch(scanner.Text())
		if part == nil {
			t.Fatalf("%s: %q is no line of a CRI log", path, scanner.Text())
		}
		when := must(time.Parse(time.RFC3339Nano, part[1]))(t)
		lines = append(lines, line{when, part[2], part[3] == "P", part[4]})
	}
	return lines
}

// stdout gives what the container wrote to stdout, put together from its log.
func (c *container) stdout(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for _, line := range readLog(t, c.logPath()) {
		if line.stream == "stdout" {
			text.WriteString(line.text)
			if !line.partial {
				text.WriteByte('\n')
			}
		}
	}
	return text.String()
}
