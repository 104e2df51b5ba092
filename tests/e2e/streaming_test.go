package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	golang "runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/client-go/util/exec"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var transports = []string{"spdy", "websocket"}

// How clients of streams connect; a test of TLS has them trust its certificate.
var streamClient rest.Config

func parse(t *testing.T, text string) *url.URL {
	t.Helper()
	return must(url.Parse(text))(t)
}

func executor(t *testing.T, transport, address string) remotecommand.Executor {
	t.Helper()
	if transport == "spdy" {
		return must(remotecommand.NewSPDYExecutor(&streamClient, "POST", parse(t, address)))(t)
	}
	return must(remotecommand.NewWebSocketExecutor(&streamClient, "GET", address))(t)
}

func wanted(o remotecommand.StreamOptions) (in, out, err bool) {
	return o.Stdin != nil, o.Stdout != nil, o.Stderr != nil
}

// stream runs a command as kubectl exec does.
func (c *container) stream(t *testing.T, ctx context.Context, transport string, o remotecommand.StreamOptions, command ...string) error {
	t.Helper()
	in, out, stderr := wanted(o)
	answer := must(runtime.Exec(soon(t), &cri.ExecRequest{ContainerId: c.id, Cmd: command, Tty: o.Tty, Stdin: in, Stdout: out, Stderr: stderr}))(t)
	return executor(t, transport, answer.Url).StreamWithContext(ctx, o)
}

func (c *container) attach(t *testing.T, ctx context.Context, transport string, o remotecommand.StreamOptions) error {
	t.Helper()
	in, out, stderr := wanted(o)
	answer := must(runtime.Attach(soon(t), &cri.AttachRequest{ContainerId: c.id, Tty: o.Tty, Stdin: in, Stdout: out, Stderr: stderr}))(t)
	return executor(t, transport, answer.Url).StreamWithContext(ctx, o)
}

func exitCode(err error) int {
	var code utilexec.CodeExitError
	if errors.As(err, &code) {
		return code.Code
	}
	if err != nil {
		return -1
	}
	return 0
}

func each(t *testing.T, test func(t *testing.T, transport string)) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) { test(t, transport) })
	}
}

// safeBuffer is what another goroutine writes to while a test looks at it.
type safeBuffer struct {
	lock   sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.buffer.String()
}

func TestStreamingExec(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	each(t, func(t *testing.T, transport string) {
		var out, stderr bytes.Buffer
		err := c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdout: &out, Stderr: &stderr}, shell(`echo out; echo err >&2; exit 7`)...)
		if exitCode(err) != 7 || out.String() != "out\n" || stderr.String() != "err\n" {
			t.Errorf("%v %q %q", err, out.String(), stderr.String())
		}
		out.Reset()
		// Its end of input reaches the command, which goes on to write.
		err = c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdin: strings.NewReader("one\ntwo\n"), Stdout: &out}, shell(`cat; sleep 0.3; echo three`)...)
		if err != nil || out.String() != "one\ntwo\nthree\n" {
			t.Errorf("%v %q", err, out.String())
		}
		out.Reset()
		// It closes stdout, and reads and complains on.
		stderr.Reset()
		err = c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdin: strings.NewReader("word\n"), Stdout: &out, Stderr: &stderr},
			shell(`echo out; exec 1>&-; sleep 0.3; cat >&2`)...)
		if err != nil || out.String() != "out\n" || stderr.String() != "word\n" {
			t.Errorf("%v %q %q", err, out.String(), stderr.String())
		}
		err = c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdout: &out}, "no-such-command")
		if err == nil || !strings.Contains(err.Error(), "no-such-command") {
			t.Errorf("a command that is not there: %v", err)
		}
		// A child that holds the pipe does not hold up the end.
		out.Reset()
		begin := time.Now()
		err = c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdout: &out}, shell(`sleep 300 & echo done`)...)
		if took := time.Since(begin); err != nil || out.String() != "done\n" || took > 5*time.Second {
			t.Errorf("%v %q after %v", err, out.String(), took)
		}
	})
}

func TestStreamingTerminal(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	each(t, func(t *testing.T, transport string) {
		var out safeBuffer
		sizes := &sizeQueue{sizes: []remotecommand.TerminalSize{{Width: 132, Height: 40}}}
		err := c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdin: strings.NewReader("exit 3\n"), Stdout: &out, Tty: true, TerminalSizeQueue: sizes},
			shell(`sleep 0.3; stty size; tty; echo $TERM; read line; $line`)...)
		if exitCode(err) != 3 || !strings.Contains(out.String(), "40 132\r\n/dev/pts/") || !strings.Contains(out.String(), "xterm\r\n") {
			t.Errorf("%v %q", err, out.String())
		}
		for range 100 {
			var out bytes.Buffer
			if err := c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdout: &out, Tty: true}, "echo", "x"); err != nil || out.String() != "x\r\n" {
				t.Fatalf("%v %q", err, out.String())
			}
		}
		// Its end of input is the terminal's.
		if err := c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdin: strings.NewReader("a\n"), Stdout: &out, Tty: true}, "cat"); err != nil {
			t.Errorf("cat at a terminal: %v", err)
		}
	})
}

type sizeQueue struct{ sizes []remotecommand.TerminalSize }

func (q *sizeQueue) Next() *remotecommand.TerminalSize {
	if len(q.sizes) == 0 {
		return nil
	}
	size := q.sizes[0]
	q.sizes = q.sizes[1:]
	return &size
}

// counted is `left` bytes nobody could guess, with their sum.
type counted struct {
	source io.Reader
	left   int64
	sum    hash.Hash
}

func newCounted(bytes int64) *counted {
	return &counted{rand.New(rand.NewSource(bytes)), bytes, sha256.New()}
}

func (c *counted) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.source.Read(p)
	c.left -= int64(n)
	c.sum.Write(p[:n])
	return n, err
}

func TestStreamingManyBytes(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	const size = 1 << 30
	each(t, func(t *testing.T, transport string) {
		in, out := newCounted(size), sha256.New()
		begin := time.Now()
		if err := c.stream(t, within(t, 5*time.Minute), transport, remotecommand.StreamOptions{Stdin: in, Stdout: out}, "cat"); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(in.sum.Sum(nil), out.Sum(nil)) {
			t.Error("what came back is not what was sent")
		}
		t.Logf("%.0f MB/s there and back", float64(size)/1e6/time.Since(begin).Seconds())
	})
}

// slow takes a pause after each 256 KiB.
type slow struct {
	sum   hash.Hash
	bytes int
}

func (s *slow) Write(p []byte) (int, error) {
	if s.bytes/(256<<10) != (s.bytes+len(p))/(256<<10) {
		time.Sleep(5 * time.Millisecond)
	}
	s.bytes += len(p)
	return s.sum.Write(p)
}

func TestStreamingSlowClient(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	want := sha256.New()
	for i := range 2000000 {
		fmt.Fprintln(want, i+1)
	}
	each(t, func(t *testing.T, transport string) {
		var wait sync.WaitGroup
		for range 10 { // at once
			wait.Go(func() {
				for range 5 { // a hundred with both transports
					out := &slow{sum: sha256.New()}
					if err := c.stream(t, within(t, 5*time.Minute), transport, remotecommand.StreamOptions{Stdout: out}, "seq", "1", "2000000"); err != nil {
						t.Error(err)
					}
					if !bytes.Equal(out.sum.Sum(nil), want.Sum(nil)) {
						t.Errorf("%d bytes, which are not those that were written", out.bytes)
					}
				}
			})
		}
		wait.Wait()
	})
}

func crispdFiles(t *testing.T) int {
	t.Helper()
	return len(must(os.ReadDir(fmt.Sprintf("/proc/%d/fd", crispdPid(t))))(t))
}

func crispdKilobytes(t *testing.T) (kilobytes int) {
	t.Helper()
	for _, line := range strings.Split(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", crispdPid(t))))(t)), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "RssAnon:" {
			kilobytes = must(strconv.Atoi(fields[1]))(t)
		}
	}
	return kilobytes
}

// A crispd that dies is no command that succeeded.
func TestStreamingCrispdKilled(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	each(t, func(t *testing.T, transport string) {
		var out safeBuffer
		result := make(chan error, 1)
		go func() {
			result <- c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdout: &out}, shell(`echo here; sleep 1000`)...)
		}()
		eventually(t, 5*time.Second, "running", func() bool { return out.String() == "here\n" })
		killCrispd(t)
		if err := <-result; err == nil {
			t.Error("a command whose crispd was killed succeeded")
		}
		startCrispd(t)
		eventually(t, 10*time.Second, "the command dead", func() bool {
			answer, err := c.exec(t, 10, shell(`ps | grep "sleep 1000$" | grep -vc "sleep 1000 *[0-9]" || true`)...)
			return err == nil && answer.ExitCode == 0
		})
	})
}

// At crispd's own end sessions end with an error, and promptly.
func TestStreamingCrispdStopped(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	result := make(chan error, 1)
	var out safeBuffer
	go func() {
		result <- c.stream(t, soon(t), "spdy", remotecommand.StreamOptions{Stdout: &out}, shell(`echo here; sleep 1001`)...)
	}()
	eventually(t, 5*time.Second, "running", func() bool { return out.String() == "here\n" })
	command(t, os.Getenv("CRISP_TEST_CRISPD"), "stop")
	if err := <-result; err == nil || !strings.Contains(err.Error(), "stops") {
		t.Errorf("%v", err)
	}
	startCrispd(t)
}

func interactive(name string, once bool, command ...string) *cri.ContainerConfig {
	config := containerConfig(name, command...)
	config.Stdin, config.StdinOnce = true, once
	return config
}

func TestStreamingAttach(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	each(t, func(t *testing.T, transport string) {
		c := p.run(t, interactive("many-"+transport, false, shell(`while read line; do echo "<$line>"; echo "e $line" >&2; done; echo never`)...))
		var outputs, errs [3]safeBuffer
		var wait sync.WaitGroup
		reader, writer := io.Pipe()
		ctx, cancel := context.WithCancel(soon(t))
		for i := range outputs {
			o := remotecommand.StreamOptions{Stdout: &outputs[i], Stderr: &errs[i]}
			if i == 0 {
				o.Stdin = reader
			}
			wait.Go(func() { c.attach(t, ctx, transport, o) })
		}
		// Each of them has come when it hears.
		eventually(t, 10*time.Second, "all three attached", func() bool {
			fmt.Fprintln(writer, "anybody")
			time.Sleep(20 * time.Millisecond)
			return outputs[0].String() != "" && outputs[1].String() != "" && outputs[2].String() != ""
		})
		fmt.Fprintln(writer, "last")
		for i := range outputs {
			eventually(t, 5*time.Second, "heard by all", func() bool {
				return strings.HasSuffix(outputs[i].String(), "<last>\n") && strings.HasSuffix(errs[i].String(), "e last\n")
			})
		}
		cancel()
		writer.Close()
		wait.Wait()
		// stdin is not stdin_once: it stays open, and another may go on.
		var out safeBuffer
		if err := c.attach(t, within(t, time.Second), transport, remotecommand.StreamOptions{Stdin: strings.NewReader("again\n"), Stdout: &out}); out.String() != "<again>\n" {
			t.Errorf("%v %q", err, out.String())
		}
		c.stop(t, 0)
	})
}

func TestStreamingStdinOnce(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	each(t, func(t *testing.T, transport string) {
		c := p.run(t, interactive("once-"+transport, true, shell(`cat; echo end; sleep 0.3; seq 1 10000`)...))
		var out bytes.Buffer
		err := c.attach(t, soon(t), transport, remotecommand.StreamOptions{Stdin: strings.NewReader("hello\n"), Stdout: &out})
		if err != nil || !strings.HasPrefix(out.String(), "hello\nend\n1\n") || !strings.HasSuffix(out.String(), "\n10000\n") {
			t.Errorf("%v %.100q", err, out.String())
		}
		if status := c.ended(t); status.ExitCode != 0 {
			t.Errorf("%v", status)
		}
		if log := string(must(os.ReadFile(c.logPath()))(t)); strings.Count(log, "\n") != 10002 {
			t.Errorf("the log has %d lines", strings.Count(log, "\n"))
		}
	})
}

func TestStreamingAttachTerminal(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	config := interactive("main", false, "sh")
	config.Tty = true
	c := p.run(t, config)
	var out safeBuffer
	reader, writer := io.Pipe()
	result := make(chan error, 1)
	go func() {
		sizes := &sizeQueue{sizes: []remotecommand.TerminalSize{{Width: 97, Height: 31}}}
		result <- c.attach(t, soon(t), "spdy", remotecommand.StreamOptions{Stdin: reader, Stdout: &out, Tty: true, TerminalSizeQueue: sizes})
	}()
	eventually(t, 10*time.Second, "resized", func() bool {
		fmt.Fprintln(writer, "stty size")
		time.Sleep(50 * time.Millisecond)
		return strings.Contains(out.String(), "31 97\r\n")
	})
	fmt.Fprintln(writer, "exit 0")
	if err := <-result; err != nil {
		t.Errorf("%v", err)
	}
	writer.Close()
	c.ended(t)
}

// stuck never takes a byte.
type stuck struct{ ctx context.Context }

func (s stuck) Write([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

// A client that reads nothing stalls neither the container nor its log nor another client, and is told.
func TestStreamingStalledAttach(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	c := p.run(t, interactive("main", false, shell(`read go; seq 1 3000000; echo done >/tmp/done; sleep 1000`)...))
	ctx, cancel := context.WithCancel(soon(t))
	var wait sync.WaitGroup
	wait.Go(func() { c.attach(t, ctx, "spdy", remotecommand.StreamOptions{Stdout: stuck{ctx}}) })
	out := &slow{sum: sha256.New()}
	wait.Go(func() {
		c.attach(t, ctx, "spdy", remotecommand.StreamOptions{Stdin: strings.NewReader("go\n"), Stdout: out})
	})
	begin := time.Now()
	eventually(t, 30*time.Second, "the container done", func() bool {
		answer, err := c.exec(t, 10, "cat", "/tmp/done")
		return err == nil && answer.ExitCode == 0
	})
	t.Logf("after %v", time.Since(begin))
	cancel()
	wait.Wait()
}

func TestStreamingURLs(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	c := p.sleeper(t, "main")
	_, err := runtime.Exec(soon(t), &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"sh"}, Tty: true, Stdout: true, Stderr: true})
	fails(t, err, is(codes.InvalidArgument))
	_, err = runtime.Exec(soon(t), &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"sh"}})
	fails(t, err, is(codes.InvalidArgument))
	_, err = runtime.Attach(soon(t), &cri.AttachRequest{Stdout: true})
	fails(t, err, is(codes.InvalidArgument))
	_, err = runtime.PortForward(soon(t), &cri.PortForwardRequest{})
	fails(t, err, is(codes.InvalidArgument))
	answer := must(runtime.Exec(soon(t), &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"true"}, Stdout: true}))(t)
	if err := executor(t, "spdy", answer.Url).StreamWithContext(soon(t), remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
		t.Error(err)
	}
	status := func(method, url string) int {
		request := must(http.NewRequest(method, url, nil))(t)
		response := must(http.DefaultClient.Do(request))(t)
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		return response.StatusCode
	}
	if got := status("POST", answer.Url); got != http.StatusNotFound {
		t.Errorf("a URL was served twice: %v", got)
	}
	answer = must(runtime.Exec(soon(t), &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"true"}, Stdout: true}))(t)
	if got := status("GET", answer.Url); got != http.StatusBadRequest {
		t.Errorf("without an upgrade: %v", got)
	}
}

func (p *pod) forward(t *testing.T, transport string, ports ...string) (addresses []string) {
	t.Helper()
	answer := must(runtime.PortForward(soon(t), &cri.PortForwardRequest{PodSandboxId: p.id}))(t)
	stop, ready := make(chan struct{}), make(chan struct{})
	var forwarder *portforward.PortForwarder
	if transport == "spdy" {
		roundTripper, upgrader, err := spdy.RoundTripperFor(&streamClient)
		if err != nil {
			t.Fatal(err)
		}
		dialer := spdy.NewDialer(upgrader, &http.Client{Transport: roundTripper}, "POST", parse(t, answer.Url))
		forwarder = must(portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, stop, ready, io.Discard, io.Discard))(t)
	} else {
		dialer := must(portforward.NewSPDYOverWebsocketDialer(parse(t, answer.Url), &streamClient))(t)
		forwarder = must(portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, stop, ready, io.Discard, io.Discard))(t)
	}
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(stop)
		<-ended
	})
	for _, port := range must(forwarder.GetPorts())(t) {
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", port.Local))
	}
	return addresses
}

// echo listens in the pod's network and sends back what it gets. (busybox's nc loses connections that come at once.)
func (p *pod) echo(t *testing.T, address string) (port int) {
	t.Helper()
	return p.listen(t, address, func(connection net.Conn) { io.Copy(connection, connection) })
}

// listen has `serve` serve each connection to the address in the pod's network, which is closed when that returns.
func (p *pod) listen(t *testing.T, address string, serve func(net.Conn)) (port int) {
	t.Helper()
	listeners := make(chan net.Listener, 1)
	go func() {
		golang.LockOSThread()
		defer golang.UnlockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		defer home.Close()
		enter := func(namespace *os.File) {
			syscall.RawSyscall(308 /* setns */, namespace.Fd(), syscall.CLONE_NEWNET, 0)
		}
		if theirs, err := os.Open(filepath.Join(stateDir, "netns", p.id)); err == nil { // else the pod uses the node's
			enter(theirs)
			theirs.Close()
		}
		listener, err := net.Listen("tcp", address)
		enter(home)
		if err != nil {
			t.Error(err)
		}
		listeners <- listener
	}()
	listener := <-listeners
	if listener == nil {
		t.FailNow()
	}
	var wait sync.WaitGroup
	t.Cleanup(func() { // and the network has no socket of ours any more
		listener.Close()
		wait.Wait()
	})
	wait.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer connection.Close()
				serve(connection)
			})
		}
	})
	return listener.Addr().(*net.TCPAddr).Port
}

func exchange(t *testing.T, address string, in io.Reader, out io.Writer) error {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer connection.Close()
	go func() {
		io.Copy(connection, in)
		connection.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(out, connection)
	return err
}

func TestStreamingPortForward(t *testing.T) {
	leaveNothing(t)
	network := cri.NamespaceMode_NODE
	for name, p := range map[string]*pod{
		"pod":  newPod(t),
		"node": newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Network = network }),
	} {
		v4, v6 := p.echo(t, "127.0.0.1:0"), p.echo(t, "[::1]:0")
		each(t, func(t *testing.T, transport string) {
			addresses := p.forward(t, transport, fmt.Sprintf(":%d", v4), fmt.Sprintf(":%d", v6))
			for _, address := range addresses {
				var out bytes.Buffer
				eventually(t, 5*time.Second, "answered", func() bool {
					out.Reset()
					err := exchange(t, address, strings.NewReader("to and fro"), &out)
					return err == nil && out.String() == "to and fro"
				})
			}
			var wait sync.WaitGroup
			for i := range 30 {
				wait.Go(func() {
					in, out := newCounted(int64(i)<<16+1), sha256.New()
					if i%3 == 0 { // broken off: of no concern to the others
						connection, err := net.Dial("tcp", addresses[i%2])
						if err == nil {
							connection.Write(make([]byte, 100000))
							connection.(*net.TCPConn).SetLinger(0)
							connection.Close()
						}
						return
					}
					if err := exchange(t, addresses[i%2], in, out); err != nil || !bytes.Equal(in.sum.Sum(nil), out.Sum(nil)) {
						t.Errorf("%s: one of 30 at once: %v", name, err)
					}
				})
			}
			wait.Wait()
			size := int64(1 << 30)
			if name == "node" {
				size = 16 << 20
			}
			in, out := newCounted(size), sha256.New()
			begin := time.Now()
			if err := exchange(t, addresses[0], in, out); err != nil || !bytes.Equal(in.sum.Sum(nil), out.Sum(nil)) {
				t.Errorf("%s: %d bytes did not come back: %v", name, size, err)
			}
			t.Logf("%s: %.0f MB/s there and back", name, float64(size)/1e6/time.Since(begin).Seconds())
		})
	}
}

// A server that closes first, and one that nobody is.
func TestStreamingPortForwardEnds(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	c := p.sleeper(t, "main")
	c.sh(t, "nc -lk -p 7200 -s 127.0.0.1 -e echo hello </dev/null >/dev/null 2>&1 &")
	address := p.forward(t, "spdy", ":7200")[0]
	eventually(t, 5*time.Second, "greeted", func() bool {
		var out bytes.Buffer
		reader, writer := io.Pipe() // says nothing, and does not end
		defer writer.Close()
		return exchange(t, address, reader, &out) == nil && out.String() == "hello\n"
	})
	closed := p.forward(t, "spdy", ":7299")[0]
	connection := must(net.Dial("tcp", closed))(t)
	connection.SetDeadline(time.Now().Add(5 * time.Second))
	if n, err := connection.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a port on which nobody listens: %d %v", n, err)
	}
	connection.Close()
}

func TestStreamingByCrictl(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	c := p.run(t, interactive("main", true, "cat"))
	for _, transport := range transports {
		if got := command(t, "sh", "-c", `echo hello | crictl exec -i -r `+transport+` `+c.id+` sh -c 'cat; pwd'`); got != "hello\n/\n" {
			t.Errorf("%s: %q", transport, got)
		}
	}
	if got := command(t, "sh", "-c", `echo attached | crictl attach -i `+c.id); got != "attached\n" {
		t.Errorf("%q", got)
	}
	c.ended(t)
}
