package e2e

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestExecSync(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	answer := must(c.exec(t, 10, shell(`echo out; echo err >&2; exit 3`)...))(t)
	if string(answer.Stdout) != "out\n" || string(answer.Stderr) != "err\n" || answer.ExitCode != 3 {
		t.Errorf("%v", answer)
	}
	if answer := must(c.exec(t, 10, shell(`kill -9 $$`)...))(t); answer.ExitCode != 137 {
		t.Errorf("killed by SIGKILL: exit code %d", answer.ExitCode)
	}
	if answer := must(c.exec(t, 10, "cat"))(t); answer.ExitCode != 0 || len(answer.Stdout) != 0 {
		t.Errorf("cat has an empty stdin: %v", answer)
	}
	if got := c.sh(t, `tr '\0' '\n' </proc/1/environ | sort >/tmp/a; tr '\0' '\n' </proc/self/environ | sort >/tmp/b; diff /tmp/a /tmp/b; pwd; id -u`); !strings.HasSuffix(got, "/\n0\n") {
		t.Errorf("environment, directory and user of an exec: %q", got)
	}
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if answer, err := c.exec(t, 30, "echo", "x"); err != nil || string(answer.Stdout) != "x\n" {
				t.Errorf("one of 20 at once: %v %v", answer, err)
			}
		})
	}
	wait.Wait()
	for range 100 {
		must(c.exec(t, 10, "true"))(t)
	}
}

// The deadline kills the command's whole tree, in the call's own time.
func TestExecSyncDeadlineKillsTheTree(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	begin := time.Now()
	_, err := c.exec(t, 1, shell(`sleep 301 & (setsid sleep 302 &) ; sh -c "sleep 303; true"; true`)...)
	took := time.Since(begin)
	fails(t, err, is(codes.DeadlineExceeded))
	if took < 900*time.Millisecond || took > 4*time.Second {
		t.Errorf("a deadline of 1 s took %v", took)
	}
	if got := c.sh(t, `ps | grep "sleep 30[123]" | grep -v grep || true`); got != "" {
		t.Errorf("left in the container:\n%s", got)
	}
	// The client's own deadline ends it too.
	_, err = runtime.ExecSync(within(t, 500*time.Millisecond), &cri.ExecSyncRequest{ContainerId: c.id, Cmd: []string{"sleep", "304"}})
	fails(t, err, is(codes.DeadlineExceeded))
	eventually(t, 3*time.Second, "the command of a caller who left dead", func() bool {
		return c.sh(t, `ps | grep "sleep 304" | grep -v grep || true`) == ""
	})
}

// A background child that keeps stdout open delays the answer by a bounded drain only.
func TestExecSyncBackgroundChild(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	begin := time.Now()
	answer := must(c.exec(t, 60, shell(`sleep 300 & echo done`)...))(t)
	if took := time.Since(begin); string(answer.Stdout) != "done\n" || took > 5*time.Second {
		t.Errorf("%q after %v", answer.Stdout, took)
	}
}

// stdout and stderr together are capped below the 16 MiB message, the rest is discarded and the command goes on to its end.
func TestExecSyncOutputIsCapped(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	answer := must(c.exec(t, 60, shell(`yes 12345678 | head -c 40000000; echo end >/tmp/end; exit 5`)...))(t)
	if n := len(answer.Stdout) + len(answer.Stderr); n < 1<<20 || n >= 16<<20 || answer.ExitCode != 5 {
		t.Errorf("%d bytes, exit code %d", n, answer.ExitCode)
	}
	if !bytes.Equal(answer.Stdout, bytes.Repeat([]byte("12345678\n"), len(answer.Stdout)/9+1)[:len(answer.Stdout)]) {
		t.Error("what came is not what was written first")
	}
	if got := c.sh(t, "cat /tmp/end"); got != "end\n" {
		t.Error("the command did not go on to its end")
	}
	small := must(c.exec(t, 60, shell(`seq 1 200000`)...))(t)
	if lines := strings.Count(string(small.Stdout), "\n"); lines != 200000 {
		t.Errorf("%d lines of 200000", lines)
	}
}

func TestExecSyncWhereItCannot(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	c := p.sleeper(t, "main")
	if answer, err := c.exec(t, 10, "no-such-command"); err == nil && answer.ExitCode != 127 {
		t.Errorf("a command that is not there: %v", answer)
	} else if err != nil {
		fails(t, err, is(codes.NotFound, codes.InvalidArgument), "no-such-command")
	}
	_, err := c.exec(t, 10)
	fails(t, err, is(codes.InvalidArgument))
	created := p.create(t, containerConfig("created", "true"))
	_, err = created.exec(t, 10, "true")
	fails(t, err, is(codes.FailedPrecondition))
	c.stop(t, 0)
	_, err = c.exec(t, 10, "true")
	fails(t, err, is(codes.FailedPrecondition))
}
