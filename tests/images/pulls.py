"""The images of `hack/bench pull`, under bench/. What is in their files is half random: it compresses to half, as programs do."""

import os
import random

from layer import Layer, Tree
from registry import Image


def content(seed, size):
    return random.Random(seed).randbytes(size // 2).hex().encode()


def folder(name, files, size):
    """A layer of one directory with so many files."""
    layer = Layer().dir(name)
    for i in range(files):
        layer.file(f"{name}/{i}", content(f"{name}/{i}", size))
    return layer


def small_files(count):
    """As a node_modules has them: 100 in a directory, up to 4 KiB."""
    layer = Layer().dir("files")
    for i in range(count):
        if i % 100 == 0:
            layer.dir(f"files/{i // 100}")
        layer.file(f"files/{i // 100}/{i}.js", content(i, 64 + i * 2654435761 % 4000))
    return layer


def pulls(work):
    big = Tree(os.path.join(work, "debian"))
    forty = [folder(f"layer-{i}", 16, 16384) for i in range(40)]
    yield "bench/big:latest", Image([big])
    yield "bench/layers:latest", Image(forty)
    yield "bench/files:latest", Image([small_files(60000)])
    yield "bench/last:latest", Image([*forty, folder("application", 50, 160000)])
    for i in range(20):
        yield f"bench/many-{i}:latest", Image([forty[0], folder(f"many-{i}", 64, 32768)])
