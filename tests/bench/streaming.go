package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const forwardedPort = 7000

// executor speaks to a URL of Exec as kubectl does; by WebSocket also in the version before kubectl's, which is what containerd knows.
func executor(transport, address string) (remotecommand.Executor, error) {
	if transport == "WebSocket" {
		return remotecommand.NewWebSocketExecutorForProtocols(&rest.Config{}, "GET", address, "v5.channel.k8s.io", "v4.channel.k8s.io")
	}
	target, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewSPDYExecutor(&rest.Config{}, "POST", target)
}

// exec runs a command with the streams that are not nil.
func (b *bench) exec(container, transport string, in io.Reader, out io.Writer, command ...string) error {
	answer := call(b, "Exec", b.runtime.Exec, &cri.ExecRequest{ContainerId: container, Cmd: command, Stdin: in != nil, Stdout: true})
	e, err := executor(transport, answer.Url)
	if err != nil {
		return err
	}
	return e.StreamWithContext(context.Background(), remotecommand.StreamOptions{Stdin: in, Stdout: out})
}

// execOut has a command write so many bytes, which the client throws away.
func (b *bench) execOut(container, transport string, bytes int64) (got int64, err error) {
	var count counter
	err = b.exec(container, transport, nil, &count, "head", "-c", fmt.Sprint(bytes), "/dev/zero")
	return int64(count), err
}

// execIn has a command count what the client writes.
func (b *bench) execIn(container, transport string, bytes int64) (got int64, err error) {
	var said strings.Builder
	if err = b.exec(container, transport, io.LimitReader(zeros{}, bytes), &said, "sh", "-c", fmt.Sprintf("head -c %d | wc -c", bytes)); err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(said.String()), 10, 64)
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func dialer(transport, address string) (httpstream.Dialer, error) {
	target, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if transport == "WebSocket" {
		return portforward.NewSPDYOverWebsocketDialer(target, &rest.Config{})
	}
	roundTripper, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
	return spdy.NewDialer(upgrader, &http.Client{Transport: roundTripper}, "POST", target), err
}

// forwardOut has a server in the pod send so many bytes to a client of kubectl's port-forward.
func (b *bench) forwardOut(pod, transport string, bytes int64) (got int64, err error) {
	answer := call(b, "PortForward", b.runtime.PortForward, &cri.PortForwardRequest{PodSandboxId: pod, Port: []int32{forwardedPort}})
	d, err := dialer(transport, answer.Url)
	if err != nil {
		return 0, err
	}
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	forwarder, err := portforward.NewOnAddresses(d, []string{"127.0.0.1"}, []string{fmt.Sprintf(":%d", forwardedPort)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		return 0, err
	}
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case err = <-ended:
		return 0, err
	case <-ready:
	}
	defer func() { close(stop); <-ended }()
	ports, err := forwarder.GetPorts()
	fatal(err)
	connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
	fatal(err)
	defer connection.Close()
	return io.Copy(io.Discard, connection)
}

// watched runs f and gives its duration and the most memory that the programs' processes had together meanwhile, in MB.
func watched(programs []string, f func()) (took time.Duration, peak float64) {
	var over atomic.Bool
	done := make(chan float64)
	go func() {
		most := 0.0
		for !over.Load() {
			sum := 0.0
			for _, pid := range processes(programs...) {
				sum += kilobytes(pid, "status", "VmRSS") / 1024
			}
			most = max(most, sum)
			time.Sleep(20 * time.Millisecond)
		}
		done <- most
	}()
	begin := time.Now()
	f()
	took = time.Since(begin)
	over.Store(true)
	return took, <-done
}

var transports = []string{"SPDY", "WebSocket"}

var streamKinds = []struct {
	title string
	move  func(b *bench, of, transport string, bytes int64) (int64, error)
	ofPod bool
}{{"exec's output", (*bench).execOut, false}, {"exec's input", (*bench).execIn, false}, {"port-forward", (*bench).forwardOut, true}}

func streamTitles() (titles []string) {
	for _, kind := range streamKinds {
		for _, transport := range transports {
			titles = append(titles, kind.title+", "+transport)
		}
	}
	return titles
}

// measureStreams moves so many bytes in each way. What a peer doesn't serve has no figure.
func (s *standing) measureStreams(b *bench, bytes int64) {
	pod, config := b.runPod()
	container := b.startContainer(pod, config)
	serve := fmt.Sprintf("nc -ll -p %d -e head -c %d /dev/zero >/dev/null 2>&1 &", forwardedPort, bytes)
	call(b, "ExecSync", b.runtime.ExecSync, &cri.ExecSyncRequest{ContainerId: container, Cmd: []string{"sh", "-c", serve}, Timeout: 10})
	for _, kind := range streamKinds {
		for _, transport := range transports {
			title, of, got, err := kind.title+", "+transport, container, int64(0), error(nil)
			if kind.ofPod {
				of = pod
			}
			took, peak := watched(s.peer.programs, func() { got, err = kind.move(b, of, transport, bytes) })
			f := s.streams[title]
			if f == nil {
				f = &figure{}
				s.streams[title] = f
			}
			if err != nil || got != bytes {
				fmt.Fprintf(os.Stderr, "%s: %s: %d bytes of %d, %v\n", s.peer.name, title, got, bytes, err)
				continue
			}
			f.seconds, f.megabytes = append(f.seconds, took.Seconds()), append(f.megabytes, peak)
		}
	}
	b.removePod(pod, config)
}
