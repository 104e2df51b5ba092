#!/usr/bin/env python3
"""tests/images/build.py quickstart|all|pulls STORAGE BUSYBOX WORK: make the images of the tests and push them into a
docker-registry whose storage is STORAGE. Must run where 127.0.0.1:5000 is free (a network namespace of its own).

`quickstart` is one image of BUSYBOX; `all` is what critest 1.36 names (its images/ and pkg/validate tell what each must
hold) and what tests/e2e names; `pulls` what hack/bench pull names. Everything is made from programs of this machine's Debian packages and of this folder."""

import os
import subprocess
import sys

from layer import Layer, digest, libraries
from pulls import pulls
from registry import Image, Index, Registry, machine

HERE = os.path.dirname(os.path.abspath(__file__))
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """\
root:x:0:
daemon:x:1:
tty:x:5:
www-data:x:33:
users:x:100:
nogroup:x:65534:
"""


def busybox_layer(busybox, passwd=PASSWD, group=GROUP):
    """Hard links, as Docker's busybox has it: masking /bin/ls must not mask the rest."""
    layer = Layer()
    for name, mode in (("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("proc", 0o755), ("root", 0o700),
                       ("sys", 0o755), ("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755), ("usr/sbin", 0o755),
                       ("var", 0o755), ("var/run", 0o755), ("var/log", 0o755), ("var/tmp", 0o1777)):
        layer.dir(name, mode)
    layer.copy(busybox, "bin/busybox", 0o755)
    for applet in sorted(set(subprocess.run([busybox, "--list"], stdout=subprocess.PIPE, check=True, text=True).stdout.split())):
        if applet != "busybox":
            layer.hardlink("bin/" + applet, "bin/busybox", 0o755)
    layer.symlink("usr/bin/env", "../../bin/env")
    layer.file("etc/passwd", passwd).file("etc/group", group)
    return layer


def compiled(name, work):
    out = os.path.join(work, name)
    subprocess.run(["gcc", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror", os.path.join(HERE, name + ".c"), "-o", out], check=True)
    return out


def nginx_layer(port):
    layer = Layer()
    for name in ("etc/nginx", "var/log/nginx", "var/lib/nginx", "usr/share/nginx/html"):
        layer.dir(name)
    for path in ["/usr/sbin/nginx", *libraries("/usr/sbin/nginx")]:
        layer.copy(path, mode=0o755)
    layer.symlink("var/log/nginx/access.log", "/dev/stdout").symlink("var/log/nginx/error.log", "/dev/stderr")
    layer.file("usr/share/nginx/html/index.html", "<html><title>nginx</title>It works.</html>\n")
    layer.file("etc/nginx/nginx.conf", f"""\
user www-data;
worker_processes 1;
pid /var/run/nginx.pid;
error_log /var/log/nginx/error.log notice;
events {{ worker_connections 64; }}
http {{
    access_log /var/log/nginx/access.log;
    server {{
        listen {port};
        listen [::]:{port};
        root /usr/share/nginx/html;
    }}
}}
""")
    return layer


def httpd_layer():
    """Under the name httpd: a spec looks for that word in the log, where the server prints its command line."""
    modules = {name: f"/usr/lib/apache2/modules/mod_{name}.so" for name in ("mpm_prefork", "authz_core", "dir")}
    layer = Layer()
    for name in ("usr/local/apache2/bin", "usr/local/apache2/modules", "usr/local/apache2/htdocs", "usr/local/apache2/logs"):
        layer.dir(name)
    layer.copy("/usr/sbin/apache2", "usr/local/apache2/bin/httpd", 0o755)
    for path in libraries("/usr/sbin/apache2", *modules.values()):
        layer.copy(path, mode=0o755)
    for path in modules.values():
        layer.copy(path, "usr/local/apache2/modules/" + os.path.basename(path))
    layer.file("usr/local/apache2/htdocs/index.html", "<html><body>It works!</body></html>\n")
    layer.file("usr/local/apache2/httpd.conf", "ServerRoot /usr/local/apache2\n" + "".join(
        f"LoadModule {name}_module modules/mod_{name}.so\n" for name in modules) + """\
ServerName localhost
PidFile logs/httpd.pid
DefaultRuntimeDir /usr/local/apache2/logs
User www-data
Group www-data
Listen 80
ErrorLog /proc/self/fd/2
LogLevel notice
DocumentRoot /usr/local/apache2/htdocs
DirectoryIndex index.html
""")
    return layer


def named_file(name):
    return Layer().file(name, name + "\n")


def critest(busybox, work):
    base = busybox_layer(busybox)
    e2e, staging = "e2e-test-images/", "k8s-staging-cri-tools/"

    def image(*layers, **config):
        return Image([base, *layers], docker=True, **{"Env": [PATH], "Cmd": ["sh"], **config})

    yield e2e + "busybox:1.29-2", image()
    yield e2e + "nginx:1.14-2", image(nginx_layer(80), Cmd=["nginx", "-g", "daemon off;"], StopSignal="SIGTERM", ExposedPorts={"80/tcp": {}})
    yield e2e + "httpd:2.4.39-4", image(httpd_layer(), StopSignal="SIGWINCH", ExposedPorts={"80/tcp": {}}, WorkingDir="/usr/local/apache2",
                                        Cmd=["/usr/local/apache2/bin/httpd", "-f", "/usr/local/apache2/httpd.conf", "-D", "FOREGROUND"])
    nnp = Layer().copy(compiled("nonewprivs", work), "nnp", 0o4755)
    yield e2e + "nonewprivs:1.3", image(nnp, Entrypoint=["/nnp"], Cmd=None)

    yield staging + f"hostnet-nginx-{machine()}:latest", image(nginx_layer(12003), Cmd=["nginx", "-g", "daemon off;"])
    for suffix, user in (("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:100"), ("username-group", "www-data:100")):
        yield staging + f"test-image-user-{suffix}:latest", image(User=user)
    groups = busybox_layer(busybox, PASSWD + "default-user:x:1000:1000::/home/default-user:/bin/sh\n",
                           GROUP + "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")
    yield staging + "test-image-predefined-group:latest", Image([groups], docker=True, Env=[PATH], Cmd=["sh"], User="1000")
    for name in ("test-image-latest:latest", "test-image-tag:test", "test-image-tag:all",
                 "test-image-1:latest", "test-image-2:latest", "test-image-3:latest"):
        yield staging + name, image(named_file(name.replace(":", "-")))
    tags = image(named_file("test-image-tags"))
    for tag in "123":
        yield staging + "test-image-tags:" + tag, tags
    pause = Layer().copy(compiled("pause", work), "pause", 0o755)
    yield "pause:3.9", Image([pause], docker=True, Env=[PATH], Entrypoint=["/pause"], User="65535:65535")


def library(busybox):
    """The plain busybox of docker.io: an index of two platforms, of which one is this machine's."""
    here = Image([busybox_layer(busybox)], Env=[PATH], Cmd=["sh"])
    foreign = "arm64" if machine() == "amd64" else "amd64"
    there = Image([Layer().dir("bin").file("bin/sh", "not for this machine\n", 0o755)], architecture=foreign, Cmd=["sh"])
    yield "library/busybox:latest", Index(there, here)


def crisp(busybox, work):
    """What tests/e2e names, under crisp/."""
    base = busybox_layer(busybox)

    def image(*layers, **config):
        return Image([base, *layers], **{"Env": [PATH], "Cmd": ["sh"], **config})

    users = busybox_layer(busybox, PASSWD + "app:x:1234:2345:app:/home/app:/bin/sh\n", GROUP + "app:x:2345:\nextra:x:3456:app\n")
    yield "crisp/config:latest", Image(
        [users], Env=[PATH, "GREETING=hello", "EMPTY="], Entrypoint=["/bin/sh", "-c"], Cmd=["trap 'exit 10' USR1; echo default; sleep 1000 & wait"],
        User="app", WorkingDir="/made/by/the/runtime", StopSignal="SIGUSR1", Labels={"org.crisp.test": "config"},
        Volumes={"/var/data": {}}, ExposedPorts={"8080/tcp": {}})

    # Each layer by another compression; every kind of change. What must be left stands in tests/e2e/images_test.go.
    changes = [
        Layer("gzip").dir("tree").file("tree/kept", "kept\n").file("tree/gone", "gone\n").file("tree/changed", "old\n", 0o644)
        .dir("tree/sub").file("tree/sub/a", "a\n").file("tree/sub/b", "b\n").dir("tree/hidden").file("tree/hidden/old", "old\n")
        .file("tree/owned", "owned\n", 0o640, uid=1234, gid=2345).file("tree/setuid", "x", 0o4755)
        .file("tree/linked", "linked\n").hardlink("tree/linked-too", "tree/linked").symlink("tree/symlink", "kept")
        .symlink("tree/dangling", "/no/such/file").symlink("tree/absolute", "/etc/passwd"),
        Layer("zstd").whiteout("tree/gone").file("tree/changed", "new\n", 0o600).whiteout("tree/sub")
        .dir("tree/hidden").opaque("tree/hidden").file("tree/hidden/new", "new\n"),
        Layer("none").dir("tree/sub").file("tree/sub/c", "c\n").file("tree/xattr", "x", xattrs={"user.crisp": "value"})
        .file("tree/capable", "x", 0o755, xattrs={"security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"})
        .file("tree/\u00fcn\u00efc\u00f6de", "unicode\n").file("tree/" + "long" * 60, "long\n")
        .file("tree/dated", "dated\n", mtime=1234567890).add("tree/fifo", b"6", 0o644).add("tree/null", b"3", 0o666, device=(1, 3)),
    ]
    yield "crisp/changes:latest", image(*changes)
    yield "crisp/many-layers:latest", image(*[Layer().dir("n").file(f"n/{i:03}", f"{i}\n").file("n/last", f"{i}\n") for i in range(299)])
    yield "crisp/empty-layer:latest", image(Layer())

    # What has no configuration to run by, for image mounts.
    data = [
        Layer().dir("models").file("models/small", "small\n").dir("models/deep").file("models/deep/weights", "weights\n").file("models/gone", "gone\n")
        .file("run", "#!/bin/sh\necho ran\n", 0o755).symlink("models/latest", "deep").symlink("absolute", "/models/deep").symlink("root", "/")
        .symlink("up", "../../../../../.."),
        Layer().whiteout("models/gone").file("models/new", "new\n"),
    ]
    yield "crisp/data:latest", Image(data)
    yield "crisp/data-one:latest", Image(data[:1])

    foreign = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(44)  # EM_RISCV: nowhere a machine of the tests
    yield "crisp/programs:latest", image(
        Layer().file("bin/foreign", foreign, 0o755).file("bin/not-executable", "#!/bin/sh\n", 0o644)
        .file("bin/no-interpreter", "#!/no/such/interpreter\n", 0o755).dir("links").symlink("links/up", "../../../../../..")
        .symlink("links/etc", "/etc").symlink("links/loop", "loop"))
    other = Image([Layer().file("x", "x")], architecture="riscv64")
    yield "crisp/other-platform:latest", Index(other)

    # Layers that try to write outside of themselves. A pull either fails or stays inside.
    yield "crisp/escape-dotdot:latest", image(Layer().file("../../../../../../../../var/tmp/crisp-escaped", "escaped\n"))
    yield "crisp/escape-absolute:latest", image(Layer().file("/var/tmp/crisp-escaped", "inside\n"))
    yield "crisp/escape-symlink:latest", image(Layer().symlink("out", "/var/tmp").file("out/crisp-escaped", "escaped\n"))
    yield "crisp/escape-symlink-earlier:latest", image(Layer().symlink("out", "../../../../../../../../../var/tmp"), Layer().file("out/crisp-escaped", "escaped\n"))
    yield "crisp/escape-hardlink:latest", image(Layer().hardlink("stolen", "../../../../../../../../etc/passwd"))
    yield "crisp/escape-whiteout:latest", image(Layer().symlink("out", "/var/tmp").whiteout("out/crisp-escape-victim"))
    yield "crisp/wrong-diff-id:latest", image(named_file("x"), diff_ids=[digest(b"no"), digest(b"such")])


def main():
    which, storage, busybox, work = sys.argv[1:]
    images = list(pulls(work) if which == "pulls" else library(busybox))
    if which == "all":
        images += [*critest(busybox, work), *crisp(busybox, work)]
    os.makedirs(storage, exist_ok=True)
    with Registry(storage, 5000, os.path.join(work, "registry.log")) as registry:
        for name, image in images:
            image.push(registry, *name.rsplit(":", 1))


main()
