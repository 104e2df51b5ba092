package kubelet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
)

func executor(p *pod, transport, kind, query string, command ...string) remotecommand.Executor {
	address := p.streamURL(kind, "main", command...)
	address.RawQuery += query
	if transport == "spdy" {
		return must(remotecommand.NewSPDYExecutor(&streams, "POST", address))(p.t)
	}
	return must(remotecommand.NewWebSocketExecutor(&streams, "GET", address.String()))(p.t)
}

// As kubectl exec and attach, by either protocol, through the kubelet.
func TestExecAndAttachThroughTheKubelet(t *testing.T) {
	t.Parallel()
	p := start(t, `containers: [{name: main, stdin: true, command: [sh, -c, 'while read x; do echo "got $x"; done']}]`)
	p.becomesReady()
	for _, transport := range []string{"spdy", "websocket"} {
		var stdout, stderr bytes.Buffer
		err := executor(p, transport, "exec", "&input=1", "sh", "-c", "cat; echo error >&2; exit 7").StreamWithContext(soon(t),
			remotecommand.StreamOptions{Stdin: strings.NewReader("in"), Stdout: &stdout, Stderr: &stderr})
		var exit utilexec.CodeExitError
		if !errors.As(err, &exit) || exit.Code != 7 || stdout.String() != "in" || stderr.String() != "error\n" {
			t.Errorf("exec by %s: %v, %q, %q", transport, err, stdout.String(), stderr.String())
		}
		stdout.Reset()
		err = executor(p, transport, "exec", "&tty=1", "tty").StreamWithContext(soon(t), remotecommand.StreamOptions{Stdout: &stdout, Tty: true})
		if err != nil || !strings.HasPrefix(stdout.String(), "/dev/pts/") {
			t.Errorf("exec with a terminal by %s: %v, %q", transport, err, stdout.String())
		}
		hands, typed := io.Pipe()
		heard, said := io.Pipe()
		go func() {
			said.CloseWithError(executor(p, transport, "attach", "&input=1").StreamWithContext(soon(t),
				remotecommand.StreamOptions{Stdin: hands, Stdout: said, Stderr: io.Discard}))
		}()
		fmt.Fprintln(typed, transport)
		answer := make([]byte, len("got "+transport+"\n"))
		if _, err := io.ReadFull(heard, answer); err != nil || string(answer) != "got "+transport+"\n" {
			t.Errorf("attach by %s: %v, %q", transport, err, answer)
		}
		typed.CloseWithError(io.ErrUnexpectedEOF) // goes, without an end of stdin
		heard.Close()
	}
}

func TestPortForwardThroughTheKubelet(t *testing.T) {
	t.Parallel()
	p := start(t, `
containers: 
- name: main
  command: [sh, -c, "mkdir /www; echo served >/www/x; exec httpd -f -p 127.0.0.1:80 -h /www"]
  readinessProbe: {exec: {command: [wget, -q, -O, /dev/null, "http://127.0.0.1/x"]}, periodSeconds: 1}`)
	p.becomesReady()
	transport, upgrader, err := spdy.RoundTripperFor(&streams)
	if err != nil {
		t.Fatal(err)
	}
	target := p.streamURL("portForward", "")
	target.Path, target.RawQuery = strings.TrimSuffix(target.Path, "/"), ""
	stop, up := make(chan struct{}), make(chan struct{})
	defer close(stop)
	forwarder := must(portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", target), []string{"0:80"}, stop, up, io.Discard, os.Stderr))(t)
	gone := make(chan error, 1)
	go func() { gone <- forwarder.ForwardPorts() }()
	select {
	case <-up:
	case err := <-gone:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("no port is forwarded")
	}
	ports := must(forwarder.GetPorts())(t)
	answer := must(http.Get(fmt.Sprintf("http://127.0.0.1:%d/x", ports[0].Local)))(t)
	defer answer.Body.Close()
	if body := string(must(io.ReadAll(answer.Body))(t)); body != "served\n" {
		t.Errorf("through the port came %q", body)
	}
}

// kubectl logs: all of it, its tail, with times, and following until the container ends.
func TestLogsThroughTheKubelet(t *testing.T) {
	t.Parallel()
	p := start(t, `
restartPolicy: Never
containers: [{name: main, command: [sh, -c, 'echo one; sleep 0.5; echo two >&2; sleep 0.5; echo three; until test -e /tmp/go; do sleep 0.1; done; printf four']}]`)
	p.becomesReady()
	eventually(t, patience, "all logged", func() bool { return p.logs("main") == "one\ntwo\nthree\n" })
	if tail := p.logs("main", "tailLines=1"); tail != "three\n" {
		t.Errorf("its tail is %q", tail)
	}
	if stamped := p.logs("main", "timestamps=true", "limitBytes=20"); !strings.HasPrefix(stamped, time.Now().UTC().Format("2006-")) {
		t.Errorf("with times it is %q", stamped)
	}
	followed := make(chan string)
	go func() { followed <- p.logs("main", "follow=true", "tailLines=1") }()
	must(p.exec("main", "touch", "/tmp/go"))(t)
	if text := <-followed; text != "three\nfour" {
		t.Errorf("following gave %q", text)
	}
}

// The kubelet turns a log at containerLogMaxSize, crisp goes on in a new file, and nothing of it is lost.
func TestLogRotation(t *testing.T) {
	t.Parallel()
	p := start(t, `
containers: [{name: main, command: [sh, -c, 'i=0; while :; do i=$((i+1)); echo $i of some lines of a log that is long enough to be turned; [ $((i % 20)) != 0 ] || sleep 0.05; done']}]`)
	p.becomesReady()
	folder := filepath.Join("/var/log/pods", "default_"+p.name+"_"+string(p.find().UID), "main")
	var files []string
	eventually(t, 2*patience, "turned twice", func() bool {
		files = must(filepath.Glob(folder + "/0.log*"))(t)
		return len(files) >= 3
	})
	if len(files) > 4 {
		t.Errorf("there are %v, containerLogMaxFiles is 3", files)
	}
	eventually(t, patience, "the tail there", func() bool { return strings.Count(p.logs("main", "tailLines=2"), "\n") == 2 })
	last := 0
	eventually(t, patience, "the two newest files in sequence", func() bool {
		files = must(filepath.Glob(folder + "/0.log.*"))(t)
		for _, file := range files {
			if !strings.HasSuffix(file, ".gz") && !strings.HasSuffix(file, ".tmp") {
				return continues(t, file, filepath.Join(folder, "0.log"), &last)
			}
		}
		return false
	})
}

// continues says whether the second file's first number is the one after the first's last.
func continues(t *testing.T, before, after string, last *int) bool {
	old, err := os.ReadFile(before)
	if err != nil {
		return false
	}
	young, err := os.ReadFile(after)
	if err != nil || len(young) == 0 {
		return false
	}
	number := func(line string) int {
		n := 0
		if words := strings.Fields(line); len(words) > 3 {
			_, _ = fmt.Sscan(words[3], &n)
		}
		return n
	}
	lines := strings.Split(strings.TrimSuffix(string(old), "\n"), "\n")
	*last = number(lines[len(lines)-1])
	return *last > 0 && number(strings.SplitN(string(young), "\n", 2)[0]) == *last+1
}
