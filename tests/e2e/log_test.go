package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (c *container) reopen(t *testing.T) error {
	t.Helper()
	_, err := runtime.ReopenContainerLog(soon(t), &cri.ReopenContainerLogRequest{ContainerId: c.id})
	return err
}

// Lines longer than 16 KiB come in pieces tagged P, the last one F; times are UTC and do not run backwards.
func TestLogFormat(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	before := time.Now()
	c := p.run(t, containerConfig("main", shell(`echo short; echo error >&2; echo; head -c 40000 /dev/zero | tr '\0' x; echo; printf '\377\376binary\n'; printf 'no newline'`)...))
	c.ended(t)
	after := time.Now()
	if mode := must(os.Stat(c.logPath()))(t).Mode().Perm(); mode != 0o640 {
		t.Errorf("the log's mode is %o", mode)
	}
	lines := readLog(t, c.logPath())
	var out []line
	last := before.Add(-time.Millisecond)
	for _, line := range lines {
		if line.time.Before(last) && line.stream == "stdout" || line.time.After(after) {
			t.Errorf("time %v after %v", line.time, last)
		}
		if line.stream == "stdout" {
			last = line.time
			out = append(out, line)
		} else if line.text != "error" || line.partial {
			t.Errorf("stderr: %+v", line)
		}
	}
	var got []string
	for _, line := range out {
		text := line.text
		if len(text) > 100 {
			text = fmt.Sprintf("%d", len(text))
		}
		got = append(got, fmt.Sprintf("%v %s", line.partial, text))
	}
	want := []string{"false short", "false ", "true 16384", "true 16384", "false 7232", "false \xff\xfebinary"}
	if len(got) != len(want)+1 || strings.Join(got[:len(want)], "|") != strings.Join(want, "|") || !strings.HasSuffix(got[len(want)], "no newline") {
		t.Errorf("got  %q\nwant %q and what has no newline", got, want)
	}
}

// A chatty container is rotated every 50 ms, and not a line is lost, doubled or cut.
func TestLogRotationLosesNothing(t *testing.T) {
	leaveNothing(t)
	const count = 200000
	c := newPod(t).run(t, containerConfig("main", shell(fmt.Sprintf(`seq 1 %d | while read n; do echo $n; done`, count/10)+fmt.Sprintf(`; seq %d %d`, count/10+1, count))...))
	var paths []string
	for i := 0; c.status(t).State == cri.ContainerState_CONTAINER_RUNNING && i < 400; i++ {
		rotated := fmt.Sprintf("%s.%03d", c.logPath(), i)
		if err := os.Rename(c.logPath(), rotated); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, rotated)
		if err := c.reopen(t); err != nil && c.status(t).State == cri.ContainerState_CONTAINER_RUNNING {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.ended(t)
	if _, err := os.Stat(c.logPath()); err == nil {
		paths = append(paths, c.logPath())
	}
	if n := noGap(t, readLog(t, paths...)); n != count {
		t.Errorf("%d lines of %d in %d files", n, count, len(paths))
	}
	t.Logf("%d files", len(paths))
}

func TestReopenLogOfWhatDoesNotRun(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	created := p.create(t, containerConfig("main", "true"))
	fails(t, created.reopen(t), is(codes.FailedPrecondition))
	created.start(t)
	created.ended(t)
	fails(t, created.reopen(t), is(codes.FailedPrecondition))
}

// A terminal's output is a log of stdout alone, without carriage returns of its own invention lost.
func TestLogOfATerminal(t *testing.T) {
	leaveNothing(t)
	config := containerConfig("main", shell(`tty; echo $TERM; echo err >&2`)...)
	config.Tty = true
	c := newPod(t).run(t, config)
	c.ended(t)
	got := strings.ReplaceAll(c.stdout(t), "\r", "")
	if !strings.HasPrefix(got, "/dev/pts/0\nxterm\n") && !strings.HasPrefix(got, "/dev/console\nxterm\n") || !strings.Contains(got, "err\n") {
		t.Errorf("%q", got)
	}
}

// A container without a log path has no log, and nothing waits for a reader.
func TestNoLogPath(t *testing.T) {
	leaveNothing(t)
	config := containerConfig("main", shell(`seq 1 100000`)...)
	config.LogPath = ""
	c := newPod(t).run(t, config)
	if status := c.ended(t); status.ExitCode != 0 || status.LogPath != "" {
		t.Errorf("%v", status)
	}
}

// flood gives lines of many lengths, some beyond what fits into one record, the last without its newline.
func flood(size int) []byte {
	var text bytes.Buffer
	for i := 0; text.Len() < size; i++ {
		length := rand.IntN(200)
		if i%1000 == 0 {
			length = rand.IntN(50000)
		}
		fmt.Fprintf(&text, "%d %s\n", i, strings.Repeat("x", length))
	}
	text.WriteString("the end")
	return text.Bytes()
}

// logged gives the bytes that were written to stdout, by the files of a log.
func logged(t *testing.T, paths ...string) []byte {
	t.Helper()
	var text bytes.Buffer
	for _, path := range paths {
		data := must(os.ReadFile(path))(t)
		for len(data) > 0 {
			record, rest, whole := bytes.Cut(data, []byte("\n"))
			if !whole || len(record) < 40 || string(record[29:38]) != "Z stdout " || record[39] != ' ' {
				t.Fatalf("%s: %q is no record", path, record)
			}
			text.Write(record[40:])
			if record[38] == 'F' {
				text.WriteByte('\n')
			}
			data = rest
		}
	}
	return text.Bytes()
}

// pours is a container that writes the bytes to stdout as fast as it can, and ends with 7.
func pours(t *testing.T, p *pod, text []byte) *container {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "flood"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	config := containerConfig("main", shell("cat /data/flood; exit 7")...)
	config.Mounts = []*cri.Mount{{HostPath: folder, ContainerPath: "/data", Readonly: true}}
	return p.run(t, config)
}

// It writes as fast as it can, and its log is rotated every few milliseconds: the files put together are what it wrote.
func TestLogOfAFloodThatIsRotatedAllTheTime(t *testing.T) {
	leaveNothing(t)
	text := flood(128 << 20)
	begun := time.Now()
	c := pours(t, newPod(t), text)
	var paths []string
	for c.status(t).State == cri.ContainerState_CONTAINER_RUNNING {
		rotated := fmt.Sprintf("%s.%05d", c.logPath(), len(paths))
		if err := os.Rename(c.logPath(), rotated); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, rotated)
		if err := c.reopen(t); err != nil && c.status(t).State == cri.ContainerState_CONTAINER_RUNNING {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Millisecond)
	}
	took := time.Since(begun)
	if c.ended(t).ExitCode != 7 {
		t.Error("it did not write all")
	}
	if _, err := os.Stat(c.logPath()); err == nil {
		paths = append(paths, c.logPath())
	}
	eventually(t, 10*time.Second, "all of it in the log", func() bool { return len(logged(t, paths...)) >= len(text) })
	if !bytes.Equal(logged(t, paths...), text) {
		t.Error("the log is not what was written")
	}
	t.Logf("%d MB in %v, %d files", len(text)>>20, took, len(paths))
}

// smallLogDisk makes the pod's log directory a disk of so few bytes, and gives what makes it large.
func smallLogDisk(t *testing.T, config *cri.PodSandboxConfig) (grow func()) {
	t.Helper()
	config.LogDirectory = filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(config.LogDirectory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", config.LogDirectory, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(config.LogDirectory, 0); err != nil {
			t.Error(err)
		}
	})
	return func() {
		if err := syscall.Mount("", config.LogDirectory, "", syscall.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
	}
}

func recentErrors(t *testing.T) string {
	t.Helper()
	return must(runtime.Status(soon(t), &cri.StatusRequest{Verbose: true}))(t).Info["recentErrors"]
}

// The disk of the logs is full: the container waits, crispd tells of it, everything else goes on; with space again nothing is
// missing.
func TestLogOnAFullDisk(t *testing.T) {
	leaveNothing(t)
	var grow func()
	p := newPod(t, func(c *cri.PodSandboxConfig) { grow = smallLogDisk(t, c) })
	text := flood(4 << 20)
	c := pours(t, p, text)
	eventually(t, 5*time.Second, "told of", func() bool {
		said := recentErrors(t)
		return strings.Contains(said, "its log waits for space") && strings.Contains(said, "No space left on device") && strings.Contains(said, c.id)
	})
	if got := c.sh(t, "echo fine"); got != "fine\n" {
		t.Errorf("%q", got)
	}
	if c.status(t).State != cri.ContainerState_CONTAINER_RUNNING {
		t.Error("it did not wait")
	}
	begun := time.Now()
	quiet := p.run(t, containerConfig("quiet", shell("echo lost in the queue; exit 3")...))
	if code := quiet.ended(t).ExitCode; code != 3 || time.Since(begun) > 3*time.Second {
		t.Errorf("another container of the pod ended with %d after %v", code, time.Since(begun))
	}
	if _, err := os.Stat(filepath.Join(rootDir, "containers", quiet.id, "exit")); err != nil {
		t.Error(err)
	}
	grow()
	if code := c.ended(t).ExitCode; code != 7 {
		t.Errorf("it ended with %d", code)
	}
	eventually(t, 5*time.Second, "all of it in the log", func() bool { return bytes.Equal(logged(t, c.logPath()), text) })
	eventually(t, 5*time.Second, "the other one's", func() bool { return quiet.stdout(t) == "lost in the queue\n" })
	if !strings.Contains(recentErrors(t), "its log is written again") {
		t.Error("nobody said that it is over")
	}
}

// Where the configuration asks for it the container does not wait; its log says how much is missing where.
func TestLogThatIsNotWaitedFor(t *testing.T) {
	leaveNothing(t)
	withConfig(t, "[log]\nmode = \"nonblocking\"\nbuffer_bytes = 200000\n")
	var grow func()
	p := newPod(t, func(c *cri.PodSandboxConfig) { grow = smallLogDisk(t, c) })
	text := flood(4 << 20)
	c := pours(t, p, text)
	if code := c.ended(t).ExitCode; code != 7 {
		t.Errorf("it ended with %d", code)
	}
	grow()
	var lines, lost int
	eventually(t, 5*time.Second, "all accounted for", func() bool {
		lines, lost = 0, 0
		rest := text
		for _, line := range bytes.SplitAfter(logged(t, c.logPath()), []byte("\n")) {
			var bytesLost int
			if _, err := fmt.Sscanf(string(line), "crisp: %d bytes of output were lost here", &bytesLost); err == nil {
				lost += bytesLost
				rest = rest[min(bytesLost, len(rest)):]
				continue
			}
			if !bytes.HasPrefix(rest, line) {
				return false
			}
			rest = rest[len(line):]
			lines++
		}
		return len(rest) == 0
	})
	if lost == 0 || lines < 100 {
		t.Errorf("%d bytes lost, %d lines", lost, lines)
	}
	t.Logf("%d bytes lost of %d, %d lines", lost, len(text), lines)
}
