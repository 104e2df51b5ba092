package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// signer is somebody with a key, as cosign has it.
type signer struct{ key crypto.Signer }

func (s signer) sign(t *testing.T, data []byte) string {
	t.Helper()
	hash := sha256.Sum256(data)
	digest, options := hash[:], crypto.SignerOpts(crypto.SHA256)
	if _, itself := s.key.(ed25519.PrivateKey); itself {
		digest, options = data, crypto.Hash(0)
	}
	return base64.StdEncoding.EncodeToString(must(s.key.Sign(rand.Reader, digest, options))(t))
}

func (s signer) write(t *testing.T, path string) string {
	t.Helper()
	writePEM(t, path, "PUBLIC KEY", must(x509.MarshalPKIXPublicKey(s.key.Public()))(t))
	return path
}

// signedRegistry has one image under every name, and what it was told of signatures.
type signedRegistry struct {
	*made
	host      string
	digest    string
	lock      sync.Mutex
	documents map[string][]byte // by path below /v2/
	layers    int               // how often the image's layer was asked for
	broken    bool              // it answers 500 to whoever asks for signatures
}

func newSignedRegistry(t *testing.T) *signedRegistry {
	t.Helper()
	r := &signedRegistry{made: newImage(t, 100_000), documents: map[string][]byte{}}
	r.digest = digestOf(r.manifest)
	r.host = r.made.serve(t, r.answer)
	return r
}

func (r *signedRegistry) answer(w http.ResponseWriter, request *http.Request) bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	path := strings.TrimPrefix(request.URL.Path, "/v2/")
	data, known := r.documents[path]
	signatures := strings.Contains(path, "/manifests/sha256-") || strings.Contains(path, "/referrers/")
	stranger := strings.Contains(path, "/blobs/") && !strings.HasSuffix(path, r.layerDigest) && !strings.HasSuffix(path, r.configDigest)
	switch {
	case signatures && r.broken:
		w.WriteHeader(http.StatusInternalServerError)
	case known:
		_, _ = w.Write(data)
	case signatures || stranger:
		w.WriteHeader(http.StatusNotFound)
	default:
		if strings.HasSuffix(path, r.layerDigest) {
			r.layers++
		}
		return false
	}
	return true
}

func (r *signedRegistry) set(path string, data []byte) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.documents[path] = data
}

func (r *signedRegistry) asked() int {
	r.lock.Lock()
	defer r.lock.Unlock()
	return r.layers
}

func payload(digest string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, digest)
}

func (s signer) bundle(t *testing.T, digest, predicate string) []byte {
	t.Helper()
	statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":{}}`, strings.TrimPrefix(digest, "sha256:"), predicate)
	const kind = "application/vnd.in-toto+json"
	encoded := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(statement), statement)
	return fmt.Appendf(nil, `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{"payload":%q,"payloadType":%q,"signatures":[{"sig":%q}]}}`,
		base64.StdEncoding.EncodeToString(statement), kind, s.sign(t, encoded))
}

const (
	payloadType = "application/vnd.dev.cosign.simplesigning.v1+json"
	bundleType  = "application/vnd.dev.sigstore.bundle.v0.3+json"
	sigType     = "application/vnd.dev.cosign.artifact.sig.v1+json"
	signature   = "https://sigstore.dev/cosign/sign/v1"
)

// layerOf keeps a document as a blob and gives the layer that names it.
func (r *signedRegistry) layerOf(repository, kind string, data []byte, signature string) string {
	r.set(repository+"/blobs/"+digestOf(data), data)
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"dev.cosignproject.cosign/signature":%q}}`, kind, digestOf(data), len(data), signature)
}

func (r *signedRegistry) signedBy(t *testing.T, repository string, s signer, digest string) string {
	t.Helper()
	return r.layerOf(repository, payloadType, payload(digest), s.sign(t, payload(digest)))
}

func manifestOf(kind string, layers ...string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":%q,
		"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[%s]}`, kind, digestOf([]byte("{}")), strings.Join(layers, ","))
}

func (r *signedRegistry) tag(suffix string) string {
	return "/manifests/" + strings.Replace(r.digest, ":", "-", 1) + suffix
}

func (r *signedRegistry) refer(repository, where, kind string, layers ...string) {
	manifest := manifestOf(kind, layers...)
	r.set(repository+"/manifests/"+digestOf(manifest), manifest)
	r.set(repository+where, fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
		{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d,"artifactType":%q}]}`, digestOf(manifest), len(manifest), kind))
}

// pullTrusted pulls as the kubelet does for a pod of that namespace, and removes what came.
func pullTrusted(t *testing.T, name, namespace string) error {
	t.Helper()
	config := &cri.PodSandboxConfig{Metadata: &cri.PodSandboxMetadata{Name: "p", Namespace: namespace, Uid: "u"}}
	_, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(name), SandboxConfig: config})
	if err == nil {
		must(image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}))(t)
	}
	return err
}

// refused is what the kubelet recognizes, and nothing of the image was asked for or kept.
func refused(t *testing.T, r *signedRegistry, name, namespace string, words ...string) {
	t.Helper()
	asked, before := r.asked(), must(os.ReadDir(filepath.Join(rootDir, "layers")))(t)
	err := pullTrusted(t, name, namespace)
	fails(t, err, is(codes.Unknown), words...)
	if err != nil && !strings.Contains(err.Error(), "desc = SignatureValidationFailed: ") {
		t.Errorf("%v: the kubelet wants SignatureValidationFailed at the beginning", err)
	}
	if r.asked() != asked {
		t.Error("a layer was fetched")
	}
	if after := must(os.ReadDir(filepath.Join(rootDir, "layers")))(t); len(after) != len(before) {
		t.Errorf("%d layers, before there were %d", len(after), len(before))
	}
	if status := must(image.ImageStatus(soon(t), &cri.ImageStatusRequest{Image: spec(name)}))(t); status.Image != nil {
		t.Errorf("%s is here", name)
	}
}

// What cosign signs by a key of the rule is taken, wherever the signature lies; anything else is refused before it is unpacked.
func TestTrust(t *testing.T) {
	leaveNothing(t)
	r := newSignedRegistry(t)
	dir := t.TempDir()
	curve := signer{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)}
	big := signer{must(rsa.GenerateKey(rand.Reader, 3072))(t)}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger := signer{must(rsa.GenerateKey(rand.Reader, 2048))(t)}
	configure(t, fmt.Sprintf(`
[trust.default]
policy = "reject"
[trust.node]
scope = "127.0.0.1:5000"
policy = "accept"
[trust.signed]
scope = "%[1]s/team"
keys = [%[2]q, %[3]q, %[4]q]
[trust.free]
scope = "%[1]s/team/free"
policy = "accept"
[trust.sandbox]
scope = "%[1]s/team"
namespaces = ["sandbox"]
policy = "accept"
`, r.host, curve.write(t, dir+"/a.pub"), big.write(t, dir+"/b.pub"), signer{edwards}.write(t, dir+"/c.pub")))
	other := digestOf([]byte("another image"))
	for name, c := range map[string]struct {
		prepare func(repository string)
		words   []string // nil: it is taken
	}{
		"ecdsa": {func(repository string) {
			r.set(repository+r.tag(".sig"), manifestOf("", r.signedBy(t, repository, curve, r.digest)))
		}, nil},
		"rsa": {func(repository string) {
			r.set(repository+r.tag(".sig"), manifestOf("", r.signedBy(t, repository, big, r.digest)))
		}, nil},
		"ed25519": {func(repository string) {
			r.set(repository+r.tag(".sig"), manifestOf("", r.signedBy(t, repository, signer{edwards}, r.digest)))
		}, nil},
		"several": {func(repository string) {
			r.set(repository+r.tag(".sig"), manifestOf("", r.signedBy(t, repository, stranger, r.digest), r.signedBy(t, repository, big, other), r.signedBy(t, repository, big, r.digest)))
		}, nil},
		"referrer": {func(repository string) {
			r.refer(repository, "/referrers/"+r.digest, sigType, r.signedBy(t, repository, curve, r.digest))
		}, nil},
		"bundle": {func(repository string) {
			r.refer(repository, "/referrers/"+r.digest, bundleType, r.layerOf(repository, bundleType, curve.bundle(t, r.digest, signature), ""))
		}, nil},
		"bundle-by-tag": {func(repository string) {
			r.refer(repository, r.tag(""), bundleType, r.layerOf(repository, bundleType, curve.bundle(t, r.digest, signature), ""))
		}, nil},
		"unsigned": {func(string) {}, []string{"trust.signed (signed, scope " + r.host + "/team)", "is not signed"}},
		"stranger": {func(repository string) {
			r.set(repository+r.tag(".sig"), manifestOf("", r.signedBy(t, repository, stranger, r.digest)))
		}, []string{"none of the keys"}},
		"other": {func(repository string) {
			r.set(repository+r.tag(".sig"), manifestOf("", r.signedBy(t, repository, curve, other)))
		}, []string{"another image"}},
		"tampered": {func(repository string) {
			r.set(repository+r.tag(".sig"), manifestOf("", r.layerOf(repository, payloadType, payload(r.digest), curve.sign(t, payload(other)))))
		}, []string{"changed"}},
		"attested": {func(repository string) {
			r.refer(repository, "/referrers/"+r.digest, bundleType, r.layerOf(repository, bundleType, curve.bundle(t, r.digest, "https://spdx.dev/Document"), ""))
		}, []string{"spdx.dev"}},
		"bundle-of-stranger": {func(repository string) {
			r.refer(repository, "/referrers/"+r.digest, bundleType, r.layerOf(repository, bundleType, stranger.bundle(t, r.digest, signature), ""))
		}, []string{"none of the keys"}},
		"nonsense": {func(repository string) { r.set(repository+r.tag(".sig"), []byte("[[[[")) }, []string{"is not signed"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.prepare("team/" + name)
			full := r.host + "/team/" + name + ":latest"
			if c.words != nil {
				refused(t, r, full, "default", c.words...)
			} else if err := pullTrusted(t, full, "default"); err != nil {
				t.Error(err)
			}
		})
	}
	refused(t, r, r.host+"/elsewhere:latest", "sandbox", "trust.default (reject, scope *)")
	refused(t, r, r.host+"/teams/app:latest", "sandbox", "trust.default (reject, scope *)")
	refused(t, r, r.host+"/team/app:latest", "", "is not signed")
	for name, namespace := range map[string]string{"/team/free/app": "default", "/team/app": "sandbox"} {
		if err := pullTrusted(t, r.host+name+":latest", namespace); err != nil {
			t.Error(err)
		}
	}
	r.broken = true
	fails(t, pullTrusted(t, r.host+"/team/ecdsa:latest", ""), is(codes.Unknown), "RegistryUnavailable", "500")
}

// A mirror that has the image but no signature of it does not decide; what was pulled before there was a rule is checked as any other.
func TestTrustHasNoWayAround(t *testing.T) {
	leaveNothing(t)
	r, mirror := newSignedRegistry(t), newSignedRegistry(t)
	ours := signer{must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)}
	name := r.host + "/team/app:latest"
	pull := func() error {
		_, err := image.PullImage(soon(t), &cri.PullImageRequest{Image: spec(name)})
		return err
	}
	t.Cleanup(func() { _, _ = image.RemoveImage(soon(t), &cri.RemoveImageRequest{Image: spec(name)}) })
	if err := pull(); err != nil {
		t.Fatal(err)
	}
	hosts(t, strings.Replace(r.host, ":", "_", 1)+"_", fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n", r.host, mirror.host))
	configure(t, fmt.Sprintf("[trust.all]\nscope = %q\nkeys = [%q]\n", r.host, ours.write(t, t.TempDir()+"/ours.pub")))
	err := pull()
	fails(t, err, is(codes.Unknown), "SignatureValidationFailed", "is not signed")
	// The kubelet pulls nothing for a pod that is content with what is here.
	pod := newPod(t)
	create := func() error {
		config := containerConfig("c", "true")
		config.Image = spec(name)
		made, err := runtime.CreateContainer(soon(t), &cri.CreateContainerRequest{PodSandboxId: pod.id, Config: config, SandboxConfig: pod.config})
		if err == nil {
			must(runtime.RemoveContainer(soon(t), &cri.RemoveContainerRequest{ContainerId: made.ContainerId}))(t)
		}
		return err
	}
	fails(t, create(), is(codes.Unknown), "SignatureValidationFailed", "trust.all", "pull it again")
	mounting := containerConfig("c", "true")
	mounting.Mounts = []*cri.Mount{{ContainerPath: "/volume", Image: spec(name)}}
	_, err = runtime.CreateContainer(soon(t), &cri.CreateContainerRequest{PodSandboxId: pod.id, Config: mounting, SandboxConfig: pod.config})
	fails(t, err, is(codes.Unknown), "ImageVolumeMountFailed", "trust.all")
	r.set("team/app"+r.tag(".sig"), manifestOf("", r.signedBy(t, "team/app", ours, r.digest)))
	asked := r.asked() + mirror.asked()
	if err := pull(); err != nil {
		t.Error(err)
	}
	if r.asked()+mirror.asked() != asked {
		t.Error("the layer that was here was fetched again")
	}
	if err := create(); err != nil {
		t.Error(err)
	}
}
