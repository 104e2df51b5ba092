package kubelet

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const repository = "k8s-staging-cri-tools/test-image-tag" // has two images, `test` and `all`

// A registry of the test's own in front of the node's, which notes what is asked for.
type registry struct {
	*httptest.Server
	host  string
	lock  sync.Mutex
	asked []string
	login string // "user:password" that it wants
}

func newRegistry(t *testing.T) *registry {
	r := &registry{}
	back := httputil.NewSingleHostReverseProxy(must(url.Parse("http://" + os.Getenv("CRISP_TEST_REGISTRY")))(t))
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if user, password, _ := request.BasicAuth(); r.login != "" && user+":"+password != r.login {
			w.Header().Set("WWW-Authenticate", `Basic realm="tests"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		for _, kind := range []string{"manifests", "blobs"} {
			if strings.Contains(request.URL.Path, "/"+kind+"/") {
				r.lock.Lock()
				r.asked = append(r.asked, request.Method+" "+strings.TrimSuffix(kind, "s"))
				r.lock.Unlock()
			}
		}
		back.ServeHTTP(w, request)
	}))
	t.Cleanup(r.Close)
	r.host = strings.TrimPrefix(r.URL, "http://")
	return r
}

// requests gives how often was asked for what since the last call.
func (r *registry) requests() string {
	r.lock.Lock()
	defer r.lock.Unlock()
	slices.Sort(r.asked)
	var words []string
	for len(r.asked) > 0 {
		same := 1
		for same < len(r.asked) && r.asked[same] == r.asked[0] {
			same++
		}
		words = append(words, fmt.Sprintf("%d %s", same, r.asked[0]))
		r.asked = r.asked[same:]
	}
	if words == nil {
		return "none"
	}
	return strings.Join(words, ", ")
}

// move has the tag name the image that another tag of the repository names; it gives that image's digest.
func (r *registry) move(t *testing.T, tag, to string) string {
	t.Helper()
	from := "http://" + os.Getenv("CRISP_TEST_REGISTRY") + "/v2/" + repository + "/manifests/"
	get := must(http.NewRequest("GET", from+to, nil))(t)
	get.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json")
	answer := must(http.DefaultClient.Do(get))(t)
	defer answer.Body.Close()
	manifest := must(io.ReadAll(answer.Body))(t)
	put := must(http.NewRequest("PUT", from+tag, bytes.NewReader(manifest)))(t)
	put.Header.Set("Content-Type", answer.Header.Get("Content-Type"))
	answer = must(http.DefaultClient.Do(put))(t)
	answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		t.Fatalf("the tag %s: %s", tag, answer.Status)
	}
	return answer.Header.Get("Docker-Content-Digest")
}

func pull(t *testing.T, name string) {
	t.Helper()
	must(image.PullImage(soon(t), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: name}}))(t)
}

// What each imagePullPolicy asks a registry for, as the registry sees it. The result is also printed as a table, for docs/kubelet.md.
func TestImagePullPolicies(t *testing.T) {
	r := newRegistry(t)
	fails := func(reason string) func(v1.PodStatus) bool {
		return func(s v1.PodStatus) bool {
			waiting := container(s, "main").State.Waiting
			return waiting != nil && waiting.Reason == reason
		}
	}
	for i, c := range []struct {
		policy, state, requests, fails string
	}{
		{"Always", "absent", "2 GET blob, 1 GET manifest", ""},
		{"Always", "there", "1 HEAD manifest", ""},
		{"Always", "moved", "2 GET blob, 1 GET manifest, 1 HEAD manifest", ""},
		{"Always", "digest there", "1 HEAD manifest", ""},
		{"IfNotPresent", "absent", "2 GET blob, 1 GET manifest", ""},
		{"IfNotPresent", "there", "none", ""},
		{"IfNotPresent", "moved", "none", ""},
		{"IfNotPresent", "digest there", "none", ""},
		{"Never", "absent", "none", "ErrImageNeverPull"},
		{"Never", "there", "none", ""},
		{"Never", "moved", "none", ""},
		{"Never", "digest there", "none", ""},
	} {
		t.Run(c.policy+"-"+strings.ReplaceAll(c.state, " ", "-"), func(t *testing.T) {
			tag := fmt.Sprintf("case-%d", i)
			name := r.host + "/" + repository + ":" + tag
			want := r.move(t, tag, "test")
			if c.state == "digest there" {
				name = r.host + "/" + repository + "@" + want
			}
			if c.state != "absent" {
				pull(t, name)
			}
			if c.state == "moved" {
				if now := r.move(t, tag, "all"); c.policy == "Always" {
					want = now
				}
			}
			r.requests()
			p := start(t, "restartPolicy: Never\ncontainers: [{name: main, image: \""+name+"\", imagePullPolicy: "+c.policy+", command: [\"true\"]}]")
			if c.fails != "" {
				p.becomes(c.fails, fails(c.fails))
			} else if status := p.ends(); status.Phase != v1.PodSucceeded || !strings.Contains(container(status, "main").ImageID, want) {
				t.Errorf("it is %s with image %s, want %s", status.Phase, container(status, "main").ImageID, want)
			}
			got := r.requests()
			fmt.Printf("| %s | %s | %s | %s |\n", c.policy, c.state, got, c.fails)
			if got != c.requests {
				t.Errorf("the registry was asked for %q, not %q", got, c.requests)
			}
			p.remove()
			for _, known := range must(image.ListImages(soon(t), &cri.ListImagesRequest{}))(t).Images {
				if strings.Contains(strings.Join(append(known.RepoTags, known.RepoDigests...), " "), repository) {
					for _, c := range p.containers() {
						must(runtime.RemoveContainer(soon(t), &cri.RemoveContainerRequest{ContainerId: c.Id}))(t)
					}
					must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: known.Id}}))(t)
				}
			}
		})
	}
}

// What the registry said is what the pod's owner reads, first as ErrImagePull, then between tries.
func TestAnImageThatIsNowhere(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := start(t, `containers: [{name: main, image: "`+r.host+`/no/such:image"}]`)
	for _, reason := range []string{"ErrImagePull", "ImagePullBackOff"} {
		status := p.becomes(reason, func(s v1.PodStatus) bool {
			waiting := container(s, "main").State.Waiting
			return waiting != nil && waiting.Reason == reason
		})
		if said := container(status, "main").State.Waiting.Message; !strings.Contains(said, "no/such") || !strings.Contains(strings.ToLower(said), "not found") && !strings.Contains(said, "404") && !strings.Contains(strings.ToLower(said), "unknown") {
			t.Errorf("%s: %q", reason, said)
		}
	}
}

// The kubelet's own credentials (config.json in its folder) reach the registry; without them nobody runs the image.
func TestARegistryThatWantsALogin(t *testing.T) {
	r := newRegistry(t)
	r.login = "somebody:a-secret-word"
	manifest := `
restartPolicy: Never
containers: [{name: main, image: "` + r.host + `/` + repository + `:test", imagePullPolicy: Always, command: ["true"]}]`
	without := startNamed(t, "without-a-login", manifest)
	status := without.becomes("refused", func(s v1.PodStatus) bool {
		waiting := container(s, "main").State.Waiting
		return waiting != nil && waiting.Reason == "ErrImagePull"
	})
	if said := container(status, "main").State.Waiting.Message; !strings.Contains(said, "401 Unauthorized") || !strings.Contains(said, r.host) {
		t.Errorf("without a login its owner reads %q", said)
	}
	without.remove()
	const file = "/var/lib/kubelet/config.json"
	text := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.host, base64.StdEncoding.EncodeToString([]byte(r.login)))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
	stopKubelet(syscall.SIGTERM) // it looks into that file every five minutes only
	if err := startKubelet(); err != nil {
		t.Fatal(err)
	}
	if with := startNamed(t, "with-a-login", manifest).ends(); with.Phase != v1.PodSucceeded {
		t.Errorf("with the login it %s", with.Phase)
	}
	log := string(must(os.ReadFile(os.Getenv("CRISP_TEST_LOG")))(t))
	if strings.Contains(log, "a-secret-word") {
		t.Error("crispd's log has the password")
	}
}
