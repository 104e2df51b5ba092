package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// This file is on the attacker's side: what is tried from inside of containers, and must fail. What a shell cannot do the
// test's own program does, mounted into the container and told by its environment which part to play.

func init() {
	if play := attacks[os.Getenv("CRISP_ATTACK")]; play != nil {
		play()
		os.Exit(0)
	}
}

var attacks = map[string]func(){
	"ptrace":     attackByPtrace,
	"executable": attackExecutables,
	"roots":      attackRoots,
	"capset":     attackByCapset,
	"keyring":    attackKeyring,
	"user":       func() { fmt.Println(os.Geteuid()) },
}

// attacker is a container that plays a part, or runs a command with the program at hand as /attack.
func attacker(t *testing.T, part string, change func(*cri.LinuxContainerSecurityContext), command ...string) *cri.ContainerConfig {
	t.Helper()
	config := secure("attacker", change, append([]string{"/attack"}, command...)...)
	config.Mounts = []*cri.Mount{{HostPath: must(os.Executable())(t), ContainerPath: "/attack", Readonly: true}}
	config.Envs = []*cri.KeyValue{{Key: "CRISP_ATTACK", Value: part}}
	return config
}

func ordinary(*cri.LinuxContainerSecurityContext) {}

func monitorOf(t *testing.T, c *container) int {
	t.Helper()
	for _, line := range strings.Split(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", c.hostPid(t))))(t)), "\n") {
		if pid, found := strings.CutPrefix(line, "PPid:\t"); found {
			return must(strconv.Atoi(pid))(t)
		}
	}
	t.Fatal("no parent")
	return 0
}

// ---- file descriptors ----

// Neither the first process nor an exec has a descriptor that is not its own, with and without a terminal.
func TestAttackInheritedDescriptors(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	const list = `for fd in /proc/self/fd/*; do [ -e $fd ] && readlink $fd; done | grep -vE '^(pipe:|/dev/null|/dev/pts/|/dev/console|/proc/[0-9]+/fd$)'; echo end`
	for _, tty := range []bool{false, true} {
		config := containerConfig("main-"+strconv.FormatBool(tty), shell(list+"; exec sleep 1000")...)
		config.Tty = tty
		c := p.run(t, config)
		eventually(t, 5*time.Second, "its list", func() bool { return strings.Contains(c.stdout(t), "end") })
		if got := strings.ReplaceAll(c.stdout(t), "\r", ""); got != "end\n" {
			t.Errorf("tty %v: the first process has %q", tty, got)
		}
		if got := c.sh(t, list); got != "end\n" {
			t.Errorf("tty %v: an exec has %q", tty, got)
		}
	}
}

// A working directory, of the container or of one that an image's symlink names, never leads out by a descriptor of ours (CVE-2024-21626).
func TestAttackWorkingDirectory(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	for fd := 3; fd < 16; fd++ {
		for _, form := range []string{"/proc/self/fd/%d", "/proc/thread-self/fd/%d/../..", "/proc/1/fd/%d"} {
			config := containerConfig("main", shell("ls -d ../../../../.."+nodeDir+" "+"./var/tmp/"+filepath.Base(nodeDir)+" 2>/dev/null; echo inside")...)
			config.WorkingDir = fmt.Sprintf(form, fd)
			c, err := p.tryCreate(t, config)
			if err != nil {
				continue // it says so
			}
			if c.tryStart(t) == nil {
				c.ended(t)
				if got := c.stdout(t); got != "inside\n" {
					t.Errorf("%s leads to %q", config.WorkingDir, got)
				}
			}
			c.remove(t)
			os.Remove(c.logPath())
		}
	}
}

// ---- our executable ----

// attackExecutables looks for executables of other processes that can be written, while they run and after (CVE-2019-5736).
func attackExecutables() {
	self, _ := os.Stat("/proc/self/exe")
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		entries, _ := os.ReadDir("/proc")
		for _, entry := range entries {
			path := "/proc/" + entry.Name() + "/exe"
			target, err := os.Readlink(path)
			if st, e := os.Stat(path); err != nil || e != nil || os.SameFile(st, self) || !strings.Contains(target, "crisp") {
				continue
			}
			held, err := syscall.Open(path, 0x200000 /* O_PATH */, 0)
			if err != nil {
				continue
			}
			fmt.Println("seen", target)
			for i := 0; i < 100; i++ {
				if fd, err := syscall.Open(fmt.Sprintf("/proc/self/fd/%d", held), syscall.O_WRONLY, 0); err == nil {
					if n, err := syscall.Write(fd, []byte("#!/bin/sh\n")); err == nil {
						fmt.Println("WROTE", n, target)
					}
					syscall.Close(fd)
				}
				time.Sleep(time.Millisecond)
			}
			syscall.Close(held)
		}
	}
}

func monitorProgram(t *testing.T) [32]byte {
	t.Helper()
	path := filepath.Join(filepath.Dir(must(os.Readlink(fmt.Sprintf("/proc/%d/exe", crispdPid(t))))(t)), "crisp-monitor")
	return sha256.Sum256(must(os.ReadFile(path))(t))
}

// Containers that execute /proc/self/exe execute ours; those that share their processes see it, and can write to it neither then nor later.
func TestAttackOurExecutable(t *testing.T) {
	leaveNothing(t)
	before := monitorProgram(t)
	shared := func(s *cri.LinuxContainerSecurityContext) {
		s.NamespaceOptions.Pid = cri.NamespaceMode_POD
		s.Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_PTRACE"}}
	}
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD })
	watcher := p.run(t, attacker(t, "executable", shared))
	victim := p.run(t, secure("victim", shared, "sleep", "1000"))
	for i := 0; i < 40; i++ {
		_, _ = victim.exec(t, 5, "/proc/self/exe")
		if c, err := p.tryCreate(t, secure("exe-"+strconv.Itoa(i), shared, "/proc/self/exe")); err == nil {
			_ = c.tryStart(t)
			c.remove(t)
		}
	}
	watcher.ended(t)
	if got := watcher.stdout(t); strings.Contains(got, "WROTE") || !strings.Contains(got, "seen") {
		t.Errorf("%s", got)
	}
	if monitorProgram(t) != before {
		t.Error("crisp-monitor is another program now")
	}
	if got := victim.sh(t, "echo well"); got != "well\n" {
		t.Errorf("%q", got)
	}
}

// ---- other processes ----

// attackRoots looks whether a process that comes into the container can be followed to where it comes from. The one socket that it has until it
// executes its program carries but its own failure.
func attackRoots() {
	own, _ := os.Stat("/")
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		entries, _ := os.ReadDir("/proc")
		for _, entry := range entries {
			for _, link := range []string{"root", "cwd"} {
				path := "/proc/" + entry.Name() + "/" + link
				if _, err := os.Stat(path + os.Getenv("NODE")); err == nil {
					fmt.Println("ESCAPED by", path)
				}
				if st, err := os.Stat(path); err == nil && link == "root" && !os.SameFile(st, own) {
					fmt.Println("FOREIGN", path)
				}
			}
			if files, err := os.ReadDir("/proc/" + entry.Name() + "/fd"); err == nil {
				for _, file := range files {
					if target, _ := os.Readlink("/proc/" + entry.Name() + "/fd/" + file.Name()); strings.Contains(target, "memfd:") || strings.Contains(target, "crisp") {
						fmt.Println("LEAKED", target)
					}
				}
			}
		}
	}
}

// While execs come in, nothing of theirs can be opened that is not of the container; also not by who may trace every process that it sees.
func TestAttackThroughExecs(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	config := attacker(t, "roots", func(s *cri.LinuxContainerSecurityContext) {
		s.Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_PTRACE"}}
	})
	config.Envs = append(config.Envs, &cri.KeyValue{Key: "NODE", Value: nodeDir})
	c := p.run(t, config)
	for i := 0; i < 150 && c.status(t).State == cri.ContainerState_CONTAINER_RUNNING; i++ {
		_, _ = c.exec(t, 5, "true")
	}
	c.ended(t)
	if got := c.stdout(t); got != "" {
		t.Errorf("%.600s", got)
	}
}

// Nor while containers are made beside it in its pid namespace.
func TestAttackThroughCreations(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_POD })
	shared := func(s *cri.LinuxContainerSecurityContext) {
		s.NamespaceOptions.Pid = cri.NamespaceMode_POD
		s.Capabilities = &cri.Capability{AddCapabilities: []string{"SYS_PTRACE"}}
	}
	config := attacker(t, "roots", shared)
	config.Envs = append(config.Envs, &cri.KeyValue{Key: "NODE", Value: nodeDir})
	watcher := p.run(t, config)
	for i := 0; i < 100 && watcher.status(t).State == cri.ContainerState_CONTAINER_RUNNING; i++ {
		p.create(t, secure("made-"+strconv.Itoa(i), shared, "true")).remove(t)
	}
	watcher.ended(t)
	if got := watcher.stdout(t); strings.Contains(got, "ESCAPED") || strings.Contains(got, "LEAKED") {
		t.Errorf("%.600s", got)
	}
}

func attackByPtrace() {
	for _, text := range strings.Fields(os.Getenv("PIDS")) {
		pid, _ := strconv.Atoi(text)
		if err := syscall.PtraceAttach(pid); err == nil {
			fmt.Println("TRACED", pid)
		}
		for _, file := range []string{"mem", "environ", "maps", "fd/3", "root/etc/shadow", "cwd/etc", "exe", "syscall", "stack"} {
			path := fmt.Sprintf("/proc/%d/%s", pid, file)
			if f, err := os.Open(path); err == nil {
				n, err := f.Read(make([]byte, 1))
				if n > 0 || (err != nil && strings.Contains(err.Error(), "is a directory")) {
					fmt.Println("READ", path)
				}
				f.Close()
			}
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/mem", pid), []byte("x"), 0); err == nil {
			fmt.Println("WROTE to", pid)
		}
	}
}

// A container that sees the node's processes, as root but without CAP_SYS_PTRACE, gets at neither crispd nor a monitor.
func TestAttackMonitorsFromTheNodesProcesses(t *testing.T) {
	leaveNothing(t)
	p := newPod(t, func(c *cri.PodSandboxConfig) { c.Linux.SecurityContext.NamespaceOptions.Pid = cri.NamespaceMode_NODE })
	ofNode := func(s *cri.LinuxContainerSecurityContext) { s.NamespaceOptions.Pid = cri.NamespaceMode_NODE }
	first := p.run(t, secure("first", ofNode, "sleep", "1000"))
	config := attacker(t, "ptrace", ofNode)
	config.Envs = append(config.Envs, &cri.KeyValue{Key: "PIDS", Value: fmt.Sprint(monitorOf(t, first), " ", crispdPid(t))})
	if got := p.output(t, config); got != "" {
		t.Errorf("%s", got)
	}
	if got := first.sh(t, "echo well"); got != "well\n" {
		t.Errorf("%q", got)
	}
}

// ---- the kernel's files and devices ----

// Nothing that is masked, read-only or not given can be reached, nor made reachable, by root in a container with the default capabilities.
func TestAttackKernelFiles(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	c := p.sleeper(t, "main")
	for _, script := range []string{
		"echo x >/proc/sys/kernel/core_pattern",
		"echo x >/proc/sys/kernel/modprobe",
		"echo h >/proc/sysrq-trigger",
		"echo 1 >/proc/sys/vm/drop_caches",
		"echo 1 >/proc/irq/default_smp_affinity",
		"echo x >/sys/kernel/uevent_helper",
		"mkdir /sys/fs/cgroup/x",
		"for f in /sys/fs/cgroup/*; do mkdir $f/x && exit 0; done; exit 1",
		"echo 0 >/sys/fs/cgroup/cgroup.procs",
		"umount /proc/kcore",
		"umount -l /proc/sys",
		"mount -o remount,rw /proc/sys",
		"mount -t proc proc /root",
		"mount -o bind / /root",
		"mount -t tmpfs tmpfs /root",
		"unshare -m true",
		"nsenter -t 1 -n true",
		"hostname other",
		"chroot /proc/1/root/../../.. ls -d " + nodeDir,
		"mknod /disk b 7 0 && head -c 1 /disk",
		"mknod /disk b 8 0 && head -c 1 /disk",
		"mknod /mem c 1 1 && head -c 1 /mem",
		"mknod /kmsg c 1 11 && echo x >/kmsg",
		"mknod /fuse c 10 229 && head -c 1 /fuse",
		"mknod /loop c 10 237 && head -c 1 /loop",
		"[ $(head -c 1 /proc/kcore | wc -c) -gt 0 ]",
		"[ $(cat /proc/keys | wc -l) -gt 0 ]",
		"[ $(ls /sys/firmware | wc -l) -gt 0 ]",
		"renice -n -5 -p 1",
		"ip link set lo down",
		"date -s 2001-01-01 2>&1 | grep -q 'not permitted' && exit 1",
	} {
		answer, err := c.exec(t, 5, "sh", "-c", script)
		if err == nil && answer.ExitCode == 0 {
			t.Errorf("%s: it can: %s", script, answer.Stdout)
		}
	}
}

// Symlinks in a volume lead a mount's target nowhere but in the container.
func TestAttackSymlinkedTargets(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	volume, victim, source := t.TempDir(), t.TempDir(), t.TempDir()
	for name, target := range map[string]string{"up": strings.Repeat("../", 20) + victim[1:], "absolute": victim, "proc": "/proc", "fd": "/proc/self/fd/3", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(volume, name)); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"up", "absolute", "proc", "fd", "loop", "up/deeper", "absolute/deeper", "proc/self", "fd/deeper"} {
		config := containerConfig("c"+strconv.Itoa(i), "sh", "-c", "mount | grep ' /proc ' | wc -l; cat /proc/self/status | grep -c Name")
		config.Mounts = []*cri.Mount{{HostPath: volume, ContainerPath: "/volume"}, {HostPath: source, ContainerPath: "/volume/" + name}}
		c, err := p.tryCreate(t, config)
		if err != nil {
			continue
		}
		if c.tryStart(t) == nil {
			c.ended(t)
			if got := c.stdout(t); got != "1\n1\n" {
				t.Errorf("%s: %q", name, got)
			}
		}
		c.remove(t)
	}
	if entries := must(os.ReadDir(victim))(t); len(entries) > 0 {
		t.Errorf("%v was made on the node", entries)
	}
	if mounts := must(os.ReadFile("/proc/self/mounts"))(t); bytes.Contains(mounts, []byte(victim)) {
		t.Error("a mount of the node")
	}
}

// ---- privileges ----

// attackByCapset asks for each capability that it does not have.
func attackByCapset() {
	header := [2]uint32{0x20080522, 0}
	var data [6]uint32 // effective, permitted, inheritable; low, then high
	syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0)
	for capability := 0; capability <= 40; capability++ {
		half, bit := capability/32*3, uint32(1)<<(capability%32)
		if data[half+1]&bit != 0 {
			continue
		}
		wanted := data
		wanted[half] |= bit
		wanted[half+1] |= bit
		if _, _, errno := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&wanted)), 0); errno == 0 {
			fmt.Println("GOT", capability)
		}
	}
	fmt.Println("asked")
}

// Capabilities are not raised, by nobody's program: not by asking, by set-user-ID under no_new_privs, by a new user namespace under the default profile.
func TestAttackPrivileges(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	for i, change := range []func(*cri.LinuxContainerSecurityContext){
		ordinary,
		func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1234} },
		func(s *cri.LinuxContainerSecurityContext) {
			s.Seccomp, s.RunAsUser = runtimeDefault, &cri.Int64Value{Value: 1234}
		},
		func(s *cri.LinuxContainerSecurityContext) { s.Seccomp = runtimeDefault },
		func(s *cri.LinuxContainerSecurityContext) {
			s.Seccomp, s.Capabilities = runtimeDefault, &cri.Capability{DropCapabilities: []string{"ALL"}}
		},
	} {
		config := attacker(t, "capset", change)
		config.Metadata.Name = "capset-" + strconv.Itoa(i)
		config.LogPath = config.Metadata.Name + ".log"
		if got := p.output(t, config); got != "asked\n" {
			t.Errorf("%d: %s", i, got)
		}
	}
	// A program with the set-user-ID bit, run by somebody else.
	folder := filepath.Join(rootDir, "setuid-test") // where no nosuid is
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	maker := containerConfig("maker", shell("cp /attack /folder/id && chmod 4755 /folder/id")...)
	maker.Mounts = []*cri.Mount{{HostPath: folder, ContainerPath: "/folder"}, {HostPath: must(os.Executable())(t), ContainerPath: "/attack", Readonly: true}}
	p.output(t, maker)
	for name, want := range map[string]string{"with": "1234\n", "without": "0\n"} {
		config := secure(name, func(s *cri.LinuxContainerSecurityContext) {
			s.RunAsUser, s.NoNewPrivs, s.Seccomp = &cri.Int64Value{Value: 1234}, name == "with", runtimeDefault
		}, "/folder/id")
		config.Envs = []*cri.KeyValue{{Key: "CRISP_ATTACK", Value: "user"}}
		config.Mounts = maker.Mounts
		if got := p.output(t, config); got != want {
			t.Errorf("%s no_new_privs its user is %s", name, got)
		}
	}
	spaced := secure("spaced", func(s *cri.LinuxContainerSecurityContext) {
		s.Seccomp, s.RunAsUser = runtimeDefault, &cri.Int64Value{Value: 1234}
	},
		shell("unshare -U true 2>&1; unshare -Ur id -u 2>&1; true")...)
	if got := p.output(t, spaced); strings.Count(got, "Operation not permitted") != 2 {
		t.Errorf("%q", got)
	}
}

// ---- keys ----

const (
	keyctlGetID     = 0
	sessionKeyring  = ^uintptr(2) // -3
	keyctlSearch    = 10
	keyctlDescribe  = 6
	describeMaximum = 256
)

// attackKeyring tells of its session keyring, leaves a key in it, and looks for one that somebody else left.
func attackKeyring() {
	ring, _, errno := syscall.Syscall(syscall.SYS_KEYCTL, keyctlGetID, sessionKeyring, 0)
	description := make([]byte, describeMaximum)
	n, _, _ := syscall.Syscall6(syscall.SYS_KEYCTL, keyctlDescribe, ring, uintptr(unsafe.Pointer(&description[0])), describeMaximum, 0, 0)
	if errno != 0 || int(n) <= 0 {
		fmt.Println("no keyring", errno)
		return
	}
	fields := strings.Split(strings.TrimRight(string(description[:n]), "\x00"), ";")
	fmt.Println(fields[len(fields)-1])
	kind, name, payload := []byte("user\x00"), []byte("crisp-secret\x00"), []byte("secret")
	if _, _, errno := syscall.Syscall6(syscall.SYS_KEYCTL, keyctlSearch, sessionKeyring, uintptr(unsafe.Pointer(&kind[0])), uintptr(unsafe.Pointer(&name[0])), 0, 0); errno == 0 {
		fmt.Println("found")
	}
	_, _, errno = syscall.Syscall6(syscall.SYS_ADD_KEY, uintptr(unsafe.Pointer(&kind[0])), uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&payload[0])), uintptr(len(payload)), sessionKeyring, 0)
	fmt.Println("left", int(errno))
}

// Each container has a session keyring of its own, which its execs share.
func TestAttackKeyring(t *testing.T) {
	leaveNothing(t)
	if _, err := os.Stat("/proc/keys"); err != nil {
		t.Skip("the kernel has no keyrings")
	}
	p := newPod(t)
	for i := range 2 {
		config := attacker(t, "", ordinary)
		config.Metadata.Name = "c" + strconv.Itoa(i)
		config.LogPath = config.Metadata.Name + ".log"
		config.Command = []string{"sleep", "1000"}
		if i == 1 {
			config.Linux.SecurityContext.RunAsUser = &cri.Int64Value{Value: 1234}
		}
		c := p.run(t, config)
		own := "crisp-" + c.id + "\n"
		if got := c.sh(t, "CRISP_ATTACK=keyring /attack"); got != own+"left 0\n" {
			t.Errorf("the first exec: %q", got)
		}
		if got := c.sh(t, "CRISP_ATTACK=keyring /attack"); got != own+"found\nleft 0\n" {
			t.Errorf("the second exec: %q", got)
		}
	}
}
