package kubelet

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// Pods that look themselves whether all is as the manifest asks: the container `main` prints what it found and ends with 0.
var outcomes = []struct{ name, spec, says string }{
	{"init-containers-run-one-after-the-other", `
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
initContainers:
- {name: one, command: [sh, -c, sleep 1; echo one >>/v/order], volumeMounts: [{name: v, mountPath: /v}]}
- {name: two, command: [sh, -c, echo two >>/v/order], volumeMounts: [{name: v, mountPath: /v}]}
containers:
- {name: main, command: [sh, -c, echo $(cat /v/order)], volumeMounts: [{name: v, mountPath: /v}]}
`, "one two"},
	{"a-sidecar-runs-beside-and-ends-with-the-pod", `
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
initContainers:
- name: sidecar
  restartPolicy: Always
  command: [sh, -c, 'trap "exit 0" TERM; echo up >/v/sidecar; while :; do sleep 0.1; done']
  startupProbe: {exec: {command: [test, -e, /v/sidecar]}, periodSeconds: 1}
  volumeMounts: [{name: v, mountPath: /v}]
containers:
- {name: main, command: [cat, /v/sidecar], volumeMounts: [{name: v, mountPath: /v}]}
`, "up"},
	{"empty-dirs-of-disk-and-memory", `
restartPolicy: Never
volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
containers:
- name: main
  command: [sh, -c, 'echo x >/disk/x && stat -f -c %T /memory && ! dd if=/dev/zero of=/memory/big bs=1M count=2 2>/dev/null && echo full']
  volumeMounts: [{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]
`, "tmpfs full"},
	{"an-empty-dir-is-shared-by-containers", `
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
containers:
- {name: other, command: [sh, -c, echo shared >/v/new && mv /v/new /v/x], volumeMounts: [{name: v, mountPath: /v}]}
- {name: main, command: [sh, -c, 'until cat /v/x 2>/dev/null; do sleep 0.1; done'], volumeMounts: [{name: v, mountPath: /v}]}
`, "shared"},
	{"host-paths-and-their-kinds", `
restartPolicy: Never
volumes:
- {name: made, hostPath: {path: /run/kubelet-test/made, type: DirectoryOrCreate}}
- {name: file, hostPath: {path: /etc/hostname, type: File}}
- {name: device, hostPath: {path: /dev/null, type: CharDevice}}
containers:
- name: main
  command: [sh, -c, 'echo x >/made/x && cat /file && test -c /device && ! touch /file 2>/dev/null && echo read-only']
  volumeMounts: [{name: made, mountPath: /made}, {name: file, mountPath: /file, readOnly: true}, {name: device, mountPath: /device}]
`, "crisp-node read-only"},
	{"sub-paths-of-a-volume", `
restartPolicy: Never
volumes: [{name: v, emptyDir: {}}]
initContainers:
- {name: fill, command: [sh, -c, mkdir -p /v/a/b && echo file >/v/a/b/f && echo sibling >/v/a/s], volumeMounts: [{name: v, mountPath: /v}]}
containers:
- name: main
  env: [{name: WHERE, value: b}]
  command: [sh, -c, 'cat /file /dir/f; ls /dir /new | wc -l']
  volumeMounts: 
  - {name: v, mountPath: /file, subPath: a/b/f}
  - {name: v, mountPath: /dir, subPathExpr: a/$(WHERE)}
  - {name: v, mountPath: /new, subPath: made/by/kubelet}
`, "file file 4"},
	{"the-downward-api-as-files-and-variables", `
restartPolicy: Never
volumes:
- name: v
  downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}, {path: cpu, resourceFieldRef: {containerName: main, resource: limits.cpu, divisor: 1m}}]}
containers:
- name: main
  resources: {limits: {cpu: 250m, memory: 64Mi}}
  env: [{name: WHERE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}]
  command: [sh, -c, 'echo $(cat /v/name) $(cat /v/cpu) $WHERE']
  volumeMounts: [{name: v, mountPath: /v}]
`, "outcomes-the-downward-api-as-files-and-variables-crisp-node 250 default"},
	{"fs-group-and-supplemental-groups", `
restartPolicy: Never
securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000, supplementalGroups: [4000]}
volumes: [{name: v, emptyDir: {}}]
containers:
- {name: main, command: [sh, -c, 'id -u; id -g; id -G; touch /v/x && stat -c %u:%g /v/x'], volumeMounts: [{name: v, mountPath: /v}]}
`, "1000 2000 2000 3000 4000 1000:3000"},
	{"supplemental-groups-strict", `
restartPolicy: Never
securityContext: {runAsUser: 33, runAsGroup: 33, supplementalGroups: [4000], supplementalGroupsPolicy: Strict}
containers:
- {name: main, command: [id, -G]}
`, "33 4000"},
	{"capabilities-dropped-and-added", `
restartPolicy: Never
containers:
- name: main
  securityContext: {capabilities: {drop: [ALL], add: [NET_BIND_SERVICE, SYS_TIME]}}
  command: [awk, '/^Cap(Eff|Bnd)/ { print $2 }', /proc/self/status]
`, "0000000002000400 0000000002000400"},
	{"no-new-privileges", `
restartPolicy: Never
containers:
- {name: main, securityContext: {allowPrivilegeEscalation: false}, command: [awk, '/^NoNewPrivs/ { print $2 }', /proc/self/status]}
`, "1"},
	{"privileged", `
restartPolicy: Never
containers:
- {name: main, securityContext: {privileged: true}, command: [sh, -c, 'test -e /dev/kmsg && mkdir /m && mount -t tmpfs x /m && awk "/^Seccomp:/ { print \$2 }" /proc/self/status']}
`, "0"},
	{"a-read-only-root", `
restartPolicy: Never
containers:
- {name: main, securityContext: {readOnlyRootFilesystem: true}, command: [sh, -c, '! touch /x 2>/dev/null && touch /dev/shm/x && echo so']}
`, "so"},
	{"seccomp-of-the-runtime", `
restartPolicy: Never
securityContext: {seccompProfile: {type: RuntimeDefault}}
containers:
- {name: main, command: [sh, -c, 'awk "/^Seccomp:/ { print \$2 }" /proc/self/status; unshare -U true 2>/dev/null || echo refused']}
`, "2 refused"},
	{"proc-unmasked-in-a-user-namespace", `
restartPolicy: Never
hostUsers: false
containers:
- {name: main, securityContext: {procMount: Unmasked}, command: [sh, -c, 'mount | grep -c "on /proc/" || true']}
`, "0"},
	{"a-user-namespace", `
restartPolicy: Never
hostUsers: false
volumes: [{name: v, emptyDir: {}}, {name: m, emptyDir: {medium: Memory}}]
containers:
- name: main
  command: [sh, -c, 'id -u; awk "{ print (\$2 > 65535 ? \"mapped\" : \"host\"), \$3 }" /proc/self/uid_map; touch /v/x /m/x && stat -c %u /v/x /m/x']
  volumeMounts: [{name: v, mountPath: /v}, {name: m, mountPath: /m}]
`, "0 mapped 65536 0 0"},
	{"a-shared-process-namespace", `
restartPolicy: Never
shareProcessNamespace: true
containers:
- {name: other, command: [sh, -c, 'trap "exit 0" TERM; sleep 4242 & wait']}
- {name: main, command: [sh, -c, 'until pgrep -f "sleep 424[2]"; do sleep 0.1; done >/dev/null; test $$$$ -ne 1 && echo seen; pkill -f "sleep 424[2]"']}
`, "seen"},
	{"processes-of-its-own", `
restartPolicy: Never
containers:
- {name: main, command: [sh, -c, 'echo $$$$']}
`, "1"},
	{"the-hosts-processes", `
restartPolicy: Never
hostPID: true
containers:
- {name: main, command: [sh, -c, 'cat /proc/[0-9]*/comm 2>/dev/null | sort -u | grep -x -e kubelet -e crispd']}
`, "crispd kubelet"},
	{"the-hosts-network", `
restartPolicy: Never
hostNetwork: true
containers:
- {name: main, command: [sh, -c, 'hostname; ip -4 -o address show dev eth0 | grep -o 203.0.113.2']}
`, "crisp-node 203.0.113.2"},
	{"names-of-the-pod", `
restartPolicy: Never
hostname: web
subdomain: sub
hostAliases: [{ip: 192.0.2.7, hostnames: [seven, sept]}]
containers:
- {name: main, command: [sh, -c, 'hostname; grep -w web /etc/hosts | cut -f 2,3; grep -c "192.0.2.7.seven.sept" /etc/hosts']}
`, "web web.sub.default.svc.cluster.test web web.sub.default.svc.cluster.test web 1"},
	{"dns-first-of-the-cluster", `
restartPolicy: Never
dnsPolicy: ClusterFirst
containers:
- {name: main, command: [cat, /etc/resolv.conf]}
`, "search default.svc.cluster.test svc.cluster.test cluster.test nameserver 192.0.2.53 options ndots:5"},
	{"dns-of-the-node", `
restartPolicy: Never
dnsPolicy: Default
containers:
- {name: main, command: [cat, /etc/resolv.conf]}
`, "nameserver 203.0.113.1"},
	{"dns-as-the-manifest-says", `
restartPolicy: Never
dnsPolicy: None
dnsConfig: {nameservers: [192.0.2.1], searches: [a.test], options: [{name: ndots, value: "2"}, {name: edns0}]}
containers:
- {name: main, command: [cat, /etc/resolv.conf]}
`, "search a.test nameserver 192.0.2.1 options ndots:2 edns0"},
	{"sysctls", `
restartPolicy: Never
securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "81"}, {name: kernel.shm_rmid_forced, value: "1"}]}
containers:
- {name: main, command: [cat, /proc/sys/net/ipv4/ip_unprivileged_port_start, /proc/sys/kernel/shm_rmid_forced]}
`, "81 1"},
	{"environment-arguments-and-working-directory", `
restartPolicy: Never
containers:
- {name: main, workingDir: /made, env: [{name: A, value: a}, {name: B, value: $(A)b}], command: [sh, -c, 'pwd; echo "$0" "$1"'], args: [$(B), $$(A)]}
`, "/made ab $(A)"},
	{"an-image-as-a-volume", `
restartPolicy: Never
volumes: [{name: v, image: {reference: "registry.k8s.io/pause:3.9", pullPolicy: IfNotPresent}}]
containers:
- {name: main, command: [sh, -c, 'test -x /v/pause && ! touch /v/x 2>/dev/null && echo read-only'], volumeMounts: [{name: v, mountPath: /v}]}
`, "read-only"},
	{"a-part-of-an-image-as-a-volume", `
restartPolicy: Never
volumes: [{name: v, image: {reference: "docker.io/library/busybox:latest", pullPolicy: IfNotPresent}}]
containers:
- {name: main, command: [sh, -c, 'grep -c ^root: /v/passwd'], volumeMounts: [{name: v, mountPath: /v, subPath: etc}]}
`, "1"},
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	for _, c := range outcomes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, c.spec)
			status := p.ends()
			if says := strings.Join(strings.Fields(p.logs("main")), " "); says != strings.Join(strings.Fields(c.says), " ") {
				t.Errorf("it says %q, not %q", says, c.says)
			}
			if status.Phase != v1.PodSucceeded {
				t.Errorf("it %s", status.Phase)
			}
		})
	}
}
