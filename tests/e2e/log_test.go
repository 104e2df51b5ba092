package e2e

import (
	"fmt"
	"os"
	"strings"
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
