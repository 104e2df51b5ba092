package e2e

import (
	"os"
	"path/filepath"
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
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp, s.RunAsUser = runtimeDefault, &cri.Int64Value{Value: 1234} },
		mode+"; id -u; grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status | cut -f 2 | sort -u", filtered+"1234\n0000000000000000\n")
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = runtimeDefault }, "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status | cut -f 2 | sort -u", "00000000a80425fb\n")
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp, s.Privileged = runtimeDefault, true }, mode, unfiltered)
	check(func(s *cri.LinuxContainerSecurityContext) { s.SeccompProfilePath = "runtime/default" }, mode, filtered)        //nolint:staticcheck // clients still send it
	check(func(s *cri.LinuxContainerSecurityContext) { s.SeccompProfilePath = "localhost/" + noChdir }, mode, filtered) //nolint:staticcheck
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = localhost(noChdir) }, mode+"; chroot / true 2>&1 || true", filtered+"chroot: can't change root directory to '/': No space left on device\n")
	check(func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = runtimeDefault }, "unshare -n true 2>&1; echo $?", "unshare: unshare(0x40000000): Operation not permitted\n1\n")
	check(func(s *cri.LinuxContainerSecurityContext) {
		s.Seccomp, s.Capabilities = runtimeDefault, &cri.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
	}, mode+"; unshare -m sh -c 'mount -t tmpfs none /mnt && echo mounted'", filtered+"mounted\n")
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
		{localhost("/tmp"), codes.Internal, []string{"/tmp", "directory"}},
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
