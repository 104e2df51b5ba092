package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const nodeAddress = "203.0.113.2" // not loopback, and none but the node's

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a private CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	a.certificate = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key))(t)))(t)
	return a
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue writes a certificate for the node's address, for either side, and its key.
func (a *authority) issue(t *testing.T, certificate, key string) {
	t.Helper()
	a.serial++
	own := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1 + a.serial), Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.ParseIP(nodeAddress)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	writePEM(t, certificate, "CERTIFICATE", must(x509.CreateCertificate(rand.Reader, template, a.certificate, &own.PublicKey, a.key))(t))
	writePEM(t, key, "EC PRIVATE KEY", must(x509.MarshalECPrivateKey(own))(t))
}

func (a *authority) write(t *testing.T, path string) {
	t.Helper()
	writePEM(t, path, "CERTIFICATE", a.certificate.Raw)
}

// dockerRegistry runs a second docker-registry with the node's images, which wants a client's certificate and a password.
func dockerRegistry(t *testing.T, ca *authority) string {
	t.Helper()
	dir := t.TempDir()
	address := nodeAddress + ":5443"
	ca.write(t, dir+"/ca.crt")
	ca.issue(t, dir+"/server.crt", dir+"/server.key")
	// secret-password, by bcrypt
	if err := os.WriteFile(dir+"/htpasswd", []byte("me:$2b$04$1tFlPkdkWBGU1vh0ycj7We3WHVokUYNQQf/6tJWBSrT4YBXroaS8y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %s/registry/storage}
auth: {htpasswd: {realm: private, path: %[2]s/htpasswd}}
http: {addr: '%[3]s', tls: {certificate: %[2]s/server.crt, key: %[2]s/server.key, clientcas: [%[2]s/ca.crt]}}
`, nodeDir, dir, address)
	if err := os.WriteFile(dir+"/config.yml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	program := exec.Command("docker-registry", "serve", dir+"/config.yml")
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = program.Process.Kill()
		_ = program.Wait()
	})
	eventually(t, 10*time.Second, "docker-registry listening", func() bool {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
		}
		return err == nil
	})
	return address
}

// A docker-registry with a private CA, client certificates and a password is reached however an operator says it: hosts.toml
// with relative or absolute paths, or Docker's files; without, the error says what is missing.
func TestRegistryTLS(t *testing.T) {
	leaveNothing(t)
	ca, stranger := newAuthority(t), newAuthority(t)
	host := dockerRegistry(t, ca)
	elsewhere := t.TempDir()
	ca.write(t, elsewhere+"/root.pem")
	ca.issue(t, elsewhere+"/c.pem", elsewhere+"/k.pem")
	me := &cri.AuthConfig{Username: "me", Password: "secret-password"}
	folder := filepath.Join(nodeDir, "certs.d", strings.Replace(host, ":", "_", 1)+"_")
	docker := filepath.Join(nodeDir, "certs.d", host)
	t.Cleanup(func() { os.RemoveAll(folder); os.RemoveAll(docker) })
	for name, c := range map[string]struct {
		prepare func(t *testing.T)
		text    string // of hosts.toml
		auth    *cri.AuthConfig
		codes   []codes.Code
		words   []string
	}{
		"nothing said":          {auth: me, codes: is(codes.Unknown), words: []string{"RegistryUnavailable", "certificate"}},
		"another CA":            {prepare: func(t *testing.T) { stranger.write(t, folder+"/ca.pem") }, text: `ca = "ca.pem"`, auth: me, codes: is(codes.Unknown), words: []string{"certificate"}},
		"no client certificate": {text: `ca = "` + elsewhere + `/root.pem"`, auth: me, codes: is(codes.Unknown), words: []string{"RegistryUnavailable"}},
		"no password":           {text: `ca = "` + elsewhere + `/root.pem"` + "\n" + `client = ["` + elsewhere + `/c.pem", "` + elsewhere + `/k.pem"]`, codes: is(codes.FailedPrecondition, codes.Unknown)},
		"absolute paths":        {text: `ca = "` + elsewhere + `/root.pem"` + "\n" + `client = [["` + elsewhere + `/c.pem", "` + elsewhere + `/k.pem"]]`, auth: me},
		"wrong password":        {text: `ca = "` + elsewhere + `/root.pem"` + "\n" + `client = [["` + elsewhere + `/c.pem", "` + elsewhere + `/k.pem"]]`, auth: &cri.AuthConfig{Username: "me", Password: "wr0ng-password"}, codes: is(codes.Unauthenticated), words: []string{host}},
		"paths beside the file": {prepare: func(t *testing.T) { ca.write(t, folder+"/ca.pem"); ca.issue(t, folder+"/c.pem", folder+"/k.pem") },
			text: `server = "https://` + host + "\"\nca = [\"ca.pem\"]\nclient = [[\"c.pem\", \"k.pem\"]]", auth: me},
		"not verified": {prepare: func(t *testing.T) { ca.issue(t, folder+"/c.pem", folder+"/k.pem") }, text: "skip_verify = true\nclient = [[\"c.pem\", \"k.pem\"]]", auth: me},
		"symlinks": {prepare: func(t *testing.T) {
			for link, target := range map[string]string{"ca.pem": "root.pem", "c.pem": "c.pem", "k.pem": "k.pem"} {
				_ = os.MkdirAll(folder, 0o755)
				if err := os.Symlink(filepath.Join(elsewhere, target), filepath.Join(folder, link)); err != nil {
					t.Fatal(err)
				}
			}
		}, text: "ca = \"ca.pem\"\nclient = [[\"c.pem\", \"k.pem\"]]", auth: me},
		"Docker's files": {prepare: func(t *testing.T) {
			ca.write(t, docker+"/ca.crt")
			ca.issue(t, docker+"/client.cert", docker+"/client.key")
		}, auth: me},
	} {
		t.Run(name, func(t *testing.T) {
			os.RemoveAll(folder)
			os.RemoveAll(docker)
			if c.prepare != nil {
				c.prepare(t)
			}
			if c.text != "" {
				hosts(t, filepath.Base(folder), c.text)
			}
			pullerGone(t) // it sees the files that were named when it started
			err := pullFrom(t, host, c.auth)
			if c.codes == nil && err != nil {
				t.Error(err)
			}
			if c.codes != nil && name != "no password" {
				fails(t, err, c.codes, c.words...)
			}
			if name == "no password" && err == nil {
				t.Error("it was pulled without")
			}
		})
	}
	noSecrets(t, "secret-password", "wr0ng-password")
}

// noSecrets says that the log and the store have none of the words.
func noSecrets(t *testing.T, words ...string) {
	t.Helper()
	log := must(os.ReadFile(crispdLog))(t)
	for _, word := range words {
		if strings.Contains(string(log), word) {
			t.Errorf("%s is in the log", word)
		}
		if output, err := tryCommand("grep", "-rlaF", word, filepath.Join(rootDir, "images"), stateDir); err == nil {
			t.Errorf("%s is in %s", word, output)
		}
	}
}

// The kubelet may give a token of the registry itself, or one by which the token server gives others.
func TestRegistryTokens(t *testing.T) {
	leaveNothing(t)
	var host string
	host = liar(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			_ = r.ParseForm()
			if r.Method != http.MethodPost || r.PostForm.Get("grant_type") != "refresh_token" || r.PostForm.Get("refresh_token") != "secret-refresh" ||
				r.PostForm.Get("scope") != "repository:crisp/config:pull" || r.PostForm.Get("service") != "liar" || r.URL.RawQuery != "" || r.Header.Get("Authorization") != "" {
				return answer(401, "no refresh token")(w, r)
			}
			fmt.Fprint(w, `{"access_token": "secret-access"}`)
			return true
		}
		if given := r.Header.Get("Authorization"); given == "Bearer secret-access" || given == "Bearer secret-given" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="liar",scope="repository:crisp/config:pull"`, host))
		w.WriteHeader(401)
		return true
	})
	fails(t, pullFrom(t, host, nil), is(codes.Unauthenticated), "token server", "no refresh token")
	fails(t, pullFrom(t, host, &cri.AuthConfig{RegistryToken: "secret-other"}), is(codes.Unauthenticated), host)
	for _, auth := range []*cri.AuthConfig{{IdentityToken: "secret-refresh"}, {RegistryToken: "secret-given"}, {Auth: "PHRva2VuPjo=", IdentityToken: "secret-refresh"}} {
		if err := pullFrom(t, host, auth); err != nil {
			t.Error(err)
		}
	}
	noSecrets(t, "secret-refresh", "secret-access", "secret-given", "secret-other")
}

// Credentials and the headers of hosts.toml go to the registry alone: neither to its mirrors nor where it redirects to.
func TestRegistryCredentialsStayHome(t *testing.T) {
	leaveNothing(t)
	private := func(r *http.Request) bool {
		return r.Header.Get("Authorization") != "" || r.Header.Get("X-Private") != ""
	}
	var leaked, mirrored, moved atomic.Int32
	watch := func(count *atomic.Int32, then lie) lie {
		return func(w http.ResponseWriter, r *http.Request) bool {
			count.Add(1)
			if private(r) {
				leaked.Add(1)
			}
			return then(w, r)
		}
	}
	mirror := liar(t, watch(&mirrored, answer(404, "nothing here")))
	storage := liar(t, watch(&moved, func(http.ResponseWriter, *http.Request) bool { return false }))
	home := liar(t, func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret-password" {
			return answer(401, "who are you")(w, r)
		}
		if r.Header.Get("X-Private") != "yes" {
			return answer(403, "no header")(w, r)
		}
		return redirect("http://"+storage+r.URL.Path)(w, r)
	})
	hosts(t, "home.example", fmt.Sprintf("server = \"http://%s\"\n[header]\nX-Private = \"yes\"\n[host.\"http://%s\"]\n", home, mirror))
	if err := pullFrom(t, "home.example", &cri.AuthConfig{Username: "me", Password: "secret-password"}); err != nil {
		t.Error(err)
	}
	if leaked.Load() > 0 || mirrored.Load() == 0 || moved.Load() == 0 {
		t.Errorf("%d requests leaked; %d to the mirror, %d to the storage", leaked.Load(), mirrored.Load(), moved.Load())
	}
}

// What the environment says of proxies holds, also in capitals; loopback and NO_PROXY's networks are asked directly.
func TestRegistryProxy(t *testing.T) {
	leaveNothing(t)
	var proxied, asked atomic.Int32
	back := httputil.NewSingleHostReverseProxy(must(url.Parse("http://" + registry))(t))
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied.Add(1)
		if r.Host != "upstream.invalid" {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		back.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	near := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); back.ServeHTTP(w, r) }))
	near.Listener.Close()
	near.Listener = must(net.Listen("tcp", nodeAddress+":0"))(t)
	near.Start()
	t.Cleanup(near.Close)
	t.Cleanup(func() { restartCrispd(t) }) // after the environment is as it was
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("NO_PROXY", "other.example,203.0.113.0/24")
	restartCrispd(t)
	hosts(t, "far.example", "server = \"http://upstream.invalid\"\n")
	hosts(t, "near.example", "server = \""+near.URL+"\"\n")
	for _, host := range []string{"far.example", "near.example", registry} {
		if err := pullFrom(t, host, nil); err != nil {
			t.Error(err)
		}
		if (proxied.Swap(0) > 0) != (host == "far.example") {
			t.Errorf("%s and the proxy", host)
		}
	}
	if asked.Load() == 0 {
		t.Error("NO_PROXY's network was not asked")
	}
}

// A registry may be an IPv6 address: on loopback by http, elsewhere as its hosts.toml says.
func TestRegistryByIPv6(t *testing.T) {
	leaveNothing(t)
	back := httputil.NewSingleHostReverseProxy(must(url.Parse("http://" + registry))(t))
	for _, address := range []string{"[::1]", "[2001:db8:113::2]"} {
		server := httptest.NewUnstartedServer(back)
		server.Listener.Close()
		server.Listener = must(net.Listen("tcp", address+":0"))(t)
		server.Start()
		t.Cleanup(server.Close)
		host := strings.TrimPrefix(server.URL, "http://")
		if address != "[::1]" {
			hosts(t, address+"_"+strings.TrimPrefix(host, address+":")+"_", "server = \""+server.URL+"\"\n")
		}
		if err := pullFrom(t, host, nil); err != nil {
			t.Error(err)
		}
	}
}

// A tag that still means what is here is only looked up, as registries count what is fetched.
func TestRegistryCountsNoPull(t *testing.T) {
	leaveNothing(t)
	var gets, heads atomic.Int32
	host := liar(t, func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			heads.Add(1)
		} else {
			gets.Add(1)
		}
		return false
	})
	name := host + "/crisp/config:latest"
	pullFor(t, name)
	gets.Store(0)
	pull(t, name)
	if gets.Load() != 0 || heads.Load() != 1 {
		t.Errorf("%d GET, %d HEAD for what is here", gets.Load(), heads.Load())
	}
}

// An image that the configuration pins says so, from its pull on and after a restart.
func TestImagePinned(t *testing.T) {
	leaveNothing(t)
	name := registry + "/crisp/config:latest"
	configure(t, fmt.Sprintf("[images]\npinned = [%q]\n", strings.TrimSuffix(name, ":latest")))
	pullFor(t, name)
	for range 2 {
		if !imageStatus(t, name).Pinned || imageStatus(t, busybox).Pinned {
			t.Errorf("%v", imageStatus(t, name))
		}
		restartCrispd(t)
	}
	stream := must(image.StreamImages(soon(t), &cri.StreamImagesRequest{}))(t)
	pinned := 0
	for {
		got, err := stream.Recv()
		if err == io.EOF {
			break
		}
		for _, i := range must(got, err)(t).Images {
			if i.Pinned {
				pinned++
			}
		}
	}
	if pinned != 1 {
		t.Errorf("%d pinned images in the stream", pinned)
	}
}
