package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// page starts a web server with one page in a container of the pod.
func (p *pod) page(t *testing.T, text string) *container {
	t.Helper()
	c := p.run(t, containerConfig("page", shell(fmt.Sprintf(`mkdir /www; echo %s >/www/index.html; exec httpd -f -p 80 -h /www`, text))...))
	ip := p.status(t).Network.Ip
	eventually(t, 5*time.Second, "page served at "+ip, func() bool { return get("http://"+net.JoinHostPort(ip, "80")) == text })
	return c
}

// get fetches a page as a process of the node does, outside does it in the outside world; "" if that fails.
func get(url string) string {
	output, _ := exec.Command("curl", "-s", "-g", "--max-time", "2", url).Output()
	return strings.TrimSpace(string(output))
}

func getFromOutside(url string) string {
	output, _ := exec.Command("ip", "netns", "exec", outside, "curl", "-s", "-g", "--max-time", "2", url).Output()
	return strings.TrimSpace(string(output))
}

func (p *pod) addresses(t *testing.T) []string {
	t.Helper()
	network := p.status(t).Network
	all := []string{network.Ip}
	for _, more := range network.AdditionalIps {
		all = append(all, more.Ip)
	}
	return all
}

// A pod has an IPv4 and an IPv6 address, reaches other pods and the outside world, and is reached by both families.
func TestNetworkOfPods(t *testing.T) {
	leaveNothing(t)
	first, second := newPod(t), newPod(t)
	first.page(t, "first")
	client := second.sleeper(t, "client")
	addresses := first.addresses(t)
	if len(addresses) != 2 || net.ParseIP(addresses[0]).To4() == nil || net.ParseIP(addresses[1]) == nil {
		t.Fatalf("addresses %v", addresses)
	}
	for _, address := range addresses {
		url := "http://" + net.JoinHostPort(address, "80")
		if got := get(url); got != "first" {
			t.Errorf("from the node to %s: %q", url, got)
		}
		if got := strings.TrimSpace(client.sh(t, "wget -q -T 3 -O - "+url+" || echo failed")); got != "first" {
			t.Errorf("from another pod to %s: %q", url, got)
		}
	}
	if got := client.sh(t, "ip -o link show eth0 | grep -c 'mtu 1450' || true; ip -o link | wc -l"); environmentBuiltin() && got != "1\n2\n" {
		t.Errorf("links: %q", got)
	}
	if got := client.sh(t, "ping -c 1 -W 2 203.0.113.1 >/dev/null && echo answered"); got != "answered\n" {
		t.Errorf("ping to the outside world: %q", got)
	}
}

func environmentBuiltin() bool { return os.Getenv("CRISP_TEST_NETWORK") == "builtin" }

// Where the kernel has no nftables for it, the built-in network says so, carries pods all the same, and promises no host port.
func TestNetworkWithoutNftables(t *testing.T) {
	reason := must(networkReason(soon(t)))(t)
	if reason == "" {
		t.Skip("the network is whole: hack/test e2e WithoutNftables uml-builtin")
	}
	leaveNothing(t)
	if !strings.Contains(reason, "nftables") {
		t.Errorf("Status says %q", reason)
	}
	p := newPod(t)
	p.page(t, "there")
	if got := newPod(t).sleeper(t, "client").sh(t, "wget -q -T 5 -O - http://"+p.status(t).Network.Ip); got != "there\n" {
		t.Errorf("from pod to pod: %q", got)
	}
	if got := command(t, "cat", "/proc/sys/net/ipv4/conf/crisp0/route_localnet"); got != "0\n" {
		t.Errorf("without a wall before it the node's 127.0.0.1 is reached from the bridge: %s", got)
	}
	config := podConfig(t.Name())
	config.PortMappings = []*cri.PortMapping{{HostPort: 31080, ContainerPort: 80}}
	_, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config})
	fails(t, err, is(codes.Unavailable), "host port", "nftables")
}

// To the outside world pods look like the node: it knows no way to them.
func TestNetworkMasquerade(t *testing.T) {
	needNetwork(t)
	leaveNothing(t)
	log := filepath.Join(t.TempDir(), "access")
	file := must(os.Create(log))(t)
	defer file.Close()
	server := exec.Command("ip", "netns", "exec", outside, "python3", "-u", "-m", "http.server", "8000", "--bind", "::", "--directory", t.TempDir())
	server.Stderr = file
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	c := newPod(t).sleeper(t, "client")
	for target, source := range map[string]string{"203.0.113.1": "203.0.113.2", "198.51.100.1": "203.0.113.2", "[2001:db8:113::1]": "2001:db8:113::2", "[2001:db8:51::1]": "2001:db8:113::2"} {
		eventually(t, 10*time.Second, target+" reached", func() bool {
			return strings.Contains(c.sh(t, "wget -q -T 2 -O - http://"+target+":8000/ || true"), "Directory")
		})
		seen := strings.Split(strings.TrimSpace(string(must(os.ReadFile(log))(t))), "\n")
		if last := seen[len(seen)-1]; !strings.Contains(last, source+" ") {
			t.Errorf("%s saw %q, want it from %s", target, last, source)
		}
	}
}

const udpEcho = `import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.sendto(b"hello", (sys.argv[1], 31053))
print(s.recv(100).decode())`

// Host ports lead to the pod from the node itself (127.0.0.1 too), from outside, and from the pod; with the pod they go.
func TestNetworkHostPorts(t *testing.T) {
	needNetwork(t)
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) {
		c.PortMappings = []*cri.PortMapping{
			{HostPort: 31080, ContainerPort: 80},
			{HostPort: 31081, ContainerPort: 80, HostIp: "203.0.113.2"},
			{HostPort: 31053, ContainerPort: 53, Protocol: cri.Protocol_UDP},
		}
	})
	c := p.page(t, "mapped")
	for _, host := range []string{"127.0.0.1:31080", "203.0.113.2:31080", "203.0.113.2:31081"} {
		if got := get("http://" + host); got != "mapped" {
			t.Errorf("from the node to %s: %q", host, got)
		}
	}
	for _, host := range []string{"203.0.113.2:31080", "[2001:db8:113::2]:31080", "203.0.113.2:31081"} {
		if got := getFromOutside("http://" + host); got != "mapped" {
			t.Errorf("from outside to %s: %q", host, got)
		}
	}
	if got := get("http://127.0.0.1:31081"); got != "" {
		t.Errorf("the port of one address answers on another: %q", got)
	}
	if got := strings.TrimSpace(c.sh(t, "wget -q -T 3 -O - http://203.0.113.2:31080 || echo failed")); got != "mapped" {
		t.Errorf("from the pod to itself by the node's address: %q", got)
	}
	c.sh(t, "udpsvd 0 53 cat </dev/null >/dev/null 2>&1 & sleep 0.3")
	for _, way := range [][]string{{"python3", "-c", udpEcho, "127.0.0.1"}, {"python3", "-c", udpEcho, "203.0.113.2"}, {"ip", "netns", "exec", outside, "python3", "-c", udpEcho, "203.0.113.2"}} {
		if got, err := tryCommand(way[0], way[1:]...); err != nil || got != "hello\n" {
			t.Errorf("UDP, %v: %q %v", way, got, err)
		}
	}
	p.remove(t)
	if got := get("http://127.0.0.1:31080"); got != "" {
		t.Errorf("the host port of a pod that is gone: %q", got)
	}
	again := newPod(t, func(c *cri.PodSandboxConfig) { c.PortMappings = p.config.PortMappings })
	again.page(t, "again")
	if got := get("http://127.0.0.1:31080"); got != "again" {
		t.Errorf("the same host port again: %q", got)
	}
}

// Unprivileged users may listen on low ports and ping.
func TestNetworkOfUnprivilegedUsers(t *testing.T) {
	leaveNothing(t)
	config := containerConfig("main", shell(`cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range`)...)
	config.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 1000}
	if got := newPod(t).output(t, config); got != "0\n0\t2147483647\n" {
		t.Errorf("%q", got)
	}
}

// Addresses of a crispd that was killed and started again stay theirs, and are given back when pods go.
func TestNetworkAddressesSurvive(t *testing.T) {
	leaveNothing(t)
	used := map[string]bool{}
	for range 3 {
		used[newPod(t).addresses(t)[0]] = true
	}
	killCrispd(t)
	startCrispd(t)
	for range 3 {
		if address := newPod(t).addresses(t)[0]; used[address] {
			t.Errorf("%s is given twice", address)
		}
	}
}

// plugin puts a CNI configuration with a plugin of ours in the place of the node's, until the test is over.
func plugin(t *testing.T, name, script string) {
	t.Helper()
	if environmentBuiltin() {
		t.Skip("the node has the built-in network")
	}
	folder := filepath.Join(nodeDir, "cni")
	if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	config := "/etc/cni/net.d/05-test.conflist"
	text := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "test", "plugins": [{"type": %q}]}`, name)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.Remove(config)
		os.Remove(filepath.Join(folder, name))
		networkReady(t, true, "")
	})
	time.Sleep(300 * time.Millisecond) // the folder is watched
}

func networkReady(t *testing.T, want bool, reason string) {
	t.Helper()
	eventually(t, 15*time.Second, fmt.Sprintf("NetworkReady=%v", want), func() bool {
		for _, c := range must(runtime.Status(soon(t), &cri.StatusRequest{}))(t).Status.Conditions {
			if c.Type == "NetworkReady" && c.Status == want && strings.Contains(c.Reason+c.Message, reason) {
				return true
			}
		}
		return false
	})
}

// A plugin that fails fails the pod with the plugin's own message, and what was done is undone.
func TestNetworkPluginFails(t *testing.T) {
	leaveNothing(t)
	calls := filepath.Join(t.TempDir(), "calls")
	plugin(t, "failing", fmt.Sprintf(`echo "$CNI_COMMAND" >>%s
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion": "1.0.0", "code": 117, "msg": "no addresses left in the pool", "details": "pool of the test"}'
exit 1
`, calls))
	config := podConfig(t.Name())
	_, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config})
	if err == nil || !strings.Contains(err.Error(), "no addresses left in the pool") || !strings.Contains(err.Error(), "failing") {
		t.Errorf("%v", err)
	}
	if got := string(must(os.ReadFile(calls))(t)); !strings.Contains(got, "ADD\n") || !strings.HasSuffix(got, "DEL\n") {
		t.Errorf("the plugin was called for %q", got)
	}
	if listed := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t).Items; len(listed) != 0 {
		t.Errorf("%d pods are listed", len(listed))
	}
}

// A plugin that hangs holds up its own pod and nobody else; Status answers from memory.
func TestNetworkPluginHangs(t *testing.T) {
	leaveNothing(t)
	release := filepath.Join(t.TempDir(), "release")
	plugin(t, "hanging", fmt.Sprintf(`[ "$CNI_COMMAND" = ADD ] || exit 0
while [ ! -e %s ]; do sleep 0.05; done
echo '{"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.78/24"}]}'
`, release))
	config := podConfig(t.Name())
	_, err := runtime.RunPodSandbox(within(t, 500*time.Millisecond), &cri.RunPodSandboxRequest{Config: config})
	fails(t, err, is(codes.DeadlineExceeded))
	begin := time.Now()
	must(runtime.Status(soon(t), &cri.StatusRequest{}))(t)
	must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t)
	if took := time.Since(begin); took > 100*time.Millisecond {
		t.Errorf("Status and ListPodSandbox took %v beside a plugin that hangs", took)
	}
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	made := must(runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config}))(t)
	p := &pod{made.PodSandboxId, config}
	if listed := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t).Items; len(listed) != 1 {
		t.Errorf("%d pods are listed", len(listed))
	}
	p.remove(t)
}

// What a plugin is told: the environment and stdin of the CNI specification; DEL gets the configuration of ADD, though it is
// gone by then, and the result of ADD.
func TestNetworkPluginIsTold(t *testing.T) {
	leaveNothing(t)
	folder := t.TempDir()
	plugin(t, "telling", fmt.Sprintf(`env | grep ^CNI_ | sort >%[1]s/$CNI_COMMAND.env
cat >%[1]s/$CNI_COMMAND.json
[ "$CNI_COMMAND" != VERSION ] || { echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0"]}'; exit; }
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "'$CNI_NETNS'"}], "ips": [{"address": "192.0.2.77/24", "interface": 0}]}'
`, folder))
	p := newPod(t)
	if got := p.addresses(t); len(got) != 1 || got[0] != "192.0.2.77" {
		t.Errorf("addresses %v", got)
	}
	told := string(must(os.ReadFile(filepath.Join(folder, "ADD.env")))(t))
	for _, want := range []string{"CNI_CONTAINERID=" + p.id, "CNI_IFNAME=eth0", "CNI_NETNS=/", "K8S_POD_NAMESPACE=e2e", "K8S_POD_NAME=" + p.config.Metadata.Name, "K8S_POD_INFRA_CONTAINER_ID=" + p.id} {
		if !strings.Contains(told, want) {
			t.Errorf("ADD was told %q, not %q", told, want)
		}
	}
	os.Remove("/etc/cni/net.d/05-test.conflist")
	time.Sleep(300 * time.Millisecond)
	killCrispd(t)
	startCrispd(t)
	p.remove(t)
	if del := string(must(os.ReadFile(filepath.Join(folder, "DEL.json")))(t)); !strings.Contains(del, "prevResult") || !strings.Contains(del, "192.0.2.77") || !strings.Contains(del, `"telling"`) {
		t.Errorf("DEL was told %s", del)
	}
}

// Without a configuration the network is not ready, and says why; pods that have one can still be removed.
func TestNetworkWithoutConfiguration(t *testing.T) {
	if environmentBuiltin() {
		t.Skip("the node has the built-in network")
	}
	leaveNothing(t)
	p := newPod(t)
	path := "/etc/cni/net.d/10-node.conflist"
	kept := must(os.ReadFile(path))(t)
	os.Remove(path)
	t.Cleanup(func() {
		_ = os.WriteFile(path, kept, 0o644)
		networkReady(t, true, "")
	})
	networkReady(t, false, "/etc/cni/net.d")
	_, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: podConfig(t.Name())})
	fails(t, err, is(codes.FailedPrecondition, codes.Unavailable), "/etc/cni/net.d")
	p.remove(t)
}
