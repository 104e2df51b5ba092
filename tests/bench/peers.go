package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A peer is a runtime that is measured beside others: a daemon that is started on a directory, or programs that pull.
type peer struct {
	name     string
	version  []string // the command that says it
	programs []string // whose memory counts
	shim     string
	config   string                         // of the daemon, with @ROOT@, @STATE@ and @NODE@ in it
	command  []string                       // of the daemon, after its configuration's name
	pull     func(root, image string) error // where there is no daemon
}

const crispConfig = `
root = "@ROOT@/crisp"
state = "@STATE@/state"
socket = "@STATE@/socket"
log_level = "warn"
[network]
mode = "%s"
cni_plugin_dirs = ["@NODE@/cni", "/opt/cni/bin", "/usr/lib/cni"]
[images]
certs_dirs = ["@NODE@/certs.d"]
`

// containerdConfig leaves all as containerd has it, but for what a node of the tests needs.
const containerdConfig = `
version = 3
root = "@ROOT@/containerd"
state = "@STATE@/state"
[grpc]
address = "@STATE@/socket"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "registry.k8s.io/pause:3.9"
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "@NODE@/certs.d"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
`

var peers = []*peer{
	{name: "crisp", version: []string{"crispd", "--version"}, programs: []string{"crispd", "crisp-pull"}, shim: "crisp-monitor",
		config: fmt.Sprintf(crispConfig, "cni"), command: []string{"crispd", "--config"}},
	{name: "crisp-builtin", programs: []string{"crispd", "crisp-pull"}, shim: "crisp-monitor",
		config: fmt.Sprintf(crispConfig, "builtin"), command: []string{"crispd", "--config"}},
	{name: "containerd", version: []string{"containerd", "--version"}, programs: []string{"containerd", "unpigz", "igzip"}, shim: "containerd-shim-runc-v2",
		config: containerdConfig, command: []string{"containerd", "--log-level", "warn", "--config"}},
	{name: "containerd-sync", programs: []string{"containerd", "unpigz", "igzip"}, shim: "containerd-shim-runc-v2",
		config: containerdConfig + "[plugins.'io.containerd.cri.v1.images']\nimage_pull_with_sync_fs = true\n", command: []string{"containerd", "--log-level", "warn", "--config"}},
	{name: "skopeo+umoci", version: []string{"sh", "-c", "skopeo --version; umoci --version"}, programs: []string{"skopeo", "umoci"}, pull: skopeoPull},
}

// chosen gives the peers of a list of names, and has what tests/peers/build made found before Debian's.
func chosen(names string) (list []*peer) {
	os.Setenv("PATH", filepath.Join(os.Getenv("CRISP_TEST_TOP"), "build/tests/peers")+":"+os.Getenv("PATH"))
	for _, name := range strings.Split(names, ",") {
		at := len(list)
		for _, p := range peers {
			if p.name == name {
				list = append(list, p)
			}
		}
		if len(list) == at {
			fatal(fmt.Errorf("there is no peer %q", name))
		}
	}
	return list
}

// A daemon is a peer that runs.
type daemonProcess struct {
	*bench
	command *exec.Cmd
	state   string
	log     string
}

// start runs the peer's daemon on an existing directory and returns when it is ready for pulls.
func (p *peer) start(root string) *daemonProcess {
	node := os.Getenv("CRISP_TEST_NODE")
	state, err := os.MkdirTemp(filepath.Join(node, "run"), p.name+".")
	fatal(err)
	d := &daemonProcess{state: state, log: filepath.Join(node, "log", p.name)}
	config := filepath.Join(state, "config.toml")
	text := strings.NewReplacer("@ROOT@", root, "@STATE@", state, "@NODE@", node).Replace(p.config)
	fatal(os.WriteFile(config, []byte(text), 0o600))
	log, err := os.Create(d.log)
	fatal(err)
	defer log.Close()
	d.command = exec.Command(p.command[0], append(p.command[1:], config)...)
	d.command.Stdout, d.command.Stderr = log, log
	fatal(d.command.Start())
	d.bench = connect(filepath.Join(state, "socket"))
	for range 600 {
		_, err = d.image.ListImages(context.Background(), &cri.ListImagesRequest{})
		if err == nil {
			return d
		}
		time.Sleep(50 * time.Millisecond)
	}
	said, _ := os.ReadFile(d.log)
	fatal(fmt.Errorf("%s: %w\n%s", p.name, err, said))
	return nil
}

func (d *daemonProcess) stop() {
	d.connection.Close()
	d.command.Process.Signal(syscall.SIGTERM)
	d.command.Wait()
	os.RemoveAll(d.state)
}

func connect(socket string) *bench {
	connection, err := grpc.NewClient("passthrough:///cri", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}))
	fatal(err)
	return &bench{connection: connection, runtime: cri.NewRuntimeServiceClient(connection), image: cri.NewImageServiceClient(connection), times: map[string][]time.Duration{}}
}

// skopeoPull fetches into an OCI layout for each repository and unpacks what has not been unpacked.
func skopeoPull(root, image string) error {
	repository, _, _ := strings.Cut(filepath.Base(image), ":")
	layout, bundle := filepath.Join(root, "layout"), filepath.Join(root, repository)
	if strings.HasPrefix(repository, "many-") { // two that write one layout spoil its index
		layout += "-" + repository
	}
	copied := exec.Command("skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false",
		"docker://"+os.Getenv("CRISP_TEST_REGISTRY")+"/"+image, "oci:"+layout+":"+repository)
	if said, err := copied.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", copied, err, said)
	}
	if _, err := os.Stat(bundle); err == nil {
		return nil
	}
	unpacked := exec.Command("umoci", "unpack", "--image", layout+":"+repository, bundle)
	if said, err := unpacked.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", unpacked, err, said)
	}
	return nil
}
