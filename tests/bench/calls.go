package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A standing is what one peer's rounds gave.
type standing struct {
	peer    *peer
	times   [2]map[string][]time.Duration // back to back, and with pauses
	memory  map[string][]float64          // in kB, by its line in the table
	streams map[string]*figure
}

func newStanding(p *peer) *standing {
	s := &standing{peer: p, memory: map[string][]float64{}, streams: map[string]*figure{}}
	for i := range s.times {
		s.times[i] = map[string][]time.Duration{}
	}
	return s
}

// round starts the peer's daemon on an empty directory and measures all of it.
func (s *standing) round() {
	fmt.Fprintln(os.Stderr, "round of", s.peer.name)
	root, err := os.MkdirTemp("", "root.")
	fatal(err)
	d := s.peer.start(root)
	call(d.bench, "PullImage", d.image.PullImage, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: *name}})
	d.life() // the first of all makes bridges, caches and threads
	for i, wait := range []time.Duration{0, *pause} {
		d.times, d.pause = s.times[i], wait
		for range *pods {
			d.life()
		}
	}
	d.times, d.pause = map[string][]time.Duration{}, 0
	s.measureMemory(d.bench)
	if *stream > 0 {
		s.measureStreams(d.bench, *stream<<20)
	}
	d.stop()
	fatal(os.RemoveAll(root))
}

var memoryLines = []struct {
	title  string
	budget float64 // kB
}{{"daemon, RSS", 15 << 10}, {"daemon, anonymous", 5 << 10}, {"one pod's shim, PSS", 400}}

func (s *standing) measureMemory(b *bench) {
	running := map[string]*cri.PodSandboxConfig{}
	for range *idle {
		pod, config := b.runPod()
		b.startContainer(pod, config)
		running[pod] = config
	}
	time.Sleep(2 * time.Second)
	note := func(line int, kilobytes float64) {
		title := memoryLines[line].title
		s.memory[title] = append(s.memory[title], kilobytes)
	}
	for _, pid := range processes(s.peer.programs[0]) {
		note(0, kilobytes(pid, "status", "VmRSS"))
		note(1, kilobytes(pid, "status", "RssAnon"))
	}
	for _, pid := range processes(s.peer.shim) {
		note(2, kilobytes(pid, "smaps_rollup", "Pss"))
	}
	for pod, config := range running {
		b.removePod(pod, config)
	}
}

// sums adds up what the calls of a line took, in milliseconds and in order.
func sums(times map[string][]time.Duration, calls []string) []float64 {
	total := make([]float64, len(times[calls[0]]))
	for _, call := range calls {
		for i, took := range times[call] {
			total[i] += float64(took) / float64(time.Millisecond)
		}
	}
	slices.Sort(total)
	return total
}

// over marks what is above its budget, if it has one.
func over(value, budget float64) string {
	if budget > 0 && value > budget {
		return "!"
	}
	return " "
}

// table prints a line for each title, with a column for each peer.
func table(out io.Writer, all []*standing, head string, titles []string, cell func(s *standing, line int) string) {
	fmt.Fprintf(out, "\n%-28s", head)
	for _, s := range all {
		fmt.Fprintf(out, "   %27s", s.peer.name)
	}
	for line, title := range titles {
		fmt.Fprintf(out, "\n%-28s", title)
		for _, s := range all {
			fmt.Fprintf(out, "   %27s", cell(s, line))
		}
	}
	fmt.Fprintln(out)
}

func report(all []*standing) {
	var out bytes.Buffer
	var list []*peer
	var calls, memory []string
	for _, s := range all {
		list = append(list, s.peer)
	}
	for _, line := range lines {
		calls = append(calls, line.title)
	}
	for _, line := range memoryLines {
		memory = append(memory, line.title)
	}
	fmt.Fprintf(&out, "%s; %d rounds of %d pods; !: above crisp's budget\n", machine(list), *rounds, *pods)
	table(&out, all, "ms: median, p95, with pauses", calls, (*standing).callsCell)
	table(&out, all, fmt.Sprintf("kB, with %d pods", *idle), memory, (*standing).memoryCell)
	if *stream > 0 {
		table(&out, all, "MB/s, daemon's peak RSS", streamTitles(), (*standing).streamCell)
	}
	text := regexp.MustCompile(`(?m) +$`).ReplaceAllString(out.String(), "")
	fmt.Print(text)
	if *write {
		writeDocs("hack/bench --beside", text)
	}
}

func (s *standing) callsCell(line int) string {
	calls, budget := lines[line].calls, map[string]float64{"crisp": lines[line].cni, "crisp-builtin": lines[line].builtin}[s.peer.name]
	straight, paused := sums(s.times[0], calls), sums(s.times[1], calls)
	p95 := straight[min(len(straight)-1, len(straight)*95/100)]
	return fmt.Sprintf("%8.2f%s %7.2f %8.2f%s", median(straight), over(median(straight), budget), p95, median(paused), over(median(paused), budget))
}

func (s *standing) memoryCell(line int) string {
	value, budget := median(s.memory[memoryLines[line].title]), 0.0
	if strings.HasPrefix(s.peer.name, "crisp") {
		budget = memoryLines[line].budget
	}
	return fmt.Sprintf("%.0f%s", value, over(value, budget))
}

func (s *standing) streamCell(line int) string {
	f := s.streams[streamTitles()[line]]
	if len(f.seconds) == 0 {
		return "not served"
	}
	return fmt.Sprintf("%.0f MB/s %8.1f MB", float64(*stream<<20)/1e6/median(f.seconds), median(f.megabytes))
}
