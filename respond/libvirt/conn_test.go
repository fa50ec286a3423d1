package libvirt

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/e2e/lab"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

// A daemon that hangs in the middle frees the caller at the deadline, and the
// next operation after it recovered works on a new connection.
func TestHungDaemon(t *testing.T) {
	e := newEnv(t).start()
	e.a = New(Config{Name: "node1", Socket: e.Socket, Timeout: patience}, Deps{})
	t.Cleanup(e.a.Close)
	e.want("warm", flow.LinkUp, flow.LinkUp, true, "")
	e.a.cfg.Timeout = time.Second
	for _, what := range []string{"on a warm connection", "while dialling"} {
		thaw, err := e.Freeze()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = e.a.Cut(t.Context(), e.nic, suspendertest.Mark("inc-1"))
		took := time.Since(start)
		thaw()
		e.wantErr(what, err, flow.ErrTransient, "deadline")
		if took < 700*time.Millisecond || took > time.Minute {
			t.Errorf("%s: freed after %v, want 1 s", what, took)
		}
		if what == "while dialling" {
			break
		}
		e.a.Close()
	}
	e.a.cfg.Timeout = patience
	r := e.cut("inc-1")
	e.restore("inc-1", r)
	e.want("after", flow.LinkUp, flow.LinkUp, true, "")
}

// A caller that gives up frees itself and the ones behind it.
func TestCallersQueueAndGiveUp(t *testing.T) {
	e := newEnv(t).start()
	thaw, err := e.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	defer thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := e.a.Status(ctx, e.nic)
			e.wantErr("status", err, flow.ErrTransient)
		})
	}
	wg.Wait()
	if took := time.Since(start); took > time.Minute {
		t.Errorf("all freed after %v, want 0.5 s", took)
	}
}

func TestDaemonRestart(t *testing.T) {
	e := newEnv(t).start()
	r := e.cut("inc-1")
	if err := e.RestartDaemon(); err != nil {
		t.Fatal(err)
	}
	var err error
	if e.admin, err = e.Connect(); err != nil {
		t.Fatal(err)
	}
	e.want("after the restart", flow.LinkDown, flow.LinkDown, true, "inc-1")
	again := e.cut("inc-1")
	if again.Before.Live != flow.LinkUp || again.Before.Config != flow.LinkUp {
		t.Errorf("Receipt.Before = %+v, want it up", again.Before)
	}
	e.restore("inc-1", r)
	e.want("restored", flow.LinkUp, flow.LinkUp, true, "")
}

func TestTransports(t *testing.T) {
	e := newEnv(t).start()
	stranger := filepath.Join(filepath.Dir(e.PKI), "stranger")
	// Trusts the node's CA, but shows a certificate that the node does not trust.
	unknown := t.TempDir()
	for from, to := range map[string]string{
		filepath.Join(e.PKI, "cacert.pem"): "cacert.pem", filepath.Join(stranger, "clientcert.pem"): "clientcert.pem",
		filepath.Join(stranger, "clientkey.pem"): "clientkey.pem",
	} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(unknown, to), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		cfg   Config
		want  flow.ErrClass
		words string
	}{
		"unix URI":       {cfg: Config{URI: "qemu+unix:///system?socket=" + e.Socket}},
		"plain URI":      {cfg: Config{URI: "qemu:///system?socket=" + e.Socket}},
		"tcp":            {cfg: Config{Address: "127.0.0.1:16509"}},
		"tcp URI":        {cfg: Config{URI: "qemu+tcp://127.0.0.1/system"}},
		"tls":            {cfg: Config{Address: "127.0.0.1:16514", PKI: e.PKI}},
		"driver URI":     {cfg: Config{URI: "qemu:///system", Socket: e.Socket}},
		"tls URI":        {cfg: Config{URI: "qemu+tls://127.0.0.1/system?pkipath=" + e.PKI}},
		"wrong CA":       {cfg: Config{Address: "127.0.0.1:16514", PKI: stranger}, want: flow.ErrDenied, words: "certificate signed by unknown authority"},
		"unknown client": {cfg: Config{Address: "127.0.0.1:16514", PKI: unknown}, want: flow.ErrTransient, words: "does it trust our certificate"},
		"another's name": {cfg: Config{Address: "127.0.0.2:16514", PKI: e.PKI}, want: flow.ErrDenied, words: "127.0.0.2"},
		"no PKI":         {cfg: Config{Address: "127.0.0.1:16514", PKI: t.TempDir()}, want: flow.ErrUnsupported, words: "cacert.pem"},
		"nobody":         {cfg: Config{Address: "127.0.0.1:1"}, want: flow.ErrTransient},
		"no socket":      {cfg: Config{Socket: filepath.Join(t.TempDir(), "none")}, want: flow.ErrTransient},
		"wrong proto":    {cfg: Config{Address: "127.0.0.1:16514"}, want: flow.ErrTransient},
		"ssh":            {cfg: Config{URI: "qemu+ssh://node/system"}, want: flow.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Name, c.cfg.Timeout = "node1", 5*time.Second
			if c.want != flow.ErrTransient { // what the deadline would be, too
				c.cfg.Timeout = patience
			}
			a := New(c.cfg, Deps{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == "127.0.0.2:16514" {
					address = "127.0.0.1:16514" // another host than its certificate says
				}
				if network == "tcp" {
					return lab.DialIn(e.Node)(ctx, network, address)
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}})
			defer a.Close()
			_, err := a.Status(t.Context(), e.nic)
			if got := suspendertest.Class(err); got != c.want {
				t.Errorf("class %q (%v), want %q", got, err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.words) {
				t.Errorf("%q does not say %q", err, c.words)
			}
		})
	}
}

// A peer that is no libvirtd must not take the process down: go-libvirt would
// make a buffer of a negative size for the first of these.
func TestPeerSpeaksSomethingElse(t *testing.T) {
	for name, first := range map[string][]byte{
		"a length below the header": {0, 0, 0, 8, 0, 0, 0, 0},
		"a length of 4 GB":          {0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4},
		"HTTP":                      []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"nothing, then the end":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			sock := filepath.Join(t.TempDir(), "s")
			ln, err := net.Listen("unix", sock)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = c.Write(first)
					_, _ = io.CopyN(io.Discard, c, 28)
					_ = c.Close()
				}
			}()
			a := New(Config{Name: "n", Socket: sock, Timeout: patience}, Deps{})
			start := time.Now()
			_, err = a.Status(t.Context(), flow.NIC{VDS: "x", MAC: "52:54:00:00:00:01"})
			if suspendertest.Class(err) != flow.ErrTransient {
				t.Errorf("err = %v, want a transient one", err)
			}
			if time.Since(start) > patience/2 {
				t.Errorf("took %v", time.Since(start))
			}
		})
	}
}

// The guard sees packets whatever the pieces that they come in.
func TestGuardSplitsAnywhere(t *testing.T) {
	var stream []byte
	for _, n := range []int{28, 29, 1000, 28} {
		stream = binary.BigEndian.AppendUint32(stream, uint32(n))
		stream = append(stream, bytes.Repeat([]byte{7}, n-4)...)
	}
	for piece := 1; piece < 60; piece++ {
		g := &guardConn{}
		for i := 0; i < len(stream); i += piece {
			if err := g.check(stream[i:min(i+piece, len(stream))]); err != nil {
				t.Fatalf("pieces of %d: %v", piece, err)
			}
		}
		if g.left != 0 || len(g.head) != 0 {
			t.Errorf("pieces of %d: %d bytes left over", piece, g.left)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"local":          {Config{Name: "n"}, ""},
		"tls":            {Config{Name: "n", Address: "node1:16514", PKI: "/etc/pki"}, ""},
		"no name":        {Config{}, "name: missing"},
		"two ways":       {Config{Name: "n", Socket: "/s", Address: "h:1"}, "only one"},
		"URI and socket": {Config{Name: "n", Socket: "/s", URI: "qemu+tls://h/system"}, "only one"},
		"driver, socket": {Config{Name: "n", Socket: "/s", URI: "qemu:///session"}, ""},
		"no port":        {Config{Name: "n", Address: "node1"}, "host:port"},
		"pki alone":      {Config{Name: "n", PKI: "/p"}, "needs address"},
		"ssh":            {Config{Name: "n", URI: "qemu+ssh://h/system"}, "not supported"},
		"unix with host": {Config{Name: "n", URI: "qemu+unix://h/system"}, "local"},
		"tls, no host":   {Config{Name: "n", URI: "qemu+tls:///system"}, "no host"},
		"negative":       {Config{Name: "n", Timeout: -1}, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.cfg.Validate()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate() = %v, want %q", err, c.want)
			}
		})
	}
}

// Operations run side by side up to the bound, and those of one domain one after
// the other.
func TestOperationsSideBySide(t *testing.T) {
	e := newEnv(t)
	var mu sync.Mutex
	var now, most int
	var once sync.Once
	full := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 * maxAtOnce {
		wg.Go(func() {
			if err := e.a.link.with(t.Context(), func(*session) error {
				mu.Lock()
				now++
				most = max(most, now)
				if now == maxAtOnce {
					once.Do(func() { close(full) })
				}
				mu.Unlock()
				select { // until as many are in here as may be
				case <-full:
				case <-time.After(patience):
				}
				mu.Lock()
				now--
				mu.Unlock()
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most != maxAtOnce {
		t.Errorf("%d operations at once, want %d", most, maxAtOnce)
	}
	if n := len(e.a.link.idle); n > maxAtOnce || n == 0 {
		t.Errorf("%d idle connections, want at most %d", n, maxAtOnce)
	}

	unlock, err := e.a.locks.lock(t.Context(), e.dom.UUID)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // libvirt is asked first
	defer cancel()
	_, err = e.a.Cut(ctx, e.nic, suspendertest.Mark("inc-1"))
	e.wantErr("cut while another has the domain", err, flow.ErrTransient, "earlier operation on the domain")
	unlock()
	r := e.cut("inc-1")
	e.restore("inc-1", r)
	if n := len(e.a.locks.held); n != 0 {
		t.Errorf("%d locks are left over", n)
	}
}
