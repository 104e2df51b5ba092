package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A person with crictl pulls an image, runs a pod with a container, reads its log, executes a command, looks at its status,
// stops and removes it; and nothing is left.
func TestStoryOfCrictl(t *testing.T) {
	name := registry + "/library/busybox:latest"
	must(image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(name)}))(t) // the image may stay
	leaveNothing(t)

	folder := t.TempDir()
	logs := filepath.Join(folder, "log")
	podFile, containerFile := filepath.Join(folder, "pod.json"), filepath.Join(folder, "container.json")
	write := func(path string, what any) {
		if err := os.WriteFile(path, must(json.Marshal(what))(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(podFile, map[string]any{"metadata": map[string]any{"name": "story", "uid": "story-1", "namespace": "default"}, "log_directory": logs, "linux": map[string]any{}})
	write(containerFile, map[string]any{"metadata": map[string]any{"name": "main"}, "image": map[string]any{"image": name}, "log_path": "main.log", "linux": map[string]any{},
		"command": []string{"sh", "-c", "echo once upon a time; echo oh >&2; exec sleep 1000"}})

	if output := command(t, "crictl", "pull", name); !strings.Contains(output, "Image is up to date for") {
		t.Errorf("crictl pull said %q", output)
	}
	if output := command(t, "crictl", "images"); !strings.Contains(output, registry+"/library/busybox") {
		t.Errorf("crictl images said %q", output)
	}
	podID := strings.TrimSpace(command(t, "crictl", "runp", podFile))
	id := strings.TrimSpace(command(t, "crictl", "create", podID, containerFile, podFile))
	command(t, "crictl", "start", id)
	eventually(t, 5*time.Second, "all of the log there", func() bool {
		output, _ := tryCommand("sh", "-c", "crictl logs "+id+" 2>&1")
		return strings.Contains(output, "once upon a time") && strings.Contains(output, "oh")
	})
	if output := command(t, "crictl", "exec", "--sync", id, "echo", "from within"); strings.TrimSpace(output) != "from within" {
		t.Errorf("crictl exec said %q", output)
	}
	var inspected struct {
		Status struct{ State, LogPath string }
		Info   struct{ Pid int }
	}
	if err := json.Unmarshal([]byte(command(t, "crictl", "inspect", id)), &inspected); err != nil {
		t.Fatal(err)
	}
	if inspected.Status.State != "CONTAINER_RUNNING" || inspected.Status.LogPath != filepath.Join(logs, "main.log") || inspected.Info.Pid == 0 {
		t.Errorf("crictl inspect said %+v", inspected)
	}
	if output := command(t, "crictl", "pods"); !strings.Contains(output, "story") || !strings.Contains(output, "Ready") {
		t.Errorf("crictl pods said %q", output)
	}
	if output := command(t, "crictl", "ps"); !strings.Contains(output, "main") || !strings.Contains(output, "Running") {
		t.Errorf("crictl ps said %q", output)
	}
	command(t, "crictl", "stop", "--timeout", "1", id)
	command(t, "crictl", "rm", id)
	command(t, "crictl", "stopp", podID)
	command(t, "crictl", "rmp", podID)
	if left := strings.TrimSpace(command(t, "crictl", "pods", "-q") + command(t, "crictl", "ps", "-aq")); left != "" {
		t.Errorf("left: %s", left)
	}
}

// The same with nothing but crispctl.
func TestStoryOfCrispctl(t *testing.T) {
	leaveNothing(t)
	if output := command(t, "crispctl", "run", "--rm", busybox, "sh", "-c", "echo hello"); output != "hello\n" {
		t.Errorf("crispctl run said %q", output)
	}
	if _, err := tryCommand("crispctl", "run", "--rm", busybox, "sh", "-c", "exit 7"); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("crispctl run: %v, want exit status 7", err)
	}
	command(t, "crispctl", "run", "--detach", "--name", "tale", busybox, "sh", "-c", "echo begun; exec sleep 1000")
	t.Cleanup(func() { _, _ = tryCommand("crispctl", "rm", "--force", "tale") })
	eventually(t, 5*time.Second, "the log there", func() bool {
		output, _ := tryCommand("crispctl", "logs", "tale")
		return output == "begun\n"
	})
	if output := command(t, "crispctl", "exec", "tale", "hostname"); output != "tale\n" {
		t.Errorf("crispctl exec said %q", output)
	}
	if output := command(t, "crispctl", "ps"); !strings.Contains(output, "tale") {
		t.Errorf("crispctl ps said %q", output)
	}
	if output := command(t, "crispctl", "--json", "images"); !json.Valid([]byte(output)) {
		t.Errorf("crispctl --json images said %q", output)
	}
	command(t, "crispctl", "status")
	command(t, "crispctl", "stop", "--time", "1", "tale")
	command(t, "crispctl", "rm", "tale")
	if output := strings.TrimSpace(command(t, "crispctl", "ps", "--all", "--quiet")); output != "" {
		t.Errorf("left: %s", output)
	}
}
