package e2e

import (
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// AppArmor confines containers and their execs as asked for, by default under a profile of crisp's own, which stops what it must.
func TestAppArmorProfiles(t *testing.T) {
	if enabled, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled"); !strings.HasPrefix(string(enabled), "Y") {
		t.Skip("the kernel has no AppArmor in charge: hack/test e2e AppArmor apparmor")
	}
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
	// Of the power to mount, which AppArmor alone takes back here.
	with := func(name string, change func(*cri.LinuxContainerSecurityContext)) *cri.ContainerConfig {
		config := containerConfig(name, "sleep", "1000")
		config.Linux.SecurityContext.Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
		change(config.Linux.SecurityContext)
		return config
	}
	profile := func(kind cri.SecurityProfile_ProfileType, name string) func(*cri.LinuxContainerSecurityContext) {
		return func(c *cri.LinuxContainerSecurityContext) {
			c.Apparmor = &cri.SecurityProfile{ProfileType: kind, LocalhostRef: name}
		}
	}
	const confined, free = "crisp-default (enforce)", "unconfined"
	for name, one := range map[string]struct {
		change func(*cri.LinuxContainerSecurityContext)
		want   string
	}{
		"nothing":    {func(*cri.LinuxContainerSecurityContext) {}, confined},
		"default":    {profile(cri.SecurityProfile_RuntimeDefault, ""), confined},
		"localhost":  {profile(cri.SecurityProfile_Localhost, "crisp-default"), confined},
		"unconfined": {profile(cri.SecurityProfile_Unconfined, ""), free},
		"privileged": {func(c *cri.LinuxContainerSecurityContext) { c.Privileged, c.Capabilities = true, nil }, free},
	} {
		c := p.run(t, with(name, one.change))
		if got := c.sh(t, "cat /proc/1/attr/current /proc/self/attr/current"); got != one.want+"\n"+one.want+"\n" {
			t.Errorf("%s: %s", name, got)
		}
		answer, err := c.exec(t, 10, "mount", "-t", "tmpfs", "none", "/tmp")
		if err != nil || (answer.ExitCode == 0) != (one.want == free) {
			t.Errorf("%s: mount: %v, %v", name, answer, err)
		}
	}
	_, err := p.tryCreate(t, with("missing", profile(cri.SecurityProfile_Localhost, "no-such-profile")))
	fails(t, err, is(codes.InvalidArgument), "no-such-profile")
}
