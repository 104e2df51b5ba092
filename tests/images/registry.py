"""A docker-registry on a storage directory, on loopback, for as long as a `with` lasts; and what an image is there."""

import http.client
import json
import os
import subprocess
import time

from layer import digest

DOCKER = "application/vnd.docker."
OCI = "application/vnd.oci.image."


class Registry:
    def __init__(self, storage, port, log):
        self.storage, self.port, self.log = storage, port, log
        self.present = set()

    def __enter__(self):
        config = self.log + ".yml"
        with open(config, "w") as f:
            f.write(
                "version: 0.1\nlog: {level: error}\n"
                f"storage:\n  filesystem: {{rootdirectory: {self.storage}}}\n"
                f"http: {{addr: '127.0.0.1:{self.port}'}}\n"
            )
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
        for _ in range(200):
            try:
                if self.ask("GET", "/v2/")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise SystemExit("docker-registry does not answer; its log: " + self.log)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def expect(self, want, method, path, body=None, headers=None):
        status, answer, headers = self.ask(method, path, body, headers)
        if status != want:
            raise SystemExit(f"{method} {path}: {status} {answer.decode(errors='replace')}")
        return headers

    def push_blob(self, name, data):
        key = (name, digest(data))
        if key not in self.present:
            where = self.expect(202, "POST", f"/v2/{name}/blobs/uploads/")["Location"]
            where = where[where.index("/v2/"):]
            self.expect(201, "PUT", where + f"&digest={digest(data)}", data, {"Content-Type": "application/octet-stream"})
            self.present.add(key)
        return digest(data)

    def push_manifest(self, name, reference, media_type, manifest):
        data = json.dumps(manifest, indent=3, sort_keys=True).encode()
        self.expect(201, "PUT", f"/v2/{name}/manifests/{reference or digest(data)}", data, {"Content-Type": media_type})
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


class Image:
    """A configuration and layers; `docker` says in which of the two formats it is pushed."""

    def __init__(self, layers, docker=False, architecture=None, variant=None, diff_ids=None, **config):
        self.layers, self.docker, self.config = layers, docker, config
        self.platform = {"os": "linux", "architecture": architecture or machine()}
        if variant:
            self.platform["variant"] = variant
        self.diff_ids = diff_ids

    def push(self, registry, name, tag=None):
        layers, diff_ids = [], []
        for layer in self.layers:
            data, suffix, diff_id = layer.packed()
            media_type = DOCKER + "image.rootfs.diff.tar.gzip" if self.docker else OCI + "layer.v1." + suffix
            layers.append({"mediaType": media_type, "digest": registry.push_blob(name, data), "size": len(data)})
            diff_ids.append(diff_id)
        config = json.dumps(
            {
                **self.platform,
                "created": "2023-11-14T22:13:20Z",
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": self.diff_ids or diff_ids},
                "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "tests/images"} for _ in layers],
            },
            sort_keys=True,
        ).encode()
        media_type = (DOCKER + "distribution.manifest.v2+json") if self.docker else (OCI + "manifest.v1+json")
        config_type = (DOCKER + "container.image.v1+json") if self.docker else (OCI + "config.v1+json")
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {"mediaType": config_type, "digest": registry.push_blob(name, config), "size": len(config)},
            "layers": layers,
        }
        return registry.push_manifest(name, tag, media_type, manifest)


class Index:
    """Several images under one name, by platform."""

    def __init__(self, *images, docker=False):
        self.images, self.docker = images, docker

    def push(self, registry, name, tag=None):
        media_type = (DOCKER + "distribution.manifest.list.v2+json") if self.docker else (OCI + "index.v1+json")
        manifests = [{**image.push(registry, name), "platform": image.platform} for image in self.images]
        return registry.push_manifest(name, tag, media_type, {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests})


def machine():
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return names.get(os.uname().machine, os.uname().machine)
