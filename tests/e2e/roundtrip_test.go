package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const goArchitecture = goruntime.GOARCH

// entry is one of an archive.
type entry struct {
	tar.Header
	text string
}

var dated = time.Unix(1600000000, 0)

func at(kind byte, name string, mode int64) entry {
	return entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: dated}}
}

func file(name, text string) entry {
	e := at(tar.TypeReg, name, 0o644)
	e.text, e.Size = text, int64(len(text))
	return e
}

func folder(name string) entry { return at(tar.TypeDir, name, 0o755) }

func link(kind byte, name, target string) entry {
	e := at(kind, name, 0o777)
	e.Linkname = target
	return e
}

func symlink(name, target string) entry  { return link(tar.TypeSymlink, name, target) }
func hardLink(name, target string) entry { return link(tar.TypeLink, name, target) }

func device(kind byte, name string, major, minor int64) entry {
	e := at(kind, name, 0o640)
	e.Devmajor, e.Devminor = major, minor
	return e
}

func (e entry) mode(mode int64) entry      { e.Mode = mode; return e }
func (e entry) owned(uid, gid int) entry   { e.Uid, e.Gid = uid, gid; return e }
func (e entry) when(s, ns int64) entry     { e.ModTime = time.Unix(s, ns); return e }
func (e entry) as(format tar.Format) entry { e.Format = format; return e }
func (e entry) with(key, value string) entry {
	records := map[string]string{"SCHILY.xattr." + key: value}
	for k, v := range e.PAXRecords {
		records[k] = v
	}
	e.PAXRecords = records
	return e
}

// archive makes a tar of the entries, in PAX unless they say otherwise.
func archive(entries ...entry) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		if e.Format == tar.FormatUnknown {
			e.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			panic(fmt.Sprint(e.Name, ": ", err))
		}
		_, _ = w.Write([]byte(e.text))
	}
	w.Close()
	return out.Bytes()
}

// byTar makes a tar of what a script leaves in its directory, by GNU tar.
func byTar(t *testing.T, script string, options ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("sh", "-ec", "cd "+dir+"\n"+script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return must(exec.Command("tar", append(append([]string{"-C", dir, "--sort=name", "--mtime=@1600000000.5", "--owner=7", "--group=8", "-c"}, options...), ".")...).Output())(t)
}

func zipped(parts ...[]byte) []byte {
	var out bytes.Buffer
	for _, part := range parts {
		w := gzip.NewWriter(&out)
		_, _ = w.Write(part)
		w.Close()
	}
	return out.Bytes()
}

func zstd(t *testing.T, data []byte, options ...string) []byte {
	t.Helper()
	program := exec.Command("zstd", append(options, "-q", "-c")...)
	program.Stdin = bytes.NewReader(data)
	return must(program.Output())(t)
}

func skippable(text string) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte("\x5a\x2a\x4d\x18"), uint32(len(text))), text...)
}

// halves of an archive, for members and frames.
func halves(data []byte) (a, b []byte) { return data[:len(data)/2], data[len(data)/2:] }

// estargz packs as stargz-snapshotter does: a member for each entry, one for the table of contents, a footer that says where it is.
func estargz(data []byte) []byte {
	a, b := halves(data)
	var footer bytes.Buffer
	w, _ := gzip.NewWriterLevel(&footer, gzip.NoCompression)
	w.Extra = append([]byte("SG\x16\x00"), fmt.Sprintf("%016xSTARGZ", len(a))...)
	w.Close()
	return append(zipped(a, b), footer.Bytes()...)
}

// shape is an image that is odd in some way.
type shape struct {
	name    string
	layers  [][]byte                                    // as archives
	pack    func(layer []byte) []byte                   // how they travel; nil: as they are
	kind    string                                      // the media type that they claim to have
	dress   func(s *shelf, image descriptor) descriptor // what stands before the image's manifest
	digest  func(data []byte) string
	undated []string // directories without an entry anywhere, whose time nobody says; and those to which umoci gives the present
	apart   []string // names of one file in a layer below: overlayfs has no hard link across layers
	bsdtar  bool     // umoci does not know such a tar
}

const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_raw+ep

func shapes(t *testing.T) []shape {
	long := strings.Repeat("n", 200)
	deep := strings.Repeat("deep/", 60)
	many := [][]byte{}
	for i := range 300 {
		many = append(many, archive(folder("n"), file(fmt.Sprintf("n/%03d", i), fmt.Sprint(i)), file("last", fmt.Sprint(i))))
	}
	plain := archive(folder("a"), file("a/b", strings.Repeat("text ", 5000)), file("c", "c").owned(1, 2))
	sparse := "truncate -s 5M holes; printf begin | dd of=holes conv=notrunc status=none; printf middle | dd of=holes bs=1 seek=3000000 conv=notrunc status=none; truncate -s 1M empty; printf all >dense"
	pax := shape{name: "pax", layers: [][]byte{archive(folder(long), file(long[:90]+"/"+long[:60]+"/"+long[:50], "x"), symlink("link", strings.Repeat("target/", 100)), hardLink("hard", long[:90]+"/"+long[:60]+"/"+long[:50]))},
		undated: []string{long[:90], long[:90] + "/" + long[:60]}}
	gnu := shape{name: "gnu", layers: [][]byte{archive(folder(long).as(tar.FormatGNU), file(long+"/"+long+"/"+long, "x").as(tar.FormatGNU),
		symlink("link", strings.Repeat("target/", 100)).as(tar.FormatGNU), file("big-ids", "").owned(3_000_000_000, 4_000_000_000).as(tar.FormatGNU), hardLink("hard", long+"/"+long+"/"+long).as(tar.FormatGNU))}, undated: []string{long, long + "/" + long}}
	ustar := shape{name: "ustar", layers: [][]byte{archive(folder(long[:99]).as(tar.FormatUSTAR), file(long[:150]+"/"+long[:99], "x").as(tar.FormatUSTAR))}, undated: []string{long[:150]}}
	return []shape{
		pax, gnu, ustar,
		{name: "v7", layers: [][]byte{byTar(t, "mkdir d; printf x >d/f; ln d/f d/g; ln -s f d/s; chmod 4711 d/f", "--format=v7")}},
		{name: "very-deep", layers: [][]byte{archive(file(deep+"file", "x"), folder(deep))}, undated: func() (dirs []string) {
			for i := 4; i < len(deep)-5; i += 5 {
				dirs = append(dirs, deep[:i])
			}
			return dirs
		}()},
		{name: "sparse-gnu", layers: [][]byte{byTar(t, sparse, "--format=gnu", "-S")}, bsdtar: true},
		{name: "sparse-pax-0.0", layers: [][]byte{byTar(t, sparse, "--format=pax", "-S", "--sparse-version=0.0")}},
		{name: "sparse-pax-0.1", layers: [][]byte{byTar(t, sparse, "--format=pax", "-S", "--sparse-version=0.1")}},
		{name: "sparse-pax-1.0", layers: [][]byte{byTar(t, sparse, "--format=pax", "-S", "--sparse-version=1.0")}},
		{name: "devices", layers: [][]byte{archive(folder("dev"), device(tar.TypeChar, "dev/null", 1, 3).mode(0o666), device(tar.TypeChar, "dev/big", 259, 70000),
			device(tar.TypeBlock, "dev/loop", 7, 1).owned(0, 6), at(tar.TypeFifo, "fifo", 0o4622).owned(5, 5), hardLink("dev/zero", "dev/null"))}},
		{name: "modes", layers: [][]byte{archive(folder("setgid").mode(0o2775).owned(3, 4), file("setgid/own-group", "x"), file("setgid/mode", "x").mode(0o2755).owned(9, 9), folder("setgid/dir"),
			folder("sticky").mode(0o1777), file("setuid", "x").mode(0o6755).owned(1, 2), file("none", "x").mode(0), folder("closed").mode(0).owned(8, 8), file("closed/in", "x"), folder(".").mode(0o711).owned(2, 3).when(1e9, 5))}},
		{name: "attributes", layers: [][]byte{archive(folder("d").with("user.dir", "x").with("trusted.dir", "y"), file("f", "x").with("user.binary", "a\x00b=c\nd").owned(1, 1),
			file("ping", "x").mode(0o755).owned(4, 4).with("security.capability", capability), file("both", "x").mode(0o4755).owned(4, 4).with("security.capability", capability).with("trusted.t", "t"),
			symlink("s", "f").with("trusted.link", "z"), file("acl", "x").with("system.posix_acl_access", "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x07\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"))}},
		{name: "hard-links", layers: [][]byte{archive(folder("d"), file("d/f", "f"), hardLink("d/g", "d/f"), hardLink("h", "./d/g"), symlink("s", "d/f"), hardLink("t", "s"), file("replaced", "1"), hardLink("keeps", "replaced"), file("replaced", "2"),
			file("over", "o"), hardLink("over", "d/f"), hardLink("/absolute", "/d/f"))}},
		{name: "hard-links-across", layers: [][]byte{archive(folder("d").mode(0o750).owned(5, 6), file("d/f", "lower").mode(0o4755).owned(1, 2).with("user.x", "y"), hardLink("d/twin", "d/f"), symlink("s", "d/f"), file("other", "o"), at(tar.TypeFifo, "p", 0o620).owned(3, 3)),
			archive(folder("e"), hardLink("e/f", "d/f"), hardLink("e/g", "e/f"), hardLink("e/s", "s"), hardLink("e/t", "e/s"), hardLink("e/o", "other"), hardLink("e/p", "p"), hardLink("e/o", "other"))}, undated: []string{"d"}, apart: []string{"d/f", "d/twin", "s", "e/s", "e/t", "other", "p", "e/p"}},
		{name: "hard-link-to-what-goes", layers: [][]byte{archive(folder("d"), file("d/f", "lower")), archive(hardLink("saved", "d/f"), file("d/.wh.f", ""), file("d/new", "new"), file(".wh.d", ""))}, undated: []string{"d"}},
		{name: "whiteouts", layers: [][]byte{archive(folder("d"), file("d/a", "a"), file("d/b", "b"), folder("d/sub"), file("d/sub/x", "x"), file("top", "t")), archive(folder("d"), file("d/.wh.a", ""), file("d/.wh.sub", ""), file(".wh.top", ""), file("d/.wh.nothing", ""))}},
		{name: "whiteout-and-file", layers: [][]byte{archive(folder("d"), file("d/a", "old a"), file("d/b", "old b"), folder("d/sub"), file("d/sub/old", "x"), folder("d/new"), file("d/new/old", "x")),
			archive(folder("d"), file("d/.wh.a", ""), file("d/a", "new a"), file("d/b", "new b"), file("d/.wh.sub", ""), folder("d/sub"), file("d/sub/new", "y"), file("d/.wh.new", ""), file("d/new/file", "z"))}, undated: []string{"d", "d/new"}},
		{name: "opaque", layers: [][]byte{archive(folder("d"), file("d/old", "x"), folder("d/sub"), file("d/sub/old", "x"), folder("e"), file("e/old", "x")),
			archive(folder("d"), file("d/.wh..wh..opq", ""), file("d/new", "y"), folder("e"), file("e/new", "y"), file("e/.wh..wh..opq", ""), folder("d/sub"), file("d/sub/new", "y"))}},
		{name: "opaque-root", layers: [][]byte{archive(file("old", "x"), folder("d"), file("d/old", "x")), archive(file(".wh..wh..opq", ""), folder("d"), file("d/new", "y"))}},
		{name: "file-over-directory-and-back", layers: [][]byte{archive(folder("x"), file("x/first", "1"), file("y", "1"), folder("z"), file("z/1", "1")),
			archive(file("x", "file"), folder("y"), file("y/second", "2"), symlink("z", "y")), archive(folder("x"), file("x/third", "3"), file("y", "file"), folder("z"), file("z/3", "3"))}},
		{name: "replaced-in-one-layer", layers: [][]byte{archive(folder("x"), file("x/below", "0"), symlink("s", "x"), file("f", "0")), archive(file("x", "1"), folder("x"), file("x/in", "2"), folder("s"), file("s/in", "3"), file("s", "4"), symlink("f", "x"), file("f", "5").owned(1, 1), at(tar.TypeFifo, "p", 0o600), folder("p"))}},
		{name: "no-entries-for-directories", layers: [][]byte{archive(folder("d").mode(0o2750).owned(7, 8).with("user.kept", "yes"), folder("d/e").mode(0o700).owned(9, 9).when(1e9, 7), file("d/e/f", "1")), archive(file("d/e/g", "2"), file("new/dir/f", "3"))}, undated: []string{"new", "new/dir", "d", "d/e"}},
		{name: "times", layers: [][]byte{archive(file("ns", "x").when(1234567890, 123456789), folder("dir").when(987654321, 1), file("dir/in", "x").when(1, 999999999), symlink("s", "ns").when(1111111111, 222222222), file("before", "x").when(-1000, 0),
			file("before-by-parts", "x").when(-1000, 500000000), file("zero", "x").when(0, 0), file("far", "x").when(1<<33, 0), at(tar.TypeFifo, "p", 0o600).when(5, 5))}},
		{name: "ids", layers: [][]byte{archive(file("half", "x").owned(1<<31, 1<<31+1), folder("last").owned(1<<32-2, 1<<32-2), symlink("s", "half").owned(3e9, 3e9), file("shifted", "x").owned(100000, 165535))}},
		{name: "names", layers: [][]byte{archive(file("ünïcödé", "x"), file("日本語/ファイル", "x"), hardLink("日本語-twin", "日本語/ファイル"), symlink("ü-link", "e\u0301"), file("mixed-日本\xff", "x").as(tar.FormatGNU), file("new\nline", "x"), file("back\\slash", "x"), file(" space ", "x"), file("-dash", "x"), file("e\u0301", "decomposed"), file("\u00e9", "composed"), file("...", "x"), file(".wh", "x"), file("*?[a]", "x")),
			archive(file("latin-\xe9", "x").as(tar.FormatGNU), symlink("to-latin", "latin-\xe9").as(tar.FormatGNU), file("./dotted/./and//doubled", "x"), file("a/../b", "x"), file("/absolute", "x"))}, undated: []string{"日本語", "dotted", "dotted/and", "a"}},
		{name: "global-header", layers: [][]byte{archive(entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "0123"}}}, file("f", "x"))}, bsdtar: true},
		{name: "trailing-garbage", layers: [][]byte{append(slices.Clone(plain), "garbage behind the end"...), append(archive(file("z", "z")), archive(file("not-seen", "x"))...)}},
		{name: "no-end-mark", layers: [][]byte{bytes.TrimRight(archive(file("a", strings.Repeat("x", 512))), "\x00"), archive(file("b", strings.Repeat("y", 512)))[:1536]}},
		{name: "gzip-trailing-garbage", layers: [][]byte{plain}, kind: "+gzip", pack: func(layer []byte) []byte { return append(zipped(layer), "\x00\x00garbage"...) }},
		{name: "gzip-members", layers: [][]byte{plain, archive(file("d", "d"))}, kind: "+gzip", pack: func(layer []byte) []byte { a, b := halves(layer); return zipped(a, nil, b) }},
		{name: "estargz", layers: [][]byte{plain}, kind: "+gzip", pack: estargz},
		{name: "zstd-checked", layers: [][]byte{plain}, kind: "+zstd", pack: func(layer []byte) []byte { return zstd(t, layer, "--check") }},
		{name: "zstd-unchecked", layers: [][]byte{plain}, kind: "+zstd", pack: func(layer []byte) []byte { return zstd(t, layer, "--no-check", "-19") }},
		{name: "zstd-frames", layers: [][]byte{plain}, kind: "+zstd", pack: func(layer []byte) []byte {
			a, b := halves(layer)
			return slices.Concat(skippable("first"), zstd(t, a), skippable(""), zstd(t, b, "--no-check"), skippable("last"))
		}},
		{name: "zstd-long", layers: [][]byte{archive(file("f", strings.Repeat("long", 1<<18)))}, kind: "+zstd", pack: func(layer []byte) []byte { return zstd(t, layer, "--ultra", "-22", "--long=27") }},
		{name: "zstd-chunked", layers: [][]byte{plain}, kind: "+zstd", pack: func(layer []byte) []byte {
			a, b := halves(layer)
			return slices.Concat(zstd(t, a), zstd(t, b), skippable("{\"version\":1,\"entries\":[]}"), skippable(strings.Repeat("\x00", 56)+"GNUlInUx"))
		}},
		{name: "gzip-called-zstd", layers: [][]byte{plain}, kind: "+zstd", pack: func(layer []byte) []byte { return zipped(layer) }},
		{name: "zstd-called-plain", layers: [][]byte{plain}, pack: func(layer []byte) []byte { return zstd(t, layer) }},
		{name: "plain-called-gzip", layers: [][]byte{plain}, kind: "+gzip"},
		{name: "empty-layers", layers: [][]byte{plain, {}, make([]byte, 512), make([]byte, 10240), archive()}},
		{name: "empty-layers-packed", layers: [][]byte{plain, {}, make([]byte, 1024)}, kind: "+gzip", pack: func(layer []byte) []byte { return zipped(layer) }},
		{name: "no-layers-that-say-anything", layers: [][]byte{archive(), archive(folder("."))}},
		{name: "300-layers", layers: many},
		{name: "sha512", layers: [][]byte{plain, archive(file("d", "d"))}, digest: sha512Of},
		{name: "nested-indexes", layers: [][]byte{plain}, dress: func(s *shelf, image descriptor) descriptor {
			elsewhere := s.index(ociIndex, s.plain(archive(file("wrong", "")), archive()).on(map[string]any{"os": "linux", "architecture": "riscv64"}))
			here := s.index("application/vnd.docker.distribution.manifest.list.v2+json", s.plain(archive(file("wrong", ""))).on(map[string]any{"os": "unknown", "architecture": "unknown"}),
				image.on(map[string]any{"os": "linux", "architecture": goArchitecture}))
			return s.index(ociIndex, elsewhere, here)
		}},
	}
}

// image puts the shape on the shelf and gives the reference.
func (of shape) image(s *shelf) string {
	s.digest = digestOf
	if of.digest != nil {
		s.digest = of.digest
	}
	var layers []descriptor
	var diffIDs []string
	for _, data := range of.layers {
		diffIDs = append(diffIDs, s.digest(data))
		if of.pack != nil {
			data = of.pack(data)
		}
		layers = append(layers, s.put(ociLayer+of.kind, data))
	}
	made := s.image(diffIDs, layers...)
	if of.dress != nil {
		made = of.dress(s, made)
	}
	return s.tag(strings.ToLower(of.name), made)
}

// unpacked is what another program makes of the layers: umoci, from an OCI layout in which they are not packed, or bsdtar.
func (of shape) unpacked(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if of.bsdtar {
		program := exec.Command("bsdtar", "-xp", "--numeric-owner", "-f", "-", "-C", dir)
		program.Stdin = bytes.NewReader(of.layers[0])
		if out, err := program.CombinedOutput(); err != nil {
			t.Fatalf("bsdtar: %v: %s", err, out)
		}
		return dir
	}
	layout := filepath.Join(dir, "layout")
	s := &shelf{digest: digestOf, content: map[string][]byte{}}
	top := s.plain(of.layers...)
	top.Annotations = map[string]string{"org.opencontainers.image.ref.name": "it"}
	s.content["oci-layout"] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
	s.content["index.json"] = must(json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{top}}))(t)
	for name, data := range s.content {
		path := filepath.Join(layout, name)
		if hex, blob := strings.CutPrefix(name, "sha256:"); blob {
			path = filepath.Join(layout, "blobs/sha256", hex)
		}
		_ = os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "umoci", "unpack", "--image", layout+":it", filepath.Join(dir, "bundle"))
	return filepath.Join(dir, "bundle", "rootfs")
}

func xattrs(t *testing.T, path string) (all []string) {
	t.Helper()
	buffer := make([]byte, 64<<10)
	n := must(unix.Llistxattr(path, buffer))(t)
	for _, name := range strings.Split(string(buffer[:n]), "\x00") {
		if name == "" || name == "security.selinux" {
			continue
		}
		value := make([]byte, 64<<10)
		all = append(all, fmt.Sprintf("%s=%q", name, value[:must(unix.Lgetxattr(path, name, value))(t)]))
	}
	sort.Strings(all)
	return all
}

// seen is all of a tree that a program can see: each path with its type, mode, owner, time, attributes, contents and other names.
func (of shape) seen(t *testing.T, root string) map[string]string {
	t.Helper()
	tree, names := map[string]string{}, map[uint64]string{}
	if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		info := must(d.Info())(t)
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%v %d:%d", info.Mode(), st.Uid, st.Gid)
		if !slices.Contains(of.undated, name) && name != "." {
			line += fmt.Sprintf(" %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		switch {
		case info.Mode().IsRegular():
			line += fmt.Sprintf(" %d %x", st.Size, sha256.Sum256(must(os.ReadFile(path))(t)))
		case info.Mode()&fs.ModeSymlink != 0:
			line += " -> " + must(os.Readlink(path))(t)
		case info.Mode()&fs.ModeDevice != 0:
			line += fmt.Sprintf(" %x", st.Rdev)
		}
		if first, twice := names[st.Ino]; twice && !d.IsDir() && !slices.Contains(of.apart, name) {
			line += " is " + first
		} else if !slices.Contains(of.apart, name) {
			names[st.Ino] = name
		}
		tree[name] = strings.Join(append([]string{line}, xattrs(t, path)...), " ")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return tree
}

// Images of odd shapes look to a container as umoci unpacks them: names, modes, owners, times, links, attributes, contents.
func TestRoundTrip(t *testing.T) {
	leaveNothing(t)
	s := newShelf(t)
	all := shapes(t)
	config := containerConfig("main", "sleep", "1000")
	for i, of := range all {
		name := of.image(s)
		if answer, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(name)}); err != nil {
			t.Errorf("%s: %v", of.name, err)
			continue
		} else {
			t.Cleanup(func() { must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(answer.ImageRef)}))(t) })
		}
		config.Mounts = append(config.Mounts, imageMount(name, fmt.Sprintf("/shapes/%d", i), ""))
	}
	c := newPod(t).run(t, config)
	var verbose struct{ Pid int }
	info := must(runtime.ContainerStatus(soon(t), &cri.ContainerStatusRequest{ContainerId: c.id, Verbose: true}))(t).Info["info"]
	if err := json.Unmarshal([]byte(info), &verbose); err != nil || verbose.Pid == 0 {
		t.Fatal(err, info)
	}
	for i, of := range all {
		root := fmt.Sprintf("/proc/%d/root/shapes/%d", verbose.Pid, i)
		if _, err := os.Stat(root); err != nil {
			continue // was not pulled
		}
		t.Run(of.name, func(t *testing.T) {
			got, want := of.seen(t, root), of.seen(t, of.unpacked(t))
			for name, line := range want {
				if got[name] != line {
					t.Errorf("%q\n   is %s\nwants %s", name, got[name], line)
				}
			}
			for name, line := range got {
				if want[name] == "" {
					t.Errorf("%q should not be there: %s", name, line)
				}
			}
		})
	}
}
