package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A pullCase is what is pulled at once (tests/images/pulls.py has what it is), and what is there before.
type pullCase struct {
	name, title    string
	before, images []string
}

var pullCases = []pullCase{
	{"layer", "one layer of 250 MB", nil, []string{"big"}},
	{"layers", "40 small layers", nil, []string{"layers"}},
	{"files", "60,000 small files", nil, []string{"files"}},
	{"last", "all but the last of 41 there", []string{"layers"}, []string{"last"}},
	{"again", "all of it there", []string{"layers"}, []string{"layers"}},
	{"many", "20 images at once", nil, manyImages(20)},
}

func manyImages(count int) (names []string) {
	for i := range count {
		names = append(names, fmt.Sprintf("many-%d", i))
	}
	return names
}

// A figure is what one case cost one peer, in each round.
type figure struct {
	seconds, megabytes []float64
}

// median is 0 of nothing.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// freshDisk mounts an ext4 on which nothing ever was: to create files where many were deleted takes many times longer.
func freshDisk() (root string, remove func()) {
	work, err := os.MkdirTemp("", "disk.")
	fatal(err)
	image, root := filepath.Join(work, "image"), filepath.Join(work, "root")
	run("truncate", "-s", "4G", image)
	run("mkfs.ext4", "-q", image)
	fatal(os.Mkdir(root, 0o755))
	run("mount", "-o", "loop,noinit_itable", image, root)
	return root, func() {
		run("umount", root)
		fatal(os.RemoveAll(work))
	}
}

func run(command ...string) {
	if said, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		fatal(fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, said))
	}
}

// together runs pull for all images at once.
func together(images []string, pull func(image string) error) {
	var all sync.WaitGroup
	for _, image := range images {
		all.Go(func() { fatal(pull("bench/" + image + ":latest")) })
	}
	all.Wait()
}

// measure pulls the images of a case on a store of its own.
func (f *figure) measure(p *peer, c pullCase) {
	root, remove := freshDisk()
	defer remove()
	pull := func(image string) error { return p.pull(root, image) }
	if p.pull == nil {
		daemon := p.start(root)
		defer daemon.stop()
		pull = func(image string) error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
			defer cancel()
			_, err := daemon.image.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: "docker.io/" + image}})
			return err
		}
	}
	together(c.before, pull)
	run("sync") // what others wrote is not this peer's to wait for
	took, peak := watched(p.programs, func() { together(c.images, pull) })
	f.seconds = append(f.seconds, took.Seconds())
	f.megabytes = append(f.megabytes, peak)
}

// pullTable prints medians, each peer's factor to crisp's time, and last the least of containerd's.
func pullTable(out io.Writer, list []*peer, cases []pullCase, figures map[string]*figure) {
	fmt.Fprintf(out, "%-28s", "seconds, peak RSS, to crisp")
	for _, p := range list {
		fmt.Fprintf(out, "   %24s", p.name)
	}
	smallest := 0.0
	for _, c := range cases {
		fmt.Fprintf(out, "\n%-28s", c.title)
		crisp := figures[c.name+" crisp"]
		for _, p := range list {
			f, factor := figures[c.name+" "+p.name], ""
			if crisp != nil && p.name != "crisp" {
				ratio := median(f.seconds) / median(crisp.seconds)
				factor = fmt.Sprintf("%.1fx", ratio)
				if p.name == "containerd" && (smallest == 0 || ratio < smallest) {
					smallest = ratio
				}
			}
			fmt.Fprintf(out, "   %7.3f s %5.0f MB %6s", median(f.seconds), median(f.megabytes), factor)
		}
	}
	fmt.Fprintln(out)
	if smallest > 0 {
		fmt.Fprintf(out, "smallest: %.1fx\n", smallest)
	}
}

func pullMain(arguments []string) {
	flags := flag.NewFlagSet("pull", flag.ExitOnError)
	only := flags.String("case", "", "measure this case only, of layer, layers, files, last, again, many")
	rounds := flags.Int("rounds", 5, "rounds; each peer once in each")
	names := flags.String("peers", "crisp,containerd,skopeo+umoci", "who is measured")
	write := flags.Bool("write-docs", false, "put the table into docs/performance.md")
	flags.Parse(arguments)
	list, cases := chosen(*names), slices.DeleteFunc(slices.Clone(pullCases), func(c pullCase) bool { return *only != "" && c.name != *only })
	if len(cases) == 0 {
		fatal(fmt.Errorf("there is no case %q", *only))
	}
	figures := map[string]*figure{}
	for round := range *rounds {
		for _, c := range cases {
			for _, p := range list {
				key := c.name + " " + p.name
				if figures[key] == nil {
					figures[key] = &figure{}
				}
				figures[key].measure(p, c)
				fmt.Fprintf(os.Stderr, "round %d, %s, %s: %.3f s, %.0f MB\n", round+1, c.title, p.name, figures[key].seconds[round], figures[key].megabytes[round])
			}
		}
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s; medians of %d rounds\n", machine(list), *rounds)
	pullTable(&text, list, cases, figures)
	os.Stdout.Write(text.Bytes())
	if *write {
		writeDocs("hack/bench pull", text.String())
	}
}
