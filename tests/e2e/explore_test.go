package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestExploreMany(t *testing.T) {
	leaveNothing(t)
	for _, host := range []bool{true, false} {
		const n = 200
		var wg sync.WaitGroup
		pods := make([]*pod, n)
		sem := make(chan int, 200)
		begun := time.Now()
		for i := range n {
			wg.Go(func() {
				sem <- 1
				defer func() { <-sem }()
				config := podConfig(t.Name())
				if host {
					config.Linux.SecurityContext.NamespaceOptions.Network = cri.NamespaceMode_NODE
				}
				made, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config})
				if err != nil {
					t.Errorf("run: %v", err)
					return
				}
				p := &pod{made.PodSandboxId, config}
				pods[i] = p
				c, err := p.tryCreate(t, containerConfig("main", "sleep", "1000"))
				if err == nil {
					err = c.tryStart(t)
				}
				if err != nil {
					t.Errorf("container: %v", err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		b := time.Now()
		must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t)
		t.Logf("list while starting: %v", time.Since(b))
		wg.Wait()
		t.Logf("host %v: %d pods with container in %v", host, n, time.Since(begun))
		for range 3 {
			b := time.Now()
			l := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t)
			p := time.Since(b)
			b = time.Now()
			c := must(runtime.ListContainers(soon(t), &cri.ListContainersRequest{}))(t)
			t.Logf("list %d pods %v; %d containers %v", len(l.Items), p, len(c.Containers), time.Since(b))
			b = time.Now()
			must(runtime.ListContainerStats(soon(t), &cri.ListContainerStatsRequest{}))(t)
			t.Logf("stats %v", time.Since(b))
		}
		var pss, k int
		for _, pid := range processesOf("crisp-monitor") {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
			var v int
			i := bytes.Index(text, []byte("\nPss:"))
			fmt.Sscanf(string(text[i+5:]), "%d", &v)
			pss += v
			k++
		}
		st, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", crispdPid(t)))
		for _, l := range strings.Split(string(st), "\n") {
			if strings.HasPrefix(l, "VmRSS") || strings.HasPrefix(l, "RssAnon") || strings.HasPrefix(l, "Threads") {
				t.Log(l)
			}
		}
		if k > 0 {
			t.Logf("%d monitors, pss %d kB each", k, pss/k)
		}
		killCrispd(t)
		b = time.Now()
		startCrispd(t)
		l := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{State: &cri.PodSandboxStateValue{}}}))(t)
		t.Logf("restart, list: %v, %d pods", time.Since(b), len(l.Items))
		begun = time.Now()
		for _, p := range pods {
			if p == nil {
				continue
			}
			wg.Go(func() {
				_, err := runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: p.id})
				if err == nil {
					_, err = runtime.RemovePodSandbox(soon(t), &cri.RemovePodSandboxRequest{PodSandboxId: p.id})
				}
				if err != nil {
					t.Errorf("%v", status.Convert(err).Message())
				}
				os.RemoveAll(p.config.LogDirectory)
			})
		}
		wg.Wait()
		t.Logf("stopped and removed in %v", time.Since(begun))
	}
}
