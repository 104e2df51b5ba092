package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What a pod cannot be is refused with a code and a sentence, and leaves nothing; the same name works right after.
func TestBadPods(t *testing.T) {
	leaveNothing(t)
	for name, bad := range map[string]struct {
		change func(*cri.PodSandboxConfig)
		codes  []codes.Code
		words  []string
	}{
		"no metadata":          {func(c *cri.PodSandboxConfig) { c.Metadata = nil }, is(codes.InvalidArgument), []string{"metadata"}},
		"no name":              {func(c *cri.PodSandboxConfig) { c.Metadata.Name = "" }, is(codes.InvalidArgument), []string{"name"}},
		"relative log folder":  {func(c *cri.PodSandboxConfig) { c.LogDirectory = "logs" }, is(codes.InvalidArgument), []string{"logs"}},
		"unknown sysctl":       {func(c *cri.PodSandboxConfig) { c.Linux.Sysctls = map[string]string{"no.such.sysctl": "1"} }, is(codes.InvalidArgument, codes.NotFound), []string{"no.such.sysctl"}},
		"sysctl of the host":   {func(c *cri.PodSandboxConfig) { c.Linux.Sysctls = map[string]string{"vm.swappiness": "1"} }, is(codes.InvalidArgument), []string{"vm.swappiness"}},
		"sysctl's value":       {func(c *cri.PodSandboxConfig) { c.Linux.Sysctls = map[string]string{"net.ipv4.ip_forward": "maybe"} }, is(codes.InvalidArgument), []string{"net.ipv4.ip_forward"}},
		"cgroup parent escape": {func(c *cri.PodSandboxConfig) { c.Linux.CgroupParent = "/../../escape" }, is(codes.InvalidArgument), []string{".."}},
		"port of no number": {func(c *cri.PodSandboxConfig) {
			c.PortMappings = []*cri.PortMapping{{HostPort: 70000, ContainerPort: 80}}
		}, is(codes.InvalidArgument), []string{"70000"}},
		"negative port": {func(c *cri.PodSandboxConfig) { c.PortMappings = []*cri.PortMapping{{HostPort: -1, ContainerPort: 80}} }, is(codes.InvalidArgument), []string{"-1"}},
		"host IP": {func(c *cri.PodSandboxConfig) {
			c.PortMappings = []*cri.PortMapping{{HostPort: 8000, ContainerPort: 80, HostIp: "nowhere"}}
		}, is(codes.InvalidArgument), []string{"nowhere"}},
		"long hostname": {func(c *cri.PodSandboxConfig) { c.Hostname = strings.Repeat("h", 65) }, is(codes.InvalidArgument), []string{"hostname"}},
		"dns injection": {func(c *cri.PodSandboxConfig) {
			c.DnsConfig = &cri.DNSConfig{Servers: []string{"1.1.1.1\nnameserver 6.6.6.6"}}
		}, is(codes.InvalidArgument), nil},
	} {
		t.Run(name, func(t *testing.T) {
			config := podConfig(t.Name())
			bad.change(config)
			made, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: config})
			fails(t, err, bad.codes, bad.words...)
			if err == nil {
				(&pod{made.PodSandboxId, config}).remove(t)
			}
		})
	}
	_, err := runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{})
	fails(t, err, is(codes.InvalidArgument))
	_, err = runtime.RunPodSandbox(soon(t), &cri.RunPodSandboxRequest{Config: podConfig(t.Name()), RuntimeHandler: "no-such-handler"})
	fails(t, err, is(codes.InvalidArgument, codes.NotFound), "no-such-handler")
	if listed := must(runtime.ListPodSandbox(soon(t), &cri.ListPodSandboxRequest{}))(t).Items; len(listed) != 0 {
		t.Errorf("%d pods are listed", len(listed))
	}
}

// The same for containers: what can be seen at CreateContainer fails there.
func TestBadContainers(t *testing.T) {
	pull(t, registry+"/crisp/programs:latest")
	leaveNothing(t)
	p := newPod(t)
	folder := t.TempDir()
	mount := func(from, to string) func(*cri.ContainerConfig) {
		return func(c *cri.ContainerConfig) { c.Mounts = []*cri.Mount{{HostPath: from, ContainerPath: to}} }
	}
	security := func(change func(*cri.LinuxContainerSecurityContext)) func(*cri.ContainerConfig) {
		return func(c *cri.ContainerConfig) { change(c.Linux.SecurityContext) }
	}
	limits := func(resources *cri.LinuxContainerResources) func(*cri.ContainerConfig) {
		return func(c *cri.ContainerConfig) { c.Linux.Resources = resources }
	}
	for name, bad := range map[string]struct {
		change func(*cri.ContainerConfig)
		codes  []codes.Code
		words  []string
	}{
		"unknown image":       {func(c *cri.ContainerConfig) { c.Image = spec("docker.io/library/never-heard-of:it") }, is(codes.NotFound), []string{"never-heard-of"}},
		"no image":            {func(c *cri.ContainerConfig) { c.Image = nil }, is(codes.InvalidArgument), []string{"image"}},
		"malformed image":     {func(c *cri.ContainerConfig) { c.Image = spec("UPPER/:case:") }, is(codes.InvalidArgument), []string{"UPPER"}},
		"no metadata":         {func(c *cri.ContainerConfig) { c.Metadata = nil }, is(codes.InvalidArgument), []string{"metadata"}},
		"no name":             {func(c *cri.ContainerConfig) { c.Metadata.Name = "" }, is(codes.InvalidArgument), []string{"name"}},
		"unknown user":        {security(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUsername = "nosuchuser" }), is(codes.InvalidArgument, codes.NotFound), []string{"nosuchuser"}},
		"group without user":  {security(func(s *cri.LinuxContainerSecurityContext) { s.RunAsGroup = &cri.Int64Value{Value: 5} }), is(codes.InvalidArgument), []string{"group"}},
		"negative user":       {security(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: -5} }), is(codes.InvalidArgument), []string{"-5"}},
		"user beyond 32 bits": {security(func(s *cri.LinuxContainerSecurityContext) { s.RunAsUser = &cri.Int64Value{Value: 1 << 33} }), is(codes.InvalidArgument), []string{"8589934592"}},
		"unknown capability": {security(func(s *cri.LinuxContainerSecurityContext) {
			s.Capabilities = &cri.Capability{AddCapabilities: []string{"FLY"}}
		}), is(codes.InvalidArgument), []string{"FLY"}},
		"mount source in proc":  {mount("/proc/no-such-source", "/mnt"), is(codes.NotFound, codes.InvalidArgument), []string{"/proc/no-such-source"}},
		"mount source relative": {mount("relative", "/mnt"), is(codes.InvalidArgument), []string{"relative"}},
		"mount onto /proc":      {mount(folder, "/proc"), is(codes.InvalidArgument), []string{"/proc"}},
		"mount into /proc":      {mount(folder, "/proc/sys"), is(codes.InvalidArgument), []string{"/proc/sys"}},
		"mount onto /":          {mount(folder, "/"), is(codes.InvalidArgument), []string{"/"}},
		"mount without target":  {mount(folder, ""), is(codes.InvalidArgument), []string{"mount"}},
		"negative memory":       {limits(&cri.LinuxContainerResources{MemoryLimitInBytes: -5}), is(codes.InvalidArgument), []string{"memory", "-5"}},
		"negative cpu quota":    {limits(&cri.LinuxContainerResources{CpuQuota: -5, CpuPeriod: 100000}), is(codes.InvalidArgument), []string{"quota", "-5"}},
		"negative cpu shares":   {limits(&cri.LinuxContainerResources{CpuShares: -5}), is(codes.InvalidArgument), []string{"shares", "-5"}},
		"oom_score_adj":         {limits(&cri.LinuxContainerResources{OomScoreAdj: 1001}), is(codes.InvalidArgument), []string{"1001"}},
		"cpuset":                {limits(&cri.LinuxContainerResources{CpusetCpus: "100000-"}), is(codes.InvalidArgument), []string{"cpuset_cpus"}},
		"log path by ..":        {func(c *cri.ContainerConfig) { c.LogPath = "../escaped.log" }, is(codes.InvalidArgument), []string{"../escaped.log"}},
		"log path absolute":     {func(c *cri.ContainerConfig) { c.LogPath = "/var/tmp/crisp-escaped.log" }, is(codes.InvalidArgument), []string{"crisp-escaped.log"}},
		"unknown stop signal":   {func(c *cri.ContainerConfig) { c.StopSignal = 200 }, is(codes.InvalidArgument), []string{"signal"}},
		"device missing": {func(c *cri.ContainerConfig) {
			c.Devices = []*cri.Device{{HostPath: "/dev/no-such", ContainerPath: "/dev/x", Permissions: "rw"}}
		}, is(codes.NotFound, codes.InvalidArgument), []string{"/dev/no-such"}},
		"variable without name": {func(c *cri.ContainerConfig) { c.Envs = []*cri.KeyValue{{Key: "", Value: "x"}} }, is(codes.InvalidArgument), nil},
		"pid of no container": {security(func(s *cri.LinuxContainerSecurityContext) {
			s.NamespaceOptions = &cri.NamespaceOption{Pid: cri.NamespaceMode_TARGET, TargetId: strings.Repeat("e", 64)}
		}), is(codes.NotFound, codes.InvalidArgument), nil},
		"a working dir that is a file": {func(c *cri.ContainerConfig) { c.WorkingDir = "/etc/passwd" }, is(codes.InvalidArgument, codes.FailedPrecondition), []string{"/etc/passwd"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := containerConfig("main", "true")
			bad.change(config)
			c, err := p.tryCreate(t, config)
			fails(t, err, bad.codes, bad.words...)
			if err == nil {
				c.remove(t)
			}
		})
	}
	if listed := must(runtime.ListContainers(soon(t), &cri.ListContainersRequest{}))(t).Containers; len(listed) != 0 {
		t.Errorf("%d containers are listed", len(listed))
	}
	p.create(t, containerConfig("main", "true"))
	if _, err := os.Stat("/var/tmp/crisp-escaped.log"); err == nil {
		t.Error("a log escaped")
	}
}

// What only exec(2) can tell fails at StartContainer (or at CreateContainer), names the command and the errno; the container
// can be looked at, removed, and made again.
func TestBadCommands(t *testing.T) {
	name := registry + "/crisp/programs:latest"
	pull(t, name)
	leaveNothing(t)
	p := newPod(t)
	for command, bad := range map[string]struct {
		codes []codes.Code
		words []string
	}{
		"no-such-command":       {is(codes.NotFound, codes.InvalidArgument), []string{"no-such-command"}},
		"/no/such/command":      {is(codes.NotFound, codes.InvalidArgument), []string{"/no/such/command", "No such file or directory"}},
		"/bin/not-executable":   {is(codes.PermissionDenied, codes.InvalidArgument), []string{"/bin/not-executable", "Permission denied"}},
		"/bin/foreign":          {is(codes.InvalidArgument, codes.FailedPrecondition, codes.Unimplemented, codes.Internal), []string{"/bin/foreign", "Exec format error"}},
		"/bin/no-interpreter":   {is(codes.NotFound, codes.InvalidArgument), []string{"/bin/no-interpreter"}},
		"/etc":                  {is(codes.PermissionDenied, codes.InvalidArgument), []string{"/etc"}},
		"/links/loop":           {is(codes.InvalidArgument), []string{"/links/loop"}},
		"/etc/passwd/no-folder": {is(codes.InvalidArgument, codes.NotFound), []string{"/etc/passwd/no-folder"}},
	} {
		t.Run(strings.ReplaceAll(command, "/", "_"), func(t *testing.T) {
			config := containerConfig("main", command)
			config.Image = spec(name)
			c, err := p.tryCreate(t, config)
			if err == nil {
				defer c.remove(t)
				err = c.tryStart(t)
				if status := c.status(t); status.State != cri.ContainerState_CONTAINER_EXITED || status.ExitCode == 0 {
					t.Errorf("%v, exit code %d, after a start that failed", status.State, status.ExitCode)
				}
			}
			fails(t, err, bad.codes, bad.words...)
		})
	}
}

// A path that leads out of the container's root, by .. or by a symlink, is one inside of it.
func TestPathsThatEscape(t *testing.T) {
	name := registry + "/crisp/programs:latest"
	pull(t, name)
	leaveNothing(t)
	p := newPod(t)
	folder, victim := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "inside"), []byte("inside\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/../../.." + victim, "/links/up" + victim, "/tmp/../../../.." + victim, "/links/etc/deep", "/links/up/links/etc/deeper"} {
		config := containerConfig("main", "find", "/", "-xdev", "-name", "inside")
		config.Image = spec(name)
		config.Mounts = []*cri.Mount{{HostPath: folder, ContainerPath: target}}
		c, err := p.tryCreate(t, config)
		if err != nil {
			fails(t, err, is(codes.InvalidArgument))
			continue
		}
		if err := c.tryStart(t); err != nil {
			t.Errorf("%s: %v", target, err)
		} else {
			c.ended(t)
		}
		c.remove(t)
	}
	config := containerConfig("main", "true")
	config.Image = spec(name)
	config.WorkingDir = "/links/up" + victim + "/made"
	if c, err := p.tryCreate(t, config); err == nil {
		_ = c.tryStart(t)
		c.remove(t)
	}
	for _, path := range []string{victim, "/etc/deep", "/etc/deeper"} {
		if entries, err := os.ReadDir(path); len(entries) > 0 || (path != victim && err == nil) {
			t.Errorf("%s of the node was changed", path)
		}
	}
}

func TestBadIds(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	// Sixteen digits, seventeen containers: two begin alike.
	var ids []string
	for i := range 17 {
		ids = append(ids, p.create(t, containerConfig("c"+string(rune('a'+i)), "true")).id)
	}
	ambiguous := ""
	for i, id := range ids {
		for _, other := range ids[:i] {
			if id[0] == other[0] {
				ambiguous = id[:1]
			}
		}
	}
	for id, want := range map[string][]codes.Code{
		strings.Repeat("e", 64): is(codes.NotFound),
		ambiguous:               is(codes.InvalidArgument),
		"../../../etc/passwd":   is(codes.InvalidArgument, codes.NotFound),
		"a/b":                   is(codes.InvalidArgument, codes.NotFound),
		"":                      is(codes.InvalidArgument, codes.NotFound),
		"not hex":               is(codes.InvalidArgument, codes.NotFound),
	} {
		_, err := runtime.ContainerStatus(soon(t), &cri.ContainerStatusRequest{ContainerId: id})
		fails(t, err, want)
		_, err = runtime.StartContainer(soon(t), &cri.StartContainerRequest{ContainerId: id})
		fails(t, err, want)
		_, err = runtime.ExecSync(soon(t), &cri.ExecSyncRequest{ContainerId: id, Cmd: []string{"true"}})
		fails(t, err, want)
		_, err = runtime.ContainerStats(soon(t), &cri.ContainerStatsRequest{ContainerId: id})
		fails(t, err, want)
		_, err = runtime.ReopenContainerLog(soon(t), &cri.ReopenContainerLogRequest{ContainerId: id})
		fails(t, err, want)
		_, err = runtime.UpdateContainerResources(soon(t), &cri.UpdateContainerResourcesRequest{ContainerId: id, Linux: &cri.LinuxContainerResources{}})
		fails(t, err, want)
	}
	if status := must(runtime.ContainerStatus(soon(t), &cri.ContainerStatusRequest{ContainerId: ids[0][:32]}))(t).Status; status.Id != ids[0] {
		t.Errorf("by a unique prefix: %s, want %s", status.Id, ids[0])
	}
	_, err := runtime.StopContainer(soon(t), &cri.StopContainerRequest{ContainerId: ambiguous})
	fails(t, err, is(codes.InvalidArgument))
	_, err = runtime.RemoveContainer(soon(t), &cri.RemoveContainerRequest{ContainerId: ambiguous})
	fails(t, err, is(codes.InvalidArgument))
	_, err = runtime.PodSandboxStatus(soon(t), &cri.PodSandboxStatusRequest{PodSandboxId: strings.Repeat("e", 64)})
	fails(t, err, is(codes.NotFound))
	_, err = runtime.CreateContainer(soon(t), &cri.CreateContainerRequest{PodSandboxId: strings.Repeat("e", 64), Config: containerConfig("main", "true"), SandboxConfig: podConfig("x")})
	fails(t, err, is(codes.NotFound))
}

// A sandbox that is not ready takes no container, and a container is started once.
func TestWrongStates(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	c := p.run(t, containerConfig("main", "sleep", "1000"))
	fails(t, c.tryStart(t), is(codes.FailedPrecondition))
	created := p.create(t, containerConfig("created", "true"))
	must(runtime.StopPodSandbox(soon(t), &cri.StopPodSandboxRequest{PodSandboxId: p.id}))(t)
	_, err := p.tryCreate(t, containerConfig("late", "true"))
	fails(t, err, is(codes.FailedPrecondition), "ready")
	fails(t, created.tryStart(t), is(codes.FailedPrecondition))
	fails(t, c.tryStart(t), is(codes.FailedPrecondition))
	if state := p.status(t).State; state != cri.PodSandboxState_SANDBOX_NOTREADY {
		t.Errorf("a stopped pod is %v", state)
	}
}
