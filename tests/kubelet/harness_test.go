// Package kubelet tests crisp under a real kubelet: pods given by a manifest in its static pod directory, their outcome as the
// kubelet's own endpoints and the CRI socket report it. Run it by `hack/test --kubelet [REGEXP]`, in a node that hack/node makes.
//
// What the environment says beyond tests/node/inside: CRISP_TEST_GATES, the kubelet's feature gates (A=true,B=true).
package kubelet

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"
)

const (
	busybox  = "docker.io/library/busybox:latest"
	hostname = "crisp-node"
	address  = "https://127.0.0.1:10250"
	patience = 60 * time.Second
)

var (
	nodeDir    = os.Getenv("CRISP_TEST_NODE")
	gates      = os.Getenv("CRISP_TEST_GATES")
	endpoint   = os.Getenv("CONTAINER_RUNTIME_ENDPOINT")
	manifests  = filepath.Join(nodeDir, "manifests")
	kubeletLog = filepath.Join(nodeDir, "log/kubelet")

	kubelet *exec.Cmd
	ended   chan struct{} // closed when that kubelet has
	runtime cri.RuntimeServiceClient
	image   cri.ImageServiceClient
	client  = http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	streams = rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "serve-grpc" {
		serveHealth(os.Args[2]) // as a container of a test
	}
	if nodeDir == "" {
		fmt.Fprintln(os.Stderr, "tests/kubelet runs in a node: hack/test --kubelet")
		os.Exit(2)
	}
	status := 1
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "kubelet:", err)
	} else {
		status = m.Run()
	}
	stopKubelet(syscall.SIGTERM)
	if status != 0 {
		keepLog()
	}
	os.Exit(status)
}

func setUp() error {
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return err
	}
	runtime, image = cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection)
	if _, err := image.PullImage(context.Background(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: busybox}}); err != nil {
		return err
	}
	if err := os.MkdirAll(manifests, 0o755); err != nil {
		return err
	}
	if err := writeConfig(); err != nil {
		return err
	}
	return startKubelet()
}

// keepLog leaves what the kubelet said where a person finds it after the node is gone.
func keepLog() {
	kept := filepath.Join(os.Getenv("CRISP_TEST_TOP"), "build/tests/log/kubelet.log")
	if text, err := os.ReadFile(kubeletLog); err == nil && os.WriteFile(kept, text, 0o644) == nil {
		fmt.Fprintln(os.Stderr, "what the kubelet said: build/tests/log/kubelet.log")
	}
}

// The thresholds are those of a machine whose disk is nobody's business here; the short times make tests short.
func writeConfig() error {
	text := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: %s
staticPodPath: %s
address: 127.0.0.1
readOnlyPort: 0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /
volumePluginDir: %s
clusterDNS: [192.0.2.53]
clusterDomain: cluster.test
registryPullQPS: 0
serializeImagePulls: false
evictionHard: {memory.available: 10Mi, nodefs.available: 1%%, nodefs.inodesFree: 1%%, imagefs.available: 1%%}
imageGCHighThresholdPercent: 100
containerLogMaxSize: 100Ki
containerLogMaxFiles: 3
containerLogMonitorInterval: 3s
crashLoopBackOff: {maxContainerRestartPeriod: 3s}
oomScoreAdj: 0
`, endpoint, manifests, filepath.Join(nodeDir, "volume-plugins"))
	if gates != "" {
		text += "featureGates: {" + strings.ReplaceAll(strings.ReplaceAll(gates, "=", ": "), ",", ", ") + "}\n"
	}
	return os.WriteFile(filepath.Join(nodeDir, "kubelet.yaml"), []byte(text), 0o644)
}

// What the kubelet would set for the whole machine is, for its eyes, set already: files of its own lie over these sysctls, in a
// mount namespace whose /proc alone is private (over the node's they would keep user namespaces from mounting theirs).
const disguise = `
mount --make-rprivate /proc
lie() { echo "$2" >"$CRISP_TEST_NODE/sysctl.$$" && mount --bind "$CRISP_TEST_NODE/sysctl.$$" "/proc/sys/$1" && rm "$CRISP_TEST_NODE/sysctl.$$"; }
lie vm/overcommit_memory 1
lie vm/panic_on_oom 0
lie kernel/panic 10
lie kernel/panic_on_oops 1
lie kernel/keys/root_maxkeys 1000000
lie kernel/keys/root_maxbytes 25000000
exec kubelet --config "$CRISP_TEST_NODE/kubelet.yaml" --hostname-override crisp-node --v 2
`

func startKubelet() error {
	log, err := os.OpenFile(kubeletLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	kubelet = exec.Command("unshare", "--mount", "--propagation", "unchanged", "sh", "-ec", disguise)
	kubelet.Stdout, kubelet.Stderr = log, log
	if err := kubelet.Start(); err != nil {
		return err
	}
	ended = make(chan struct{})
	go func(process *exec.Cmd, over chan struct{}) {
		_ = process.Wait()
		close(over)
	}(kubelet, ended)
	for end := time.Now().Add(2 * patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if answer, err := client.Get(address + "/healthz"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("it ended: %v", kubelet.ProcessState)
		default:
		}
	}
	return fmt.Errorf("it does not serve %s/healthz", address)
}

func stopKubelet(signal syscall.Signal) {
	if ended != nil {
		_ = kubelet.Process.Signal(signal)
		<-ended
	}
}

// must ends the test if a call failed, and gives the call's answer.
func must[T any](answer T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually looks several times a second until what it looks for is so.
func eventually(t *testing.T, limit time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v: not %s", limit, what)
		}
	}
}

// get gives what the kubelet answers at a path.
func get(t *testing.T, path string) string {
	t.Helper()
	answer := must(client.Get(address + path))(t)
	defer answer.Body.Close()
	body := must(io.ReadAll(answer.Body))(t)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s: %s", path, answer.Status, body)
	}
	return string(body)
}

func getJSON[T any](t *testing.T, path string) T {
	t.Helper()
	var answer T
	if err := json.Unmarshal([]byte(get(t, path)), &answer); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return answer
}

// A pod whose manifest a test has put into the static pod directory.
type pod struct {
	t    *testing.T
	name string // the kubelet's: with the node's name behind it
	file string
}

// start writes the manifest for the kubelet: what `spec` (YAML) says, and what tests need not say: names, busybox as the
// image, IfNotPresent, a second to end. The manifest goes with the test.
func start(t *testing.T, spec string) *pod {
	t.Helper()
	return startNamed(t, podName(t), spec)
}

func podName(t *testing.T) string {
	return strings.ToLower(strings.NewReplacer("/", "-", "_", "-", "#", "-").Replace(strings.TrimPrefix(t.Name(), "Test")))
}

func startNamed(t *testing.T, name, spec string) *pod {
	t.Helper()
	manifest := v1.Pod{}
	if err := yaml.UnmarshalStrict([]byte(spec), &manifest.Spec); err != nil {
		t.Fatalf("%v in\n%s", err, spec)
	}
	manifest.APIVersion, manifest.Kind, manifest.Name, manifest.Namespace = "v1", "Pod", name, "default"
	if manifest.Spec.TerminationGracePeriodSeconds == nil {
		manifest.Spec.TerminationGracePeriodSeconds = new(int64(1))
	}
	for _, containers := range [][]v1.Container{manifest.Spec.InitContainers, manifest.Spec.Containers} {
		for i := range containers {
			if containers[i].Image == "" {
				containers[i].Image = busybox
			}
			if containers[i].ImagePullPolicy == "" {
				containers[i].ImagePullPolicy = v1.PullIfNotPresent
			}
		}
	}
	p := &pod{t: t, name: name + "-" + hostname, file: filepath.Join(manifests, name+".yaml")}
	draft := filepath.Join(nodeDir, name+".yaml") // the kubelet reads what appears at once: it appears whole
	if err := os.WriteFile(draft, must(yaml.Marshal(manifest))(t), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(draft, p.file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the kubelet's view of it: %s", must(json.Marshal(p.status()))(t))
		}
		p.remove()
	})
	return p
}

// remove takes the manifest away, and returns when nothing of the pod runs. The kubelet removes what is left within a minute.
func (p *pod) remove() {
	p.t.Helper()
	if os.Remove(p.file) == nil {
		eventually(p.t, 2*patience, p.name+" stopped", func() bool { return p.find() == nil && p.stopped() })
	}
}

func (p *pod) stopped() bool {
	p.t.Helper()
	for _, sandbox := range p.sandboxes() {
		if sandbox.State == cri.PodSandboxState_SANDBOX_READY {
			return false
		}
	}
	for _, c := range p.containers() {
		if c.State != cri.ContainerState_CONTAINER_EXITED {
			return false
		}
	}
	return true
}

func (p *pod) find() *v1.Pod {
	p.t.Helper()
	for _, found := range getJSON[v1.PodList](p.t, "/pods").Items {
		if found.Name == p.name {
			return &found
		}
	}
	return nil
}

func (p *pod) status() v1.PodStatus {
	p.t.Helper()
	if found := p.find(); found != nil {
		return found.Status
	}
	return v1.PodStatus{}
}

func ready(status v1.PodStatus) bool {
	for _, condition := range status.Conditions {
		if condition.Type == v1.PodReady {
			return condition.Status == v1.ConditionTrue
		}
	}
	return false
}

// becomes waits until the pod's status is as asked for, and gives it.
func (p *pod) becomes(what string, so func(v1.PodStatus) bool) v1.PodStatus {
	p.t.Helper()
	var status v1.PodStatus
	eventually(p.t, patience, p.name+" "+what, func() bool {
		status = p.status()
		return so(status)
	})
	return status
}

func (p *pod) becomesReady() v1.PodStatus { p.t.Helper(); return p.becomes("ready", ready) }

func (p *pod) ends() v1.PodStatus {
	p.t.Helper()
	return p.becomes("ended", func(s v1.PodStatus) bool { return s.Phase == v1.PodSucceeded || s.Phase == v1.PodFailed })
}

// container gives the status of a container of any kind.
func container(status v1.PodStatus, name string) v1.ContainerStatus {
	for _, statuses := range [][]v1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
		for _, found := range statuses {
			if found.Name == name {
				return found
			}
		}
	}
	return v1.ContainerStatus{}
}

func (p *pod) logs(container string, query ...string) string {
	p.t.Helper()
	return get(p.t, "/containerLogs/default/"+p.name+"/"+container+"?"+strings.Join(query, "&"))
}

func (p *pod) streamURL(kind, container string, command ...string) *url.URL {
	query := url.Values{"command": command, "output": {"1"}, "error": {"1"}}
	return must(url.Parse(address + "/" + kind + "/default/" + p.name + "/" + container + "?" + query.Encode()))(p.t)
}

// exec runs a command through the kubelet, and gives what it printed.
func (p *pod) exec(container string, command ...string) (string, error) {
	executor, err := remotecommand.NewWebSocketExecutor(&streams, "GET", p.streamURL("exec", container, command...).String())
	if err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	err = executor.StreamWithContext(soon(p.t), remotecommand.StreamOptions{Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return stdout.String(), err
}

// sandboxes and containers of the pod, as crisp has them.
func (p *pod) sandboxes() []*cri.PodSandbox {
	answer := must(runtime.ListPodSandbox(soon(p.t), &cri.ListPodSandboxRequest{
		Filter: &cri.PodSandboxFilter{LabelSelector: map[string]string{"io.kubernetes.pod.name": p.name}}}))(p.t)
	return answer.Items
}

func (p *pod) containers() []*cri.Container {
	answer := must(runtime.ListContainers(soon(p.t), &cri.ListContainersRequest{
		Filter: &cri.ContainerFilter{LabelSelector: map[string]string{"io.kubernetes.pod.name": p.name}}}))(p.t)
	return answer.Containers
}

// pid gives the first process of a running container, as crisp says it.
func (p *pod) pid(container string) int {
	p.t.Helper()
	for _, c := range p.containers() {
		if c.Metadata.Name == container && c.State == cri.ContainerState_CONTAINER_RUNNING {
			status := must(runtime.ContainerStatus(soon(p.t), &cri.ContainerStatusRequest{ContainerId: c.Id, Verbose: true}))(p.t)
			var info struct{ Pid int }
			if err := json.Unmarshal([]byte(status.Info["info"]), &info); err != nil || info.Pid < 2 {
				p.t.Fatalf("of %s crisp says %v", container, status.Info)
			}
			return info.Pid
		}
	}
	p.t.Fatalf("%s has no running container %s", p.name, container)
	return 0
}
