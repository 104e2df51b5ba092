package kubelet

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
)

// A pod is Ready, as the kubelet and crisp both say.
func TestAPlainPod(t *testing.T) {
	t.Parallel()
	p := start(t, `containers: [{name: main, command: [sleep, "1000"]}]`)
	status := p.becomesReady()
	if status.Phase != v1.PodRunning || status.PodIP == "" || len(status.PodIPs) != 2 {
		t.Errorf("its status is %+v", status)
	}
	main := container(status, "main")
	if !strings.HasPrefix(main.ContainerID, "crisp://") || main.ImageID == "" || main.RestartCount != 0 {
		t.Errorf("its container is %+v", main)
	}
	eventually(t, patience, "in /runningpods/", func() bool { return strings.Contains(get(t, "/runningpods/"), p.name) })
}

func TestAnInitContainerThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	p := start(t, `
volumes: [{name: v, emptyDir: {}}]
initContainers:
- {name: init, command: [sh, -c, 'test -e /v/second || { touch /v/second; exit 3; }'], volumeMounts: [{name: v, mountPath: /v}]}
containers: [{name: main, command: [sleep, "1000"]}]`)
	status := p.becomesReady()
	if init := container(status, "init"); init.RestartCount != 1 || init.State.Terminated == nil || init.State.Terminated.ExitCode != 0 {
		t.Errorf("the init container is %+v", init)
	}
}

func TestASidecarStartsFirstEndsLast(t *testing.T) {
	t.Parallel()
	p := start(t, `
terminationGracePeriodSeconds: 20
volumes: [{name: v, hostPath: {path: /run/kubelet-test/sidecar, type: DirectoryOrCreate}}]
initContainers:
- name: sidecar
  restartPolicy: Always
  command: [sh, -c, 'trap "echo sidecar >>/v/ends; exit" TERM; touch /v/up; while :; do sleep 0.1; done']
  startupProbe: {exec: {command: [test, -e, /v/up]}, periodSeconds: 1}
  volumeMounts: [{name: v, mountPath: /v}]
containers:
- name: main
  command: [sh, -c, 'test -e /v/up || exit 1; trap "sleep 1; echo main >>/v/ends; exit" TERM; while :; do sleep 0.1; done']
  volumeMounts: [{name: v, mountPath: /v}]`)
	p.becomesReady()
	p.remove()
	if ends := string(must(os.ReadFile("/run/kubelet-test/sidecar/ends"))(t)); ends != "main\nsidecar\n" {
		t.Errorf("they ended in the order %q", ends)
	}
}

func TestRestartPolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy, exit string
		phase        v1.PodPhase // "": it is started again and again
	}{
		{"Never", "0", v1.PodSucceeded}, {"Never", "3", v1.PodFailed},
		{"OnFailure", "0", v1.PodSucceeded}, {"OnFailure", "3", ""},
		{"Always", "0", ""}, {"Always", "3", ""},
	} {
		t.Run(c.policy+"-"+c.exit, func(t *testing.T) {
			t.Parallel()
			p := start(t, "restartPolicy: "+c.policy+"\ncontainers: [{name: main, command: [sh, -c, exit "+c.exit+"]}]")
			if c.phase != "" {
				status := p.ends()
				if main := container(status, "main"); status.Phase != c.phase || main.RestartCount != 0 {
					t.Errorf("it is %s, its container %+v", status.Phase, main)
				}
				return
			}
			status := p.becomes("in CrashLoopBackOff after 2 restarts", func(s v1.PodStatus) bool {
				main := container(s, "main")
				return main.RestartCount >= 2 && main.State.Waiting != nil && main.State.Waiting.Reason == "CrashLoopBackOff"
			})
			if last := container(status, "main").LastTerminationState.Terminated; last == nil || int32(c.exit[0]-'0') != last.ExitCode {
				t.Errorf("it last ended as %+v", last)
			}
			if previous := p.logs("main", "previous=true"); previous != "" {
				t.Errorf("its previous log is %q", previous)
			}
			if count := len(p.containers()); count > 2 {
				t.Errorf("crisp has %d containers of it, the kubelet keeps one that ended", count)
			}
		})
	}
}

// serveHealth serves gRPC's health service as a container: unhealthy once /tmp/ill is there.
func serveHealth(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	server, state := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, state)
	go func() {
		for ; ; time.Sleep(100 * time.Millisecond) {
			if _, err := os.Stat("/tmp/ill"); err == nil {
				state.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
			}
		}
	}()
	panic(server.Serve(listener))
}

// Each kind of probe: started and ready, unready when the readiness probe fails, started again when the liveness probe does.
func TestProbes(t *testing.T) {
	t.Parallel()
	kinds := []struct{ name, command, probe, fall string }{
		{"exec", `[sh, -c, "touch /tmp/well; exec sleep 1000"]`, `exec: {command: [cat, /tmp/well]}`, "rm /tmp/well"},
		{"http", `[sh, -c, "mkdir /www; echo ok >/www/health; exec httpd -f -p 80 -h /www"]`, `httpGet: {path: /health, port: 80}`, "rm /www/health"},
		{"tcp", `[sh, -c, "httpd -p 80; exec sleep 1000"]`, `tcpSocket: {port: 80}`, "pkill httpd"},
		{"grpc", `[/health, serve-grpc, ":80"]`, `grpc: {port: 80}`, "touch /tmp/ill"},
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			for _, use := range []string{"readiness", "liveness"} {
				t.Run(use, func(t *testing.T) {
					t.Parallel()
					p := start(t, `
volumes: [{name: health, hostPath: {path: `+must(os.Executable())(t)+`, type: File}}]
containers:
- name: main
  command: `+k.command+`
  volumeMounts: [{name: health, mountPath: /health, readOnly: true}]
  startupProbe: {`+k.probe+`, periodSeconds: 1, failureThreshold: 60}
  `+use+`Probe: {`+k.probe+`, periodSeconds: 1, failureThreshold: 2}`)
					if main := container(p.becomesReady(), "main"); main.RestartCount != 0 || main.Started == nil || !*main.Started {
						t.Errorf("ready, its container is %+v", main)
					}
					must(p.exec("main", "sh", "-c", k.fall))(t)
					if use == "readiness" {
						status := p.becomes("unready", func(s v1.PodStatus) bool { return !ready(s) })
						if main := container(status, "main"); main.RestartCount != 0 || main.State.Running == nil {
							t.Errorf("unready, its container is %+v", main)
						}
						return
					}
					p.becomes("started again", func(s v1.PodStatus) bool { return container(s, "main").RestartCount >= 1 && ready(s) })
				})
			}
		})
	}
}

// postStart comes before Ready, preStop before SIGTERM, and neither outlasts the grace period.
func TestLifecycleHooks(t *testing.T) {
	t.Parallel()
	p := start(t, `
terminationGracePeriodSeconds: 10
volumes: [{name: v, hostPath: {path: /run/kubelet-test/hooks, type: DirectoryOrCreate}}]
containers:
- name: main
  command: [sh, -c, 'trap "echo term >>/v/story; exit" TERM; while :; do sleep 0.1; done']
  lifecycle:
    postStart: {exec: {command: [sh, -c, sleep 1; echo postStart >>/v/story]}}
    preStop: {exec: {command: [sh, -c, sleep 1; echo preStop >>/v/story]}}
  volumeMounts: [{name: v, mountPath: /v}]`)
	p.becomesReady()
	if story := string(must(os.ReadFile("/run/kubelet-test/hooks/story"))(t)); story != "postStart\n" {
		t.Errorf("when Ready, what has happened is %q", story)
	}
	p.remove()
	if story := string(must(os.ReadFile("/run/kubelet-test/hooks/story"))(t)); story != "postStart\npreStop\nterm\n" {
		t.Errorf("what has happened is %q", story)
	}
}

func TestAPostStartThatFailsEndsTheContainer(t *testing.T) {
	t.Parallel()
	p := start(t, `
restartPolicy: Never
containers: [{name: main, command: [sleep, "1000"], lifecycle: {postStart: {exec: {command: [sh, -c, exit 9]}}}}]`)
	if main := container(p.ends(), "main"); main.State.Terminated == nil || main.State.Terminated.ExitCode == 0 {
		t.Errorf("its container is %+v", main)
	}
}

// Who does not listen to SIGTERM is killed after the grace period, not before and not much later.
func TestTheGracePeriod(t *testing.T) {
	t.Parallel()
	p := start(t, `
terminationGracePeriodSeconds: 4
containers: [{name: main, command: [sh, -c, 'trap "" TERM; while :; do sleep 1; done']}]`)
	p.becomesReady()
	began := time.Now()
	p.remove()
	if took := time.Since(began); took < 4*time.Second || took > 15*time.Second {
		t.Errorf("it was gone after %v", took)
	}
}

func TestTheTerminationMessage(t *testing.T) {
	t.Parallel()
	p := start(t, `
restartPolicy: Never
containers:
- {name: file, command: [sh, -c, 'printf said >/dev/termination-log; exit 3']}
- {name: elsewhere, terminationMessagePath: /tmp/last, command: [sh, -c, 'printf there >/tmp/last; exit 3']}
- {name: log, terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, 'echo logged; exit 3']}
- {name: unheard, terminationMessagePolicy: FallbackToLogsOnError, command: [sh, -c, 'echo logged; exit 0']}
- {name: user, securityContext: {runAsUser: 1000}, command: [sh, -c, 'printf user >/dev/termination-log']}`)
	status := p.ends()
	for name, want := range map[string]string{"file": "said", "elsewhere": "there", "log": "logged\n", "unheard": "", "user": "user"} {
		if terminated := container(status, name).State.Terminated; terminated == nil || terminated.Message != want {
			t.Errorf("%s ended as %+v, want message %q", name, terminated, want)
		}
	}
}

func TestOOMKilled(t *testing.T) {
	t.Parallel()
	p := start(t, `
restartPolicy: Never
containers: [{name: main, resources: {limits: {memory: 32Mi}}, command: [dd, if=/dev/zero, of=/dev/null, bs=200M, count=1]}]`)
	if terminated := container(p.ends(), "main").State.Terminated; terminated == nil || terminated.Reason != "OOMKilled" || terminated.ExitCode != 137 {
		t.Errorf("it ended as %+v", terminated)
	}
}

// The cgroups are where the kubelet's QoS classes want them, with what the manifest asks.
func TestResources(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		t.Skip("written for cgroup v1's files")
	}
	p := start(t, `
containers:
- {name: main, command: [sleep, "1000"], resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}}`)
	p.becomesReady()
	show := must(p.exec("main", "sh", "-c", `cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_quota_us; cat /proc/1/oom_score_adj`))(t)
	if words := strings.Fields(show); len(words) != 4 || words[0] != "67108864" || words[1] != "102" || words[2] != "50000" {
		t.Errorf("its cgroup has %q", words)
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory/kubepods/burstable/pod" + string(p.find().UID)); err != nil {
		t.Error(err)
	}
}

// A port of the host leads to the container, from the node itself and from outside.
func TestAHostPort(t *testing.T) {
	t.Parallel()
	p := start(t, `
containers:
- name: main
  command: [sh, -c, "mkdir /www; echo served >/www/x; exec httpd -f -p 80 -h /www"]
  ports: [{containerPort: 80, hostPort: 8123}]
  readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}`)
	p.becomesReady()
	answer := must(http.Get("http://203.0.113.2:8123/x"))(t)
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("GET on the host's port: %s", answer.Status)
	}
}

// With ContainerStopSignals the manifest chooses the signal; the kubelet's API only takes it with the gate.
func TestTheStopSignal(t *testing.T) {
	t.Parallel()
	if !strings.Contains(gates, "ContainerStopSignals=true") {
		t.Skip("the gate ContainerStopSignals is off")
	}
	p := start(t, `
terminationGracePeriodSeconds: 20
os: {name: linux}
volumes: [{name: v, hostPath: {path: /run/kubelet-test/signal, type: DirectoryOrCreate}}]
containers:
- name: main
  lifecycle: {stopSignal: SIGUSR1}
  command: [sh, -c, 'trap "echo USR1 >/v/got; exit" USR1; trap "echo TERM >/v/got; exit" TERM; while :; do sleep 0.1; done']
  volumeMounts: [{name: v, mountPath: /v}]`)
	p.becomesReady()
	p.remove()
	if got := string(must(os.ReadFile("/run/kubelet-test/signal/got"))(t)); got != "USR1\n" {
		t.Errorf("it got %q", got)
	}
}
