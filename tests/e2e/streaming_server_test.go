package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc/codes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// certificate makes a key and a certificate for an address, in two files.
func certificate(t *testing.T, address string) (certFile, keyFile string, text []byte) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(address)},
		IsCA: true, BasicConstraintsValid: true}
	text = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(t)})
	keyText := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(key))(t)})
	certFile, keyFile = filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
	for file, text := range map[string][]byte{certFile: text, keyFile: keyText} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, text
}

func (c *container) execURL(t *testing.T) string {
	t.Helper()
	return must(runtime.Exec(soon(t), &cri.ExecRequest{ContainerId: c.id, Cmd: []string{"true"}, Stdout: true}))(t).Url
}

// The address, the port and the certificate are the configuration's, for all streams.
func TestStreamingTLS(t *testing.T) {
	leaveNothing(t)
	cert, key, text := certificate(t, "203.0.113.2")
	configure(t, fmt.Sprintf("[streaming]\naddress = \"203.0.113.2\"\nport = 10443\ntls_cert = %q\ntls_key = %q\n", cert, key))
	p := newPod(t)
	c := p.sleeper(t, "main")
	address := c.execURL(t)
	if !strings.HasPrefix(address, "https://203.0.113.2:10443/exec/") {
		t.Errorf("%q", address)
	}
	if err := executor(t, "spdy", address).StreamWithContext(soon(t), remotecommand.StreamOptions{Stdout: io.Discard}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a client that does not know the certificate: %v", err)
	}
	streamClient = rest.Config{TLSClientConfig: rest.TLSClientConfig{CAData: text}}
	t.Cleanup(func() { streamClient = rest.Config{} })
	port := p.echo(t, "127.0.0.1:0")
	each(t, func(t *testing.T, transport string) {
		const size = 64 << 20
		in, out := newCounted(size), sha256.New()
		begin := time.Now()
		if err := c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdin: in, Stdout: out}, "cat"); err != nil || !bytes.Equal(in.sum.Sum(nil), out.Sum(nil)) {
			t.Errorf("exec: what came back is not what was sent: %v", err)
		}
		t.Logf("exec: %.0f MB/s there and back", float64(size)/1e6/time.Since(begin).Seconds())
		in, out = newCounted(size), sha256.New()
		if err := exchange(t, p.forward(t, transport, fmt.Sprintf(":%d", port))[0], in, out); err != nil || !bytes.Equal(in.sum.Sum(nil), out.Sum(nil)) {
			t.Errorf("port-forward: what came back is not what was sent: %v", err)
		}
	})
}

func TestStreamingAddress(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	for address, host := range map[string]string{"::1": "http://[::1]:10250/", "0.0.0.0": "http://127.0.0.1:10250/"} {
		t.Run(address, func(t *testing.T) {
			configure(t, fmt.Sprintf("[streaming]\naddress = %q\nport = 10250\n", address))
			url := c.execURL(t)
			if !strings.HasPrefix(url, host) {
				t.Errorf("%q", url)
			}
			if err := executor(t, "websocket", url).StreamWithContext(soon(t), remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A session in which nothing happens ends, and with it the command; one in which something does stays.
func TestStreamingIdle(t *testing.T) {
	leaveNothing(t)
	configure(t, "[streaming]\nidle_timeout_seconds = 1\n")
	p := newPod(t)
	c := p.sleeper(t, "main")
	port := p.echo(t, "127.0.0.1:0")
	each(t, func(t *testing.T, transport string) {
		begin := time.Now()
		err := c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdout: io.Discard}, "sleep", "1002")
		if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "idle") || took < time.Second || took > 10*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		eventually(t, 5*time.Second, "the command dead", func() bool { return c.sh(t, `ps -o args | grep "^[s]leep 1002" || true`) == "" })
		var out bytes.Buffer
		if err := c.stream(t, soon(t), transport, remotecommand.StreamOptions{Stdout: &out}, shell(`for i in 1 2 3 4 5 6; do sleep 0.4; echo $i; done`)...); err != nil || out.String() != "1\n2\n3\n4\n5\n6\n" {
			t.Errorf("%v %q", err, out.String())
		}
		connection := must(net.Dial("tcp", p.forward(t, transport, fmt.Sprintf(":%d", port))[0]))(t)
		defer connection.Close()
		connection.SetDeadline(time.Now().Add(10 * time.Second))
		for range 6 {
			time.Sleep(400 * time.Millisecond)
			fmt.Fprint(connection, "x")
			if _, err := io.ReadFull(connection, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := connection.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a forwarded connection that is silent: %v", err)
		}
	})
}

// channels are a WebSocket client's as clients of before 2023 were: a byte or digit for the channel, and what is on it.
type channels struct {
	*websocket.Conn
	base64 bool
}

func dialChannels(t *testing.T, url, protocol string) *channels {
	t.Helper()
	var protocols []string
	if protocol != "" {
		protocols = []string{protocol}
	}
	dialer := &websocket.Dialer{Subprotocols: protocols}
	connection, _, err := dialer.DialContext(soon(t), strings.Replace(url, "http", "ws", 1), http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	connection.SetReadDeadline(time.Now().Add(patience))
	return &channels{connection, strings.Contains(protocol, "base64")}
}

func (c *channels) say(t *testing.T, channel byte, text string) {
	t.Helper()
	kind, message := websocket.BinaryMessage, append([]byte{channel}, text...)
	if c.base64 {
		kind, message = websocket.TextMessage, append([]byte{'0' + channel}, base64.StdEncoding.EncodeToString([]byte(text))...)
	}
	if err := c.WriteMessage(kind, message); err != nil {
		t.Error(err)
	}
}

// hear gives what came on each channel until the server closes, which it must do well.
func (c *channels) hear(t *testing.T) map[byte]string {
	t.Helper()
	heard := map[byte]string{}
	for {
		_, message, err := c.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			return heard
		}
		if err != nil || len(message) == 0 {
			t.Fatalf("%v, %q; heard %q", err, message, heard)
		}
		channel, text := message[0], message[1:]
		if c.base64 {
			channel, text = channel-'0', must(base64.StdEncoding.DecodeString(string(text)))(t)
		}
		heard[channel] += string(text)
	}
}

func TestStreamingChannels(t *testing.T) {
	leaveNothing(t)
	c := newPod(t).sleeper(t, "main")
	for _, protocol := range []string{"v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io", ""} {
		t.Run(protocol, func(t *testing.T) {
			answer := must(runtime.Exec(soon(t), &cri.ExecRequest{ContainerId: c.id, Cmd: shell(`read x; echo "<$x>"; echo err >&2; exit 3`),
				Stdin: true, Stdout: true, Stderr: true}))(t)
			client := dialChannels(t, answer.Url, protocol)
			if client.Subprotocol() != protocol {
				t.Errorf("agreed on %q", client.Subprotocol())
			}
			client.say(t, 0, "wo")
			client.say(t, 0, "rd\n")
			heard := client.hear(t)
			if heard[1] != "<word>\n" || heard[2] != "err\n" || !strings.Contains(heard[3], "3") || strings.Contains(heard[3], "NonZeroExitCode") != strings.HasPrefix(protocol, "v") {
				t.Errorf("%q", heard)
			}
		})
	}
}

// Port-forward as two channels a port: the port's number first; errors are told; with its last connection the session ends.
func TestStreamingPortChannels(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	port := p.listen(t, "127.0.0.1:0", func(connection net.Conn) {
		word := make([]byte, 5)
		io.ReadFull(connection, word)
		fmt.Fprintf(connection, "<%s>", word)
	})
	first := func(port int) string { return string([]byte{byte(port), byte(port >> 8)}) }
	for _, protocol := range []string{"v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""} {
		t.Run(protocol, func(t *testing.T) {
			answer := must(runtime.PortForward(soon(t), &cri.PortForwardRequest{PodSandboxId: p.id, Port: []int32{int32(port), 1}}))(t)
			client := dialChannels(t, answer.Url, protocol)
			client.say(t, 0, "hello")
			heard := client.hear(t)
			if heard[0] != first(port)+"<hello>" || heard[1] != first(port) || heard[2] != first(1) || !strings.HasPrefix(heard[3], first(1)+"port 1 of the pod") {
				t.Errorf("%q", heard)
			}
		})
	}
}

// A thousand URLs may wait for their clients, each for a minute.
func TestStreamingTokens(t *testing.T) {
	leaveNothing(t)
	p := newPod(t)
	ask := func() (*cri.PortForwardResponse, error) {
		return runtime.PortForward(soon(t), &cri.PortForwardRequest{PodSandboxId: p.id})
	}
	time.Sleep(time.Minute) // those of other tests
	begin := time.Now()
	first := must(ask())(t).Url
	for range 999 {
		must(ask())(t)
	}
	_, err := ask()
	fails(t, err, is(codes.ResourceExhausted), "1000")
	time.Sleep(time.Until(begin.Add(61 * time.Second)))
	response := must(http.Get(first))(t)
	response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("a URL of a minute ago: %v", response.Status)
	}
	must(ask())(t)
}
