package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/integration/cluster"
	"github.com/leasehold-go/leasehold/internal/testserver"
	"github.com/leasehold-go/leasehold/node"
)

// Every way to say where a node is leads to it, and to its right database.
func TestConnectionForms(t *testing.T) {
	takesLong(t)
	t.Parallel()
	connectionForms(t, processes(t, 1), 1)
}

func connectionForms(t *testing.T, c *cluster.Cluster, _ int) {
	s := c.Servers[0]
	const password = "p@ss/wörd:%41"
	if _, err := s.Do("ACL", "SETUSER", "worker", "reset", "on", ">"+password, "~*", "&*", "+@all"); err != nil {
		t.Fatal(err)
	}
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr()}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	option := rueidis.ClientOption{InitAddress: []string{s.Addr()}, SelectDB: 5, Username: "worker", Password: password}
	dialled := option
	dialled.InitAddress = []string{"the.only.node:1"}
	dialled.DialCtxFn = func(ctx context.Context, _ string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", s.Addr())
	}
	for _, form := range []struct {
		name string
		conn node.Conn
		db   int
		user string
	}{
		{"host and port", node.URL(s.Addr()), 0, "default"},
		{"host, port and database", node.URL(s.Addr() + "/2"), 2, "default"},
		{"URL", node.URL("redis://" + s.Addr()), 0, "default"},
		{"URL with a database", node.URL("redis://" + s.Addr() + "/3"), 3, "default"},
		{"URL with a user", node.URL("redis://" + url.UserPassword("worker", password).String() + "@" + s.Addr() + "/4"), 4, "worker"},
		{"URL with RESP2", node.URL("redis://" + s.Addr() + "/6?protocol=2"), 6, "default"},
		{"option", node.FromOption(option), 5, "worker"},
		{"option with a dialer", node.FromOption(dialled), 5, "worker"},
		{"client", node.FromClient(client), 0, "default"},
	} {
		t.Run(form.name, func(t *testing.T) { reaches(t, form.conn, s, form.db, form.user) })
	}
}

// reaches wants the connection to lead to database db of the server, as that user,
// and to be good for a lease.
func reaches(t *testing.T, conn node.Conn, s cluster.Server, db int, user string) {
	t.Helper()
	sup := supervise(t, []node.Conn{conn})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l, err := sup.Acquire(ctx, "name")
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.Do("EVAL", "redis.call('SELECT', ARGV[1]); return redis.call('GET', KEYS[1])", "1", "name", fmt.Sprint(db))
	if err != nil || found != string(l.Token()) {
		t.Errorf("database %d has %v, %v, want the token", db, found, err)
	}
	clients, err := s.Do("CLIENT", "LIST")
	if list, _ := clients.(string); err != nil || !slices.ContainsFunc(strings.Split(list, "\n"), func(line string) bool {
		return strings.Contains(line, "name=leasehold-") && strings.Contains(line, fmt.Sprintf(" db=%d ", db)) &&
			strings.Contains(line, " user="+user)
	}) {
		t.Errorf("no connection of %s to database %d: %v\n%s", user, db, err, list)
	}
	if err := l.Extend(ctx, ttl); err != nil {
		t.Error(err)
	}
	if h, err := sup.Inspect(ctx, "name"); err != nil || !h.Held || h.Token != l.Token() {
		t.Errorf("Inspect() = %+v, %v", h, err)
	}
	if _, err := sup.TryAcquire(ctx, "name"); err == nil {
		t.Error("acquired twice")
	}
	if err := l.Release(ctx); err != nil {
		t.Error(err)
	}
	closeSoon(sup)
}

// missing skips the test, or fails it if nothing may be missing.
func missing(t *testing.T, what string, args ...any) {
	t.Helper()
	if os.Getenv("REQUIRE_REAL") == "1" {
		t.Fatalf("REQUIRE_REAL=1, but "+what, args...)
	}
	t.Skipf("left out: "+what, args...)
}

func TestConnectUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "lh") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	s := processes(t, 1, "--unixsocket", socket).Servers[0]
	reaches(t, node.URL("unix://"+socket), s, 0, "default")
	reaches(t, node.URL("unix://"+socket+"?db=7"), s, 7, "default")
}

func TestConnectTLS(t *testing.T) {
	t.Parallel()
	s := processes(t, 1).Servers[0]
	dir := t.TempDir()
	pool, cert := certificates(t, dir)
	addr := speakTLS(t, s, dir, false)

	trusting := rueidis.ClientOption{InitAddress: []string{addr}, TLSConfig: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}}
	reaches(t, node.URL("rediss://"+addr+"?skip_verify=true"), s, 0, "default")
	reaches(t, node.FromOption(trusting), s, 0, "default")
	files := func(names ...string) string { return "rediss://" + addr + "?" + inFiles(dir, names...).Encode() }
	reaches(t, node.URL(files("cacert")), s, 0, "default")

	stranger := watchedFor(t, node.URL("rediss://"+addr))
	if !strings.Contains(stranger, "certificate") {
		t.Errorf("an unknown authority is not named: %s", stranger)
	}
	if _, err := s.Do("CONFIG", "SET", "tls-auth-clients", "yes"); err != nil {
		t.Fatal(err)
	}
	if said := watchedFor(t, node.FromOption(trusting)); !strings.Contains(said, "certificate required") {
		t.Errorf("that a certificate of the client is wanted is not said: %s", said)
	}
	mutual := trusting
	mutual.TLSConfig = &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", Certificates: []tls.Certificate{cert}}
	reaches(t, node.FromOption(mutual), s, 0, "default")
	reaches(t, node.URL(files("cacert", "cert", "key")), s, 0, "default")
}

// speakTLS has a server listen for TLS too, with the certificates that are in dir, and returns
// where. The test is left out if it cannot.
func speakTLS(t *testing.T, s cluster.Server, dir string, mutual bool) (addr string) {
	t.Helper()
	set := func(name, value string) error { _, err := s.Do("CONFIG", "SET", name, value); return err }
	for _, file := range [][2]string{
		{"tls-cert-file", "cert.pem"}, {"tls-key-file", "key.pem"}, {"tls-ca-cert-file", "ca.pem"},
	} {
		if err := set(file[0], filepath.Join(dir, file[1])); err != nil {
			missing(t, "the redis-server has no TLS: %v", err)
		}
	}
	if err := set("tls-auth-clients", yes(mutual)); err != nil {
		t.Fatal(err)
	}
	if err := poll(5*time.Second, func() error { // the port may be taken by then
		addr = unused(t)
		_, port, _ := net.SplitHostPort(addr)
		return set("tls-port", port)
	}); err != nil {
		t.Fatal(err)
	}
	return addr
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// unused returns an address on which nobody listens.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// inFiles returns the parameters of a URL that name certificates and keys in dir, as
// certificates has written them.
func inFiles(dir string, names ...string) url.Values {
	q := url.Values{}
	for _, name := range names {
		q.Set(name, filepath.Join(dir, map[string]string{"cacert": "ca.pem", "cert": "cert.pem", "key": "key.pem"}[name]))
	}
	return q
}

// watchedFor returns why an acquisition over a connection fails, as it must.
func watchedFor(t *testing.T, conn node.Conn) string {
	t.Helper()
	var r record
	sup := r.watched(t, conn)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := sup.Acquire(ctx, "name")
	if err == nil {
		t.Fatalf("%v is good for a lease", conn)
	}
	return err.Error()
}

// certificates writes ca.pem, and cert.pem and key.pem for 127.0.0.1, which are
// good for a server and for a client.
func certificates(t *testing.T, dir string) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, kind string, der []byte) []byte {
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		check(os.WriteFile(filepath.Join(dir, name), text, 0o600))
		return text
	}
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			BasicConstraintsValid: true,
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	ca := template(1, "throw-away authority")
	ca.IsCA, ca.KeyUsage = true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	check(err)
	caPEM := write("ca.pem", "CERTIFICATE", caDER)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	leaf := template(2, "redis")
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	check(err)
	certPEM := write("cert.pem", "CERTIFICATE", der)
	keyDER, err := x509.MarshalECPrivateKey(key)
	check(err)
	keyPEM := write("key.pem", "EC PRIVATE KEY", keyDER)

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(caPEM)
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	check(err)
	return pool, cert
}

func TestConnectSentinel(t *testing.T) {
	t.Parallel()
	s := processes(t, 1).Servers[0]
	addr := startSentinel(t, s.Addr(), "port")
	reaches(t, node.URL("redis://"+addr+"?master_set=main"), s, 0, "default")
	reaches(t, node.URL("redis://"+addr+"/8?master_set=main"), s, 8, "default")
	reaches(t, node.FromOption(rueidis.ClientOption{
		InitAddress: []string{addr}, Sentinel: rueidis.SentinelOption{MasterSet: "main"},
	}), s, 0, "default")
	t.Logf("another master set: %s", watchedFor(t, node.URL("redis://"+addr+"?master_set=other")))
}

// Sentinels and the primaries behind them are spoken to with TLS, with the same files for both,
// and with a user and a password for each.
func TestConnectSentinelTLS(t *testing.T) {
	t.Parallel()
	const secret, ofSentinel = "p@ss/w:rd", "s3ntinel/p@ss"
	for name, c := range map[string]struct {
		mutual   bool
		settings []string // of the Sentinel
		user     string   // there
		files    []string
	}{
		"password": {false, []string{"requirepass " + ofSentinel}, "", []string{"cacert"}},
		"user and client certificate": {
			true, []string{"user watcher on >" + ofSentinel + " ~* &* +@all", "user default off"}, "watcher", []string{"cacert", "cert", "key"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := processes(t, 1).Servers[0]
			dir := t.TempDir()
			certificates(t, dir)
			primary := speakTLS(t, s, dir, c.mutual)
			if _, err := s.Do("ACL", "SETUSER", "worker", "reset", "on", ">"+secret, "~*", "&*", "+@all"); err != nil {
				t.Fatal(err)
			}
			addr := startSentinel(t, primary, "tls-port", append(c.settings, "port 0", "tls-replication yes",
				"tls-auth-clients "+yes(c.mutual), "tls-ca-cert-file "+filepath.Join(dir, "ca.pem"),
				"tls-cert-file "+filepath.Join(dir, "cert.pem"), "tls-key-file "+filepath.Join(dir, "key.pem"))...)

			conn := func(scheme string, change func(url.Values)) node.Conn {
				q := inFiles(dir, c.files...)
				q.Set("master_set", "main")
				q.Set("sentinel_password", ofSentinel)
				if c.user != "" {
					q.Set("sentinel_username", c.user)
				}
				change(q)
				u := url.URL{Scheme: scheme, User: url.UserPassword("worker", secret), Host: addr, Path: "/3", RawQuery: q.Encode()}
				return node.URL(u.String())
			}
			reaches(t, conn("rediss", func(url.Values) {}), s, 3, "worker")
			for _, wrong := range []struct {
				name, scheme, want string
				change             func(url.Values)
			}{
				{"no authority", "rediss", "certificate", func(q url.Values) { q.Del("cacert") }},
				{"no password", "rediss", "NOAUTH", func(q url.Values) { q.Del("sentinel_username"); q.Del("sentinel_password") }},
				{"wrong password", "rediss", "WRONGPASS", func(q url.Values) { q.Set("sentinel_password", "other") }},
				{"no TLS", "redis", "", func(q url.Values) {
					for _, name := range c.files {
						q.Del(name)
					}
				}},
				{"no client certificate", "rediss", "certificate", func(q url.Values) { q.Del("cert"); q.Del("key") }},
			} {
				if wrong.name == "no client certificate" && !c.mutual {
					continue
				}
				t.Run(wrong.name, func(t *testing.T) {
					t.Parallel()
					said := watchedFor(t, conn(wrong.scheme, wrong.change))
					if !strings.Contains(said, wrong.want) || strings.Contains(said, ofSentinel) {
						t.Errorf("%q is not in %s", wrong.want, said)
					}
				})
			}
		})
	}
}

// startSentinel starts a Sentinel of a primary, whose set is "main", and returns where it listens.
// port is what its port is called.
func startSentinel(t *testing.T, primary, port string, settings ...string) (addr string) {
	t.Helper()
	program, err := testserver.Program()
	if err != nil {
		missing(t, "%v", err)
	}
	host, number, _ := net.SplitHostPort(primary)
	dir := t.TempDir()
	if err := poll(20*time.Second, func() error { // the port may be taken by then
		addr = unused(t)
		_, ours, _ := net.SplitHostPort(addr)
		conf := filepath.Join(dir, "sentinel-"+ours+".conf")
		text := fmt.Sprintf("bind 127.0.0.1\n%s %s\ndir %s\n%s\nsentinel monitor main %s %s 1\n",
			port, ours, dir, strings.Join(settings, "\n"), host, number)
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			return err
		}
		spawn(t, exec.Command(program, conf, "--sentinel"))
		return poll(5*time.Second, func() error {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				err = c.Close()
			}
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
	return addr
}

// childAttr has a child end with its parent, if the system can do that.
var childAttr *syscall.SysProcAttr

// spawn starts a process that ends with the test, or with this process if that is
// earlier: for Linux the parent is the thread that started it, which must live as
// long.
func spawn(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = childAttr
	started, ended, reap := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			<-reap
			_ = cmd.Wait() // it was killed
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it fails only if the process has ended
		close(reap)
		<-ended
	})
}
