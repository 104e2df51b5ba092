package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// crispdPid gives the pid of the crispd that hack/node or a test started.
func crispdPid(t *testing.T) int {
	t.Helper()
	text := must(os.ReadFile(os.Getenv("CRISP_TEST_PIDFILE")))(t)
	return must(strconv.Atoi(strings.TrimSpace(string(text))))(t)
}

// killCrispd ends crispd by SIGKILL, as a crash or the OOM killer would.
func killCrispd(t *testing.T) {
	t.Helper()
	pid := crispdPid(t)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "crispd dead", func() bool { return dead(pid) })
}

// startCrispd starts crispd if it does not run, and connects to it.
func startCrispd(t *testing.T) {
	t.Helper()
	command(t, os.Getenv("CRISP_TEST_CRISPD"), "start")
	connect()
	must(runtime.Version(soon(t), &cri.VersionRequest{}))(t) // a client connects with its first call: leaveNothing counts sockets
}

// restartCrispd ends crispd in the polite way and starts it again.
func restartCrispd(t *testing.T) {
	t.Helper()
	command(t, os.Getenv("CRISP_TEST_CRISPD"), "stop")
	startCrispd(t)
}

// withConfig starts crispd again with more configuration, for as long as the test goes on.
func withConfig(t *testing.T, toml string) {
	t.Helper()
	dropIn := filepath.Join(filepath.Dir(configFile), "config.d", "test.toml")
	if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dropIn, []byte(toml), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.Remove(dropIn)
		restartCrispd(t)
	})
	restartCrispd(t)
}

// dead is also true of a zombie, whose parent may take its time, once its last thread has ended.
func dead(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	return err != nil || strings.Contains(string(status), "\nState:\tZ") && strings.Contains(string(status), "\nThreads:\t1\n")
}
