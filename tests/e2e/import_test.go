package e2e

import (
	"strings"
	"testing"
)

// A tag is one more name of an image, wherever an image may be named; the last to get it has it.
func TestImageTag(t *testing.T) {
	leaveNothing(t)
	name := "example.test/tools/busybox:stable"
	id, other := pull(t, busybox), pullFor(t, registry+"/crisp/config:latest")
	t.Cleanup(func() { _, _ = tryCommand("crispctl", "image", "tag", other, name) }) // goes with that image
	if got := command(t, "crispctl", "image", "tag", other, "example.test/tools/busybox:stable"); got != name+"\n" {
		t.Errorf("crispctl image tag said %q", got)
	}
	if got := imageStatus(t, name).GetId(); got != other {
		t.Errorf("%s is %s, want %s", name, got, other)
	}
	command(t, "crispctl", "image", "tag", strings.TrimPrefix(id, "sha256:")[:12], name)
	restartCrispd(t)
	if got := imageStatus(t, name); got.GetId() != id || len(got.RepoTags) != 2 {
		t.Errorf("after the name moved it is of %v, want %s", got, id)
	}
	if got := imageStatus(t, other); len(got.RepoTags) != 1 {
		t.Errorf("the image that lost the name has %v", got.RepoTags)
	}
	for _, bad := range [][]string{{"nothing:here", name}, {busybox, "a//b:c"}, {busybox, name + "@" + id}} {
		said, err := tryCommand("crispctl", "image", "tag", bad[0], bad[1])
		if err == nil || !strings.HasPrefix(said, "crispctl: image ") {
			t.Errorf("tag %v: %v: %q", bad, err, said)
		}
	}
}
