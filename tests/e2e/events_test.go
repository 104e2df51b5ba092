package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// listener collects what one stream of events brings.
type listener struct {
	sync.Mutex
	events []*cri.ContainerEventResponse
	end    error
	leave  context.CancelFunc
}

// listen opens a stream; when it returns crispd knows of it.
func listen(t *testing.T) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream := must(runtime.GetContainerEvents(ctx, &cri.GetEventsRequest{}))(t)
	must(stream.Header())(t)
	l := &listener{leave: cancel}
	go func() {
		for {
			event, err := stream.Recv()
			l.Lock()
			if l.end = err; err == nil {
				l.events = append(l.events, event)
			}
			l.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return l
}

// of gives the kinds of events that came for an id: "created started".
func (l *listener) of(id string) string {
	l.Lock()
	defer l.Unlock()
	var kinds []string
	for _, event := range l.events {
		if event.ContainerId == id {
			kinds = append(kinds, strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(event.ContainerEventType.String(), "CONTAINER_"), "_EVENT")))
		}
	}
	return strings.Join(kinds, " ")
}

func (l *listener) hears(t *testing.T, id, kinds string) {
	t.Helper()
	eventually(t, 10*time.Second, fmt.Sprintf("%s told %q", id, kinds), func() bool { return l.of(id) == kinds })
}

func (l *listener) last(id string) (found *cri.ContainerEventResponse) {
	l.Lock()
	defer l.Unlock()
	for _, event := range l.events {
		if event.ContainerId == id {
			found = event
		}
	}
	return found
}

// A kubelet that listens learns of each step of a pod's life without asking, with all statuses.
func TestEventsOfAPodsLife(t *testing.T) {
	leaveNothing(t)
	l := listen(t)
	p := newPod(t)
	c := p.create(t, containerConfig("main", shell("exit 7")...))
	l.hears(t, p.id, "created started")
	l.hears(t, c.id, "created")
	c.start(t)
	l.hears(t, c.id, "created started stopped")
	stopped := l.last(c.id)
	if stopped.PodSandboxStatus.GetId() != p.id || stopped.PodSandboxStatus.Metadata.Uid == "" || stopped.PodSandboxStatus.State != cri.PodSandboxState_SANDBOX_READY {
		t.Errorf("the pod's status in the event: %v", stopped.PodSandboxStatus)
	}
	if statuses := stopped.ContainersStatuses; len(statuses) != 1 || statuses[0].ExitCode != 7 || statuses[0].Reason != "Error" || statuses[0].FinishedAt == 0 {
		t.Errorf("the container's status in the event: %v", statuses)
	}
	c.remove(t)
	l.hears(t, c.id, "created started stopped deleted")
	if deleted := l.last(c.id); len(deleted.ContainersStatuses) != 0 || deleted.PodSandboxStatus.GetId() != p.id {
		t.Errorf("the statuses after a container went: %v", deleted)
	}
	now := must(runtime.PodSandboxStatus(soon(t), &cri.PodSandboxStatusRequest{PodSandboxId: p.id}))(t)
	if now.Timestamp <= l.last(c.id).CreatedAt {
		t.Errorf("a status asked for later has the time %d, the event before %d", now.Timestamp, l.last(c.id).CreatedAt)
	}
	p.remove(t)
	l.hears(t, p.id, "created started stopped deleted")
	if gone := l.last(p.id); gone.PodSandboxStatus.GetMetadata().GetUid() == "" {
		t.Errorf("a deleted pod without its name: %v", gone)
	}
}

// A kubelet that listens takes the first status of a name for that of the last attempt: it does not sort what PodSandboxStatus says.
func TestEventsHaveTheNewestContainerFirst(t *testing.T) {
	leaveNothing(t)
	l := listen(t)
	p := newPod(t)
	var last *container
	for attempt := range uint32(4) {
		config := containerConfig("main", shell("exit 7")...)
		config.Metadata.Attempt = attempt
		last = p.create(t, config)
		last.start(t)
		l.hears(t, last.id, "created started stopped")
	}
	now := must(runtime.PodSandboxStatus(soon(t), &cri.PodSandboxStatusRequest{PodSandboxId: p.id}))(t)
	for what, statuses := range map[string][]*cri.ContainerStatus{"event": l.last(last.id).ContainersStatuses, "status": now.ContainersStatuses} {
		for i, status := range statuses {
			if len(statuses) != 4 || status.Metadata.Attempt != uint32(3-i) {
				t.Errorf("the pod's %s has attempt %d as number %d of %d", what, status.Metadata.Attempt, i, len(statuses))
			}
		}
	}
}

// A container that somebody kills is told of as quickly as one that is stopped; so is a pod whose monitor dies.
func TestEventsOfDeaths(t *testing.T) {
	leaveNothing(t)
	l := listen(t)
	p := newPod(t)
	c := p.sleeper(t, "main")
	command(t, "kill", "-9", fmt.Sprint(c.hostPid(t)))
	l.hears(t, c.id, "created started stopped")
	if killed := l.last(c.id).ContainersStatuses[0]; killed.ExitCode != 137 {
		t.Errorf("killed: %v", killed)
	}
	second := p.sleeper(t, "second")
	monitors := processesOf("crisp-monitor")
	if len(monitors) != 1 {
		t.Fatalf("monitors of one pod: %v", monitors)
	}
	command(t, "kill", "-9", fmt.Sprint(monitors[0]))
	l.hears(t, second.id, "created started stopped")
	l.hears(t, p.id, "created started stopped")
}

// Many listen, some leave, one never reads: the others hear everything, and crispd is as quick as ever.
func TestEventsForMany(t *testing.T) {
	var listeners []*listener
	for range 20 {
		listeners = append(listeners, listen(t))
	}
	stalled := must(runtime.GetContainerEvents(soon(t), &cri.GetEventsRequest{}))(t)
	must(stalled.Header())(t)
	for _, l := range listeners[:10] {
		l.leave()
	}
	p := newPod(t)
	for i := range 10 {
		c := p.run(t, containerConfig(fmt.Sprintf("c%d", i), "true"))
		c.ended(t)
		for _, l := range listeners[10:] {
			l.hears(t, c.id, "created started stopped")
		}
	}
	for _, l := range listeners[:10] {
		if l.Lock(); status.Code(l.end) != codes.Canceled {
			t.Errorf("who left got %v", l.end)
		}
		l.Unlock()
	}
}

// When crispd ends its listeners are told so at once, and the next crispd tells those that come again.
func TestEventsAcrossARestart(t *testing.T) {
	p := newPod(t)
	c := p.sleeper(t, "main")
	l := listen(t)
	restartCrispd(t)
	eventually(t, 5*time.Second, "the stream ended", func() bool { l.Lock(); defer l.Unlock(); return l.end != nil })
	if status.Code(l.end) != codes.Unavailable {
		t.Errorf("ended with %v", l.end)
	}
	l = listen(t)
	c.stop(t, 0)
	l.hears(t, c.id, "stopped")
}

// Lists come in pieces as well, with the same filters.
func TestStreamedLists(t *testing.T) {
	p := newPod(t)
	busy := p.sleeper(t, "busy")
	p.sleeper(t, "other")
	pods := must(runtime.StreamPodSandboxes(soon(t), &cri.StreamPodSandboxesRequest{Filter: &cri.PodSandboxFilter{Id: p.id}}))(t)
	if got := must(pods.Recv())(t).PodSandboxes; len(got) != 1 || got[0].Id != p.id {
		t.Errorf("pods: %v", got)
	}
	containers := must(runtime.StreamContainers(soon(t), &cri.StreamContainersRequest{Filter: &cri.ContainerFilter{PodSandboxId: p.id}}))(t)
	if got := must(containers.Recv())(t).Containers; len(got) != 2 {
		t.Errorf("containers: %v", got)
	}
	stats := must(runtime.StreamContainerStats(soon(t), &cri.StreamContainerStatsRequest{Filter: &cri.ContainerStatsFilter{Id: busy.id}}))(t)
	if got := must(stats.Recv())(t).ContainerStats; len(got) != 1 || got[0].Attributes.Id != busy.id {
		t.Errorf("stats: %v", got)
	}
	images := must(image.StreamImages(soon(t), &cri.StreamImagesRequest{}))(t)
	if got := must(images.Recv())(t).Images; len(got) == 0 {
		t.Error("no images")
	}
	none := must(runtime.StreamContainers(soon(t), &cri.StreamContainersRequest{Filter: &cri.ContainerFilter{Id: "ffff"}}))(t)
	if got, err := none.Recv(); err == nil || err.Error() != "EOF" {
		t.Errorf("none: %v, %v", got, err)
	}
}
