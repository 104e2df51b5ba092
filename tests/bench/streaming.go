package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const forwardedPort = 7000

// execOut has a command write so many bytes, which the client throws away.
func (b *bench) execOut(container, transport string, bytes int64) int64 {
	answer := call(b, "Exec", b.runtime.Exec, &cri.ExecRequest{ContainerId: container, Cmd: []string{"head", "-c", fmt.Sprint(bytes), "/dev/zero"}, Stdout: true})
	var executor remotecommand.Executor
	var err error
	if transport == "SPDY" {
		target, _ := url.Parse(answer.Url)
		executor, err = remotecommand.NewSPDYExecutor(&rest.Config{}, "POST", target)
	} else {
		executor, err = remotecommand.NewWebSocketExecutor(&rest.Config{}, "GET", answer.Url)
	}
	fatal(err)
	var got counter
	fatal(executor.StreamWithContext(context.Background(), remotecommand.StreamOptions{Stdout: &got}))
	return int64(got)
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// forwardOut has a server in the pod send so many bytes to a client of kubectl's port-forward.
func (b *bench) forwardOut(pod, transport string, bytes int64) int64 {
	answer := call(b, "PortForward", b.runtime.PortForward, &cri.PortForwardRequest{PodSandboxId: pod, Port: []int32{forwardedPort}})
	target, err := url.Parse(answer.Url)
	fatal(err)
	roundTripper, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
	fatal(err)
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: roundTripper}, "POST", target)
	if transport != "SPDY" {
		dialer, err = portforward.NewSPDYOverWebsocketDialer(target, &rest.Config{})
		fatal(err)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf(":%d", forwardedPort)}, stop, ready, io.Discard, io.Discard)
	fatal(err)
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	<-ready
	ports, err := forwarder.GetPorts()
	fatal(err)
	connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
	fatal(err)
	n, err := io.Copy(io.Discard, connection)
	fatal(err)
	connection.Close()
	close(stop)
	<-ended
	return n
}

// watched runs f and gives its duration and the most memory that the programs' processes had together meanwhile, in MB.
func watched(programs []string, f func()) (took time.Duration, peak float64) {
	var over atomic.Bool
	done := make(chan float64)
	go func() {
		most := 0.0
		for !over.Load() {
			sum := 0.0
			for _, program := range programs {
				for _, pid := range processes(program) {
					sum += kilobytes(pid, "status", "VmRSS") / 1024
				}
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

func (b *bench) streaming(bytes int64) {
	pod, config := b.runPod()
	container := b.startContainer(pod, config)
	serve := fmt.Sprintf("for i in 1 2 3 4; do head -c %d /dev/zero | nc -l -p %d; done >/dev/null 2>&1 &", bytes, forwardedPort)
	call(b, "ExecSync", b.runtime.ExecSync, &cri.ExecSyncRequest{ContainerId: container, Cmd: []string{"sh", "-c", serve}, Timeout: 10})
	for _, transport := range []string{"SPDY", "WebSocket"} {
		for _, stream := range []struct {
			title string
			run   func(string, string, int64) int64
			of    string
		}{{"exec's output", b.execOut, container}, {"port-forward", b.forwardOut, pod}} {
			var got int64
			took, peak := watched([]string{*daemon}, func() { got = stream.run(stream.of, transport, bytes) })
			if got != bytes {
				fatal(fmt.Errorf("%s over %s: %d bytes of %d", stream.title, transport, got, bytes))
			}
			fmt.Printf("%-26s %6.0f MB/s, %s RSS at most %.1f MB\n", stream.title+", "+transport, float64(bytes)/1e6/took.Seconds(), *daemon, peak)
		}
	}
	b.removePod(pod, config)
}
