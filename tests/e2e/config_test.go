package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The kubelet tells which addresses the cluster gives the node's pods: CNI has them from its own configuration, the built-in
// network says where they are to be written.
func TestPodCIDR(t *testing.T) {
	update := func(cidr string) error {
		_, err := runtime.UpdateRuntimeConfig(soon(t), &cri.UpdateRuntimeConfigRequest{RuntimeConfig: &cri.RuntimeConfig{NetworkConfig: &cri.NetworkConfig{PodCidr: cidr}}})
		return err
	}
	if err := update(""); err != nil {
		t.Error(err)
	}
	fails(t, update("10.1.0.0/33"), is(codes.InvalidArgument), "pod_cidr")
	fails(t, update("nonsense"), is(codes.InvalidArgument), "pod_cidr")
	err := update("10.201.0.0/24,fd01::/64")
	if environmentBuiltin() {
		fails(t, err, is(codes.FailedPrecondition), "network.pools")
	} else if err != nil {
		t.Error(err)
	}
}

// What the kubelet says of a pod's resources is kept, also over a restart, and shown.
func TestUpdatePodResources(t *testing.T) {
	p := newPod(t)
	update := func(request *cri.UpdatePodSandboxResourcesRequest) error {
		_, err := runtime.UpdatePodSandboxResources(soon(t), request)
		return err
	}
	if err := update(&cri.UpdatePodSandboxResourcesRequest{PodSandboxId: p.id, Overhead: &cri.LinuxContainerResources{MemoryLimitInBytes: 1 << 20},
		Resources: &cri.LinuxContainerResources{MemoryLimitInBytes: 99 << 20, CpuShares: 512}}); err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		if again {
			restartCrispd(t)
		}
		info := must(runtime.PodSandboxStatus(soon(t), &cri.PodSandboxStatusRequest{PodSandboxId: p.id, Verbose: true}))(t).Info["info"]
		var shown struct {
			Overhead, Resources struct {
				MemoryLimitBytes int64 `json:"memory_limit_bytes"`
			}
		}
		if err := json.Unmarshal([]byte(info), &shown); err != nil || shown.Resources.MemoryLimitBytes != 99<<20 || shown.Overhead.MemoryLimitBytes != 1<<20 {
			t.Errorf("restarted %v: %v, %s", again, err, info)
		}
	}
	fails(t, update(&cri.UpdatePodSandboxResourcesRequest{PodSandboxId: strings.Repeat("e", 64)}), is(codes.NotFound), "eeee")
	must(runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: p.id}))(t)
	fails(t, update(&cri.UpdatePodSandboxResourcesRequest{PodSandboxId: p.id}), is(codes.FailedPrecondition), "not ready")
}

// crictl info shows what went wrong of late.
func TestStatusHasRecentErrors(t *testing.T) {
	_, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec("127.0.0.1:1/no/such:image")})
	if err == nil {
		t.Fatal("pulled from nowhere")
	}
	info := must(runtime.Status(soon(t), &cri.StatusRequest{Verbose: true}))(t).Info
	var recent []string
	if err := json.Unmarshal([]byte(info["recentErrors"]), &recent); err != nil || len(recent) == 0 || len(recent) > 32 {
		t.Fatalf("%v, %q", err, info["recentErrors"])
	}
	if last := recent[len(recent)-1]; !strings.Contains(last, "127.0.0.1:1/no/such:image") || !strings.Contains(last, "level=") {
		t.Errorf("the last: %q", last)
	}
}
