package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// machine says on what, beside how much else, and against which versions was measured.
func machine(list []*peer) string {
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	fatal(err)
	load, err := os.ReadFile("/proc/loadavg")
	fatal(err)
	words := []string{fmt.Sprintf("Linux %s, %d CPUs, load average %s", strings.TrimSpace(string(kernel)), runtime.NumCPU(), strings.Fields(string(load))[2])}
	for _, p := range list {
		if len(p.version) > 0 {
			said, err := exec.Command(p.version[0], p.version[1:]...).Output()
			fatal(err)
			words = append(words, p.name+" "+strings.Join(regexp.MustCompile(`\d+\.\d+\.\d+\S*`).FindAllString(string(said), -1), "+"))
		}
	}
	return strings.Join(words, "; ")
}

// writeDocs puts text into docs/performance.md, in the block that follows the command's mark.
func writeDocs(command, text string) {
	path := filepath.Join(os.Getenv("CRISP_TEST_TOP"), "docs/performance.md")
	page, err := os.ReadFile(path)
	fatal(err)
	mark := fmt.Sprintf("<!-- %s -->\n```\n", command)
	before, rest, found := strings.Cut(string(page), mark)
	_, after, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		fatal(fmt.Errorf("%s: no block after %q", path, mark))
	}
	fatal(os.WriteFile(path, []byte(before+mark+text+"```\n"+after), 0o644))
}
