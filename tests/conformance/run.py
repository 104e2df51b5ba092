"""Runs critest in a node and reads its report; hack/conformance says the rest."""

import json
import os
import pathlib
import re
import subprocess
import sys
from collections import Counter

HERE = os.path.dirname(os.path.abspath(__file__))
PASSED, SKIPPED = {"passed"}, {"skipped", "pending"}
NODES = ("It",)


def left_out():
    lines = pathlib.Path(HERE, "skip").read_text().splitlines()
    return [line.split("\t", 1) for line in lines if line and not line.startswith("#")]


def specs(reports):
    for report in reports:
        for suite in json.loads(report.read_text()):
            for spec in suite["SpecReports"] or []:
                name = " ".join((spec["ContainerHierarchyTexts"] or []) + [spec["LeafNodeText"]])
                # A failure in BeforeSuite is a failure too, though no spec ran.
                if spec["LeafNodeType"] in NODES or spec["State"] not in PASSED | SKIPPED:
                    yield name or spec["LeafNodeType"], spec["State"], spec.get("Failure", {})


def why(name, failure, skips):
    """Why a spec was skipped; None: another flag of the caller leaves it out."""
    if failure.get("Message"):
        return failure["Message"]
    for pattern, reason in skips:
        if re.search(pattern, name):
            return reason
    if "benchmark" in name:
        return "a benchmark, which critest runs only with -benchmark"
    return None


def focus_of(flags):
    given = re.search(r"(?:^|\0)--?ginkgo\.focus[=\0]([^\0]*)", "\0".join(flags))
    return given[1] if given else ""


def main():
    flags = sys.argv[1:]
    focus = focus_of(flags)
    skips = left_out()
    if "--everything" in flags:
        flags.remove("--everything")
        skips = []
    work = pathlib.Path(os.environ["TMPDIR"], "critest")
    work.mkdir()
    command = ["critest", "-ginkgo.json-report=report.json", "-ginkgo.no-color", *(f"-ginkgo.skip={pattern}" for pattern, _ in skips), *flags]
    status = subprocess.run(command, cwd=work, env={**os.environ, "TMPDIR": str(work)}).returncode
    # In parallel, ginkgo puts the report beside the program's link in a directory of critest's.
    found = list(specs(work.rglob("report.json")))
    counts = Counter()
    lines = {"skipped": [], "failed": []}
    for name, state, failure in sorted(found, key=lambda spec: spec[:2]):
        kind = "passed" if state in PASSED else "skipped" if state in SKIPPED else "failed"
        if kind == "skipped" and not re.search(focus, name):
            continue
        counts[kind] += 1
        text = why(name, failure, skips) if kind == "skipped" else failure.get("Message") or state
        if kind != "passed" and text:
            lines[kind].append(f"  {name}: {' '.join(text.split())[:400]}")
    for kind in ("skipped", "failed"):
        if lines[kind]:
            print(f"\n{kind}:", *lines[kind], sep="\n")
    if status != 0 and not counts["failed"]:
        print(f"\ncritest itself failed ({status})")
        counts["failed"] += 1
    print(f"\ncritest: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    sys.exit(1 if counts["failed"] or not counts["passed"] else 0)


main()
