"""A layer of an image: a tar made from a list of entries, the same bytes each time."""

import gzip
import hashlib
import io
import os
import subprocess
import tarfile

MTIME = 1700000000

# How the bytes of a layer travel: suffix of the OCI media type, and whether Docker's schema 2 knows it.
COMPRESSIONS = {"gzip": "tar+gzip", "zstd": "tar+zstd", "none": "tar"}


class Layer:
    def __init__(self, compression="gzip"):
        self.compression = compression
        self.entries = []
        self.made = None

    def add(self, name, kind, mode, data=b"", link="", uid=0, gid=0, mtime=MTIME, xattrs=None, device=(0, 0)):
        entry = tarfile.TarInfo(name)
        entry.type = kind
        entry.mode = mode
        entry.uid, entry.gid = uid, gid
        entry.mtime = mtime
        entry.linkname = link
        entry.size = len(data)
        entry.devmajor, entry.devminor = device
        for key, value in (xattrs or {}).items():
            entry.pax_headers["SCHILY.xattr." + key] = value
        self.entries.append((entry, data))
        return self

    def dir(self, name, mode=0o755, **more):
        return self.add(name, tarfile.DIRTYPE, mode, **more)

    def file(self, name, data, mode=0o644, **more):
        return self.add(name, tarfile.REGTYPE, mode, data if isinstance(data, bytes) else data.encode(), **more)

    def symlink(self, name, target, **more):
        return self.add(name, tarfile.SYMTYPE, 0o777, link=target, **more)

    def hardlink(self, name, target, mode=0o644, **more):
        """The entry's mode, owner and times are those of the one file that it and its target are."""
        return self.add(name, tarfile.LNKTYPE, mode, link=target, **more)

    def copy(self, path, name=None, mode=None):
        """A file of this machine, under its own name or another."""
        with open(path, "rb") as f:
            return self.file((name or path).lstrip("/"), f.read(), mode or os.stat(path).st_mode & 0o777)

    def whiteout(self, name):
        head, tail = os.path.split(name)
        return self.file(os.path.join(head, ".wh." + tail), b"")

    def opaque(self, name):
        return self.file(os.path.join(name, ".wh..wh..opq"), b"")

    def tar(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for entry, data in self.entries:
                archive.addfile(entry, io.BytesIO(data))
        return out.getvalue()

    def packed(self):
        """(bytes as they travel, media type suffix, digest of the tar), made once: layers are shared by images."""
        if not self.made:
            self.made = self.pack()
        return self.made

    def pack(self):
        tar = self.tar()
        if self.compression == "gzip":
            data = gzip.compress(tar, compresslevel=6, mtime=0)
        elif self.compression == "zstd":
            data = subprocess.run(["zstd", "-q", "-c"], input=tar, stdout=subprocess.PIPE, check=True).stdout
        else:
            data = tar
        return data, COMPRESSIONS[self.compression], digest(tar)


class Tree(Layer):
    """A directory of this machine."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def tar(self):
        command = ["tar", "--sort=name", "--numeric-owner", "-C", self.path, "-c", "."]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def libraries(*programs):
    """The shared objects that the programs are run with, by their names on this machine."""
    found = set()
    for program in programs:
        for line in subprocess.run(["ldd", program], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines():
            for word in line.split():
                if word.startswith("/"):
                    found.add(word)
                    break
    return sorted(found)
