package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
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

// report prints the tables, with a column for each peer.
func report(all []*standing) {
	var out bytes.Buffer
	list := []*peer{}
	for _, s := range all {
		list = append(list, s.peer)
	}
	fmt.Fprintf(&out, "%s; %d rounds of %d pods\n", machine(list), *rounds, *pods)
	header := func(title string) {
		fmt.Fprintf(&out, "\n%-28s", title)
		for _, p := range list {
			fmt.Fprintf(&out, "   %26s", p.name)
		}
		fmt.Fprintln(&out)
	}
	header("ms: median, p95, with pauses")
	for _, line := range lines {
		fmt.Fprintf(&out, "%-28s", line.title)
		for _, s := range all {
			s.callsCell(&out, line.calls, map[string]float64{"crisp": line.cni, "crisp-builtin": line.builtin}[s.peer.name])
		}
		fmt.Fprintln(&out)
	}
	header(fmt.Sprintf("kB, with %d pods", *idle))
	for _, line := range memoryLines {
		fmt.Fprintf(&out, "%-28s", line.title)
		for _, s := range all {
			value := median(s.memory[line.title])
			fmt.Fprintf(&out, "   %25.0f%s", value, over(value, map[bool]float64{true: line.budget}[strings.HasPrefix(s.peer.name, "crisp")]))
		}
		fmt.Fprintln(&out)
	}
	if *stream > 0 {
		header("MB/s, daemon's peak RSS")
		for _, title := range streamTitles() {
			fmt.Fprintf(&out, "%-28s", title)
			for _, s := range all {
				s.streamCell(&out, title)
			}
			fmt.Fprintln(&out)
		}
	}
	fmt.Fprintln(&out, "! above crisp's budget")
	os.Stdout.Write(out.Bytes())
	if *write {
		writeDocs("hack/bench --beside", out.String())
	}
}

func (s *standing) callsCell(out io.Writer, calls []string, budget float64) {
	straight, paused := sums(s.times[0], calls), sums(s.times[1], calls)
	p95 := straight[min(len(straight)-1, len(straight)*95/100)]
	fmt.Fprintf(out, "   %7.2f%s %7.2f  %7.2f%s", median(straight), over(median(straight), budget), p95, median(paused), over(median(paused), budget))
}

func (s *standing) streamCell(out io.Writer, title string) {
	f := s.streams[title]
	if len(f.seconds) == 0 {
		fmt.Fprintf(out, "   %26s", "not served")
		return
	}
	fmt.Fprintf(out, "   %9.0f MB/s %8.1f MB", float64(*stream<<20)/1e6/median(f.seconds), median(f.megabytes))
}
