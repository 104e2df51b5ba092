package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Where SELinux is in charge: processes, execs, the root file system, what is mounted for it and volumes have the labels of the node's policy with two
// categories of the pod's own; privileged containers are spc_t; what the policy does not know is refused.
func TestSELinuxLabels(t *testing.T) {
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		t.Skip("SELinux is not in charge here")
	}
	data := registry + "/crisp/data:latest"
	pullFor(t, data)
	leaveNothing(t)
	folder := filepath.Join(rootDir, "relabel")
	t.Cleanup(func() { os.RemoveAll(folder) })
	write(t, "", folder, "file")
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
	run := func(p *pod, name string, change func(*cri.LinuxContainerSecurityContext)) *container {
		config := mounting(name, &cri.Mount{HostPath: folder, ContainerPath: "/data", SelinuxRelabel: true}, imageMount(data, "/image", ""))
		change(config.Linux.SecurityContext)
		return p.run(t, config)
	}
	current := func(c *container, pid string) string {
		return strings.Trim(c.sh(t, "cat /proc/"+pid+"/attr/current"), "\x00\n")
	}
	plain := run(p, "plain", func(*cri.LinuxContainerSecurityContext) {})
	process := current(plain, "1")
	if !regexp.MustCompile(`^system_u:system_r:container_t:s0:c\d+,c\d+$`).MatchString(process) {
		t.Error(process)
	}
	if exec := current(plain, "self"); exec != process {
		t.Errorf("an exec is %s, not %s", exec, process)
	}
	categories := process[strings.Index(process, ":s0:")+1:]
	files := "system_u:object_r:container_file_t:" + categories
	if got := labelOf(t, filepath.Join(folder, "file")); got != files {
		t.Errorf("the volume's file is %s, not %s", got, files)
	}
	for _, path := range []string{"/", "/dev", "/dev/pts", "/dev/shm", "/image"} {
		if got := plain.sh(t, "grep ' "+path+" ' /proc/self/mountinfo"); !strings.Contains(got, `context="`+files+`"`) && !strings.Contains(got, "context="+files) {
			t.Errorf("%s: %s", path, got)
		}
	}
	for _, file := range []string{"hosts", "hostname", "resolv.conf"} {
		if got := labelOf(t, filepath.Join(rootDir, "etc", p.id, file)); got != files {
			t.Errorf("%s is %s", file, got)
		}
	}
	if got := current(run(p, "second", func(*cri.LinuxContainerSecurityContext) {}), "1"); got != process {
		t.Errorf("two containers of a pod are %s and %s", process, got)
	}
	if got := current(run(newPod(t), "other", func(*cri.LinuxContainerSecurityContext) {}), "1"); got == process {
		t.Errorf("two pods are both %s", got)
	}
	asked := run(p, "asked", func(s *cri.LinuxContainerSecurityContext) { s.SelinuxOptions = &cri.SELinuxOption{Level: "s0:c4,c5"} })
	if got := current(asked, "1"); got != "system_u:system_r:container_t:s0:c4,c5" {
		t.Error(got)
	}
	privileged := run(p, "privileged", func(s *cri.LinuxContainerSecurityContext) { s.Privileged = true })
	if got := current(privileged, "1"); got != "system_u:system_r:spc_t:s0" {
		t.Error(got)
	}
	if got := labelOf(t, folder); got != "system_u:object_r:container_file_t:s0:c4,c5" {
		t.Errorf("a privileged container had the volume relabelled: %s", got)
	}
	config := containerConfig("unknown", "true")
	config.Linux.SecurityContext.SelinuxOptions = &cri.SELinuxOption{Type: "never_heard_of_t"}
	_, err := p.tryCreate(t, config)
	fails(t, err, is(codes.InvalidArgument), "never_heard_of_t")
}
