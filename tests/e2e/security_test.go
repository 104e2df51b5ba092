package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	filtered   = "Seccomp:\t2\n"
	unfiltered = "Seccomp:\t0\n"
	mode       = "grep ^Seccomp: /proc/self/status"
)

var (
	runtimeDefault = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
	unconfined     = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}
)

func localhost(path string) *cri.SecurityProfile {
	return &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: path}
}

// profile writes a file that a Localhost profile may name.
func profile(t *testing.T, json string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(path, []byte(json), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secure is a container whose security context was changed.
func secure(name string, change func(*cri.LinuxContainerSecurityContext), command ...string) *cri.ContainerConfig {
	config := containerConfig(name, command...)
	change(config.Linux.SecurityContext)
	return config
}

// Which profile a container runs under, for root and others, with and without no_new_privs; its execs too.
func TestSeccompProfiles(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
	noChdir := profile(t, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}`)
	n := 0
	check := func(change func(*cri.LinuxContainerSecurityContext), script, want string) {
		t.Helper()
		n++
		c := p.run(t, secure("c"+strconv.Itoa(n), change, shell(script+"; exec sleep 1000")...))
		if got := c.sh(t, script); got != want {
			t.Errorf("%s: an exec got %q, want %q", script, got, want)
		}
		eventually(t, 5*time.Second, script+" in the container to say "+want, func() bool { return c.stdout(t) == want })
		c.stop(t, 0)
	}
	check(func(s *cri.LinuxContainerSecurityContext) {}, mode, unfiltered)
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = unconfined }, mode, unfiltered)
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = runtimeDefault }, mode, filtered)
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp, s.NoNewPrivs = runtimeDefault, true }, mode, filtered)
	check(func(s *cri.LinuxContainerSecurityContext) {
		s.Seccomp, s.RunAsUser = runtimeDefault, &cri.Int64Value{Value: 1234}
	},
		mode+"; id -u; grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status | cut -f 2 | sort -u", filtered+"1234\n0000000000000000\n")
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = runtimeDefault }, "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | cut -f 2 | sort -u", "00000000a80425fb\n")
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp, s.Privileged = runtimeDefault, true }, mode, unfiltered)
	check(func(s *cri.LinuxContainerSecurityContext) { s.SeccompProfilePath = "runtime/default" }, mode, filtered)      //nolint:staticcheck // clients still send it
	check(func(s *cri.LinuxContainerSecurityContext) { s.SeccompProfilePath = "localhost/" + noChdir }, mode, filtered) //nolint:staticcheck
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = localhost(noChdir) }, mode+"; chroot / true 2>&1 || true", filtered+"chroot: can't change root directory to '/': No space left on device\n")
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = runtimeDefault }, "unshare -n true 2>&1; echo $?", "unshare: unshare(0x40000000): Operation not permitted\n1\n")
	check(func(s *cri.LinuxContainerSecurityContext) {
		s.Seccomp, s.Capabilities = runtimeDefault, &cri.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
	}, mode+"; unshare -m sh -c 'mount -t tmpfs none /tmp && echo mounted'", filtered+"mounted\n")
}

// A profile that cannot be read, or that crisp cannot keep, stops the container from being made; it never runs without.
func TestSeccompProfilesThatAreWrong(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	for _, bad := range []struct {
		profile *cri.SecurityProfile
		code    codes.Code
		words   []string
	}{
		{localhost("/no/such/profile.json"), codes.InvalidArgument, []string{"/no/such/profile.json", "No such file"}},
		{localhost("profile.json"), codes.InvalidArgument, []string{"profile.json", "not absolute"}},
		{localhost(""), codes.InvalidArgument, []string{"not absolute"}},
		{localhost("/tmp"), codes.InvalidArgument, []string{"/tmp", "directory"}},
		{localhost(profile(t, "{")), codes.InvalidArgument, []string{"profile.json", "line 1"}},
		{localhost(profile(t, `{"defaultAction": "SCMP_ACT_NOTIFY"}`)), codes.Unimplemented, []string{"SCMP_ACT_NOTIFY"}},
		{&cri.SecurityProfile{ProfileType: 9}, codes.InvalidArgument, []string{"seccomp"}},
	} {
		_, err := p.tryCreate(t, secure("bad", func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = bad.profile }, "true"))
		fails(t, err, is(bad.code), bad.words...)
	}
	// A profile that allows nothing but the start and the end is kept to the letter.
	spare := profile(t, `{"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ALLOW"}]}`)
	c := p.run(t, secure("spare", func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = localhost(spare) }, "true"))
	if status := c.ended(t); status.ExitCode != 128+31 {
		t.Errorf("it ended with %d, not by SIGSYS", status.ExitCode)
	}
}

// What a container was started with its execs have too, also after the file has changed and under another crispd.
func TestSeccompOfExecsIsThatOfTheContainer(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	path := profile(t, `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}`)
	c := p.run(t, secure("main", func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = localhost(path) }, "sleep", "1000"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 2; i++ {
		if got := c.sh(t, mode+"; chroot / true 2>&1 | grep -c 'No space'"); got != filtered+"1\n" {
			t.Errorf("%q", got)
		}
		killCrispd(t)
		startCrispd(t)
	}
	if strings.Contains(c.sh(t, mode), unfiltered) {
		t.Error("an exec without a filter")
	}
}

// What a CDI file describes is in the container, usable, and in its execs' environment; what it does not is refused.
func TestCDIDevices(t *testing.T) {
	leaveNothing(t)
	if err := os.MkdirAll("/etc/cdi", 0o755); err != nil {
		t.Fatal(err)
	}
	file, folder := "/etc/cdi/crisp-test.yaml", t.TempDir()
	t.Cleanup(func() { os.Remove(file) })
	write := func(edits string) {
		text := "cdiVersion: 0.6.0\nkind: crisp.example/thing\ncontainerEdits:\n  env: [THING=yes]\ndevices:\n- name: one\n  containerEdits:\n" + edits
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("    env: [NUMBER=1]\n" +
		"    deviceNodes:\n    - {path: /dev/thing, hostPath: /dev/loop-control, permissions: rw, fileMode: 0640}\n    - {path: /dev/zeros, type: c, major: 1, minor: 5}\n" +
		"    mounts:\n    - {hostPath: " + folder + ", containerPath: /opt/thing, options: [ro, nosuid, noexec]}\n    additionalGids: [4711]\n")
	p := newPod(t)
	config := containerConfig("main", "sleep", "1000")
	config.CDIDevices = []*cri.CDIDevice{{Name: "crisp.example/thing=one"}}
	c := p.run(t, config)
	for script, want := range map[string]string{
		"echo $THING $NUMBER": "yes 1\n",
		"stat -c '%a %F' /dev/thing; exec 3<>/dev/thing && echo open":  "640 character special file\nopen\n",
		"head -c 3 /dev/zeros | wc -c":                                 "3\n",
		"mount | grep ' /opt/thing ' | grep -c '[(]ro,nosuid,noexec,'": "1\n",
		"id -G": "0 4711\n",
	} {
		if got := c.sh(t, script); !strings.HasPrefix(got, want) && !(script == "id -G" && strings.Contains(got, "4711")) {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
	killCrispd(t)
	startCrispd(t)
	if got := c.sh(t, "echo $THING"); got != "yes\n" {
		t.Errorf("another crispd's exec has THING=%q", got)
	}
	write("    hooks: [{hookName: createContainer, path: /bin/true}]\n")
	_, err := p.tryCreate(t, func() *cri.ContainerConfig {
		config := containerConfig("hook", "true")
		config.CDIDevices = []*cri.CDIDevice{{Name: "crisp.example/thing=one"}}
		return config
	}())
	fails(t, err, is(codes.Unimplemented), "crisp.example/thing=one", "hook", "/bin/true")
	config = containerConfig("unknown", "true")
	config.CDIDevices = []*cri.CDIDevice{{Name: "crisp.example/thing=two"}}
	_, err = p.tryCreate(t, config)
	fails(t, err, is(codes.InvalidArgument), "crisp.example/thing=two")
}

// A request that names no paths gets those that Kubernetes calls default; one that names some gets those alone.
func TestMaskedAndReadOnlyPathsByDefault(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
	script := "head -c 1 /proc/kcore 2>/dev/null | wc -c; ls /sys/firmware | wc -l; mount | grep -cE ' /proc/sys .*[(]ro[,)]'; echo x 2>/dev/null >/proc/sys/kernel/domainname || echo refused"
	if got := p.output(t, containerConfig("default", shell(script)...)); got != "0\n0\n1\nrefused\n" {
		t.Errorf("%q", got)
	}
	other := secure("other", func(s *cri.LinuxContainerSecurityContext) { s.MaskedPaths = []string{"/proc/version"} }, shell("mount | grep -c ' /proc/'")...)
	if got := p.output(t, other); got != "1\n" {
		t.Errorf("%q", got)
	}
	all := secure("all", func(s *cri.LinuxContainerSecurityContext) { s.Privileged = true }, shell("mount | grep -c ' /proc/'")...)
	if got := p.output(t, all); got != "0\n" {
		t.Errorf("%q", got)
	}
}

// Merge takes the image's groups along, Strict only those of the request; both are told in the status.
func TestSupplementalGroupsPolicy(t *testing.T) {
	leaveNothing(t)
	if features := must(runtime.Status(soon(t), &cri.StatusRequest{}))(t).Features; !features.GetSupplementalGroupsPolicy() {
		t.Error("the feature is not told")
	}
	image := pullFor(t, "gcr.io/k8s-staging-cri-tools/test-image-predefined-group:latest")
	p := newPod(t)
	for policy, want := range map[cri.SupplementalGroupsPolicy]string{
		cri.SupplementalGroupsPolicy_Merge:  "1000 1234 50000",
		cri.SupplementalGroupsPolicy_Strict: "1000 1234",
	} {
		config := secure(strings.ToLower(policy.String()), func(s *cri.LinuxContainerSecurityContext) {
			s.SupplementalGroupsPolicy, s.SupplementalGroups = policy, []int64{1234}
			s.RunAsUser, s.RunAsGroup = &cri.Int64Value{Value: 1000}, &cri.Int64Value{Value: 1000}
		}, "sleep", "1000")
		config.Image = &cri.ImageSpec{Image: image}
		c := p.run(t, config)
		sorted := func(text string) string {
			words := strings.Fields(text)
			sort.Slice(words, func(i, k int) bool {
				return len(words[i]) < len(words[k]) || len(words[i]) == len(words[k]) && words[i] < words[k]
			})
			return strings.Join(words, " ")
		}
		if got := sorted(c.sh(t, "grep ^Groups: /proc/1/status | cut -f 2")); got != want {
			t.Errorf("%v: %s", policy, got)
		}
		user := c.status(t).User.GetLinux()
		if got := sorted(strings.Trim(fmt.Sprint(user.GetSupplementalGroups()), "[]")); got != want || user.GetUid() != 1000 || user.GetGid() != 1000 {
			t.Errorf("%v: told %v", policy, user)
		}
	}
}
