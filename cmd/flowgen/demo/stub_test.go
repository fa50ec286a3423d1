package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/smtp"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
	"github.com/flowcordon/flowcordon/flow"
)

// The test binary, run as `… serve --config F` with this variable set, stands
// in for flowcordon: it speaks its protocols outwards and decides by the clock.
// The real one is run by make demo ONCE=1.
const stubEnv = "FLOWGEN_TEST_STUB"

func TestMain(m *testing.M) {
	if os.Getenv(stubEnv) != "" && len(os.Args) == 4 && os.Args[1] == "serve" {
		mode := filepath.Base(filepath.Dir(os.Args[3])) // the work directory's name says what to play
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := (&stub{mode: mode, config: os.Args[3]}).run(ctx)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, "stub:", err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	if err := os.Setenv(stubEnv, "1"); err != nil { // for the children
		panic(err)
	}
	os.Exit(m.Run())
}

type stub struct {
	mode, config string
	cfg          struct {
		Listen []struct{ Address string }
		HTTP   struct{ Address string }
		API    struct {
			Tokens []struct {
				File string `yaml:"token_file"`
			}
		}
		Inventory struct{ File string }
		Respond   struct {
			Suspenders []struct {
				URL    string
				Secret string `yaml:"secret_file"`
			}
			Notify struct {
				Email  struct{ Address string }
				Ticket struct{ URL string }
			}
		}
	}
	secret []byte
	mu     sync.Mutex
	list   []flow.Incident
}

type entry struct {
	Prefix  netip.Prefix
	VDS     string
	MACs    []string
	Contact string
}

func (s *stub) run(ctx context.Context) error {
	for _, f := range []struct {
		path func() string
		into any
	}{{func() string { return s.config }, &s.cfg}} {
		b, err := os.ReadFile(f.path())
		if err != nil {
			return err
		}
		if err := yaml.Unmarshal(b, f.into); err != nil {
			return err
		}
	}
	token, err := os.ReadFile(s.cfg.API.Tokens[0].File)
	if err != nil {
		return err
	}
	if s.secret, err = os.ReadFile(s.cfg.Respond.Suspenders[0].Secret); err != nil {
		return err
	}
	var udp [2]net.PacketConn
	for i, l := range s.cfg.Listen {
		if udp[i], err = net.ListenPacket("udp", l.Address); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/api/v1/incidents", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+string(token) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"incidents": s.list})
	})
	l, err := net.Listen("tcp", s.cfg.HTTP.Address)
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(l, mux) }()
	// Both routers must be heard before anything is "found".
	buf := make([]byte, 2000)
	for i, want := range []string{"127.0.0.11", "127.0.0.12"} {
		_, from, err := udp[i].ReadFrom(buf)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(from.String(), want+":") {
			return fmt.Errorf("datagram from %s, want %s", from, want)
		}
	}
	if s.mode == "crash" {
		return fmt.Errorf("told to crash")
	}
	if s.mode != "idle" {
		time.Sleep(2500 * time.Millisecond) // the attack begins after 1 s
		if err := s.act(); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (s *stub) act() error {
	b, err := os.ReadFile(s.cfg.Inventory.File)
	if err != nil {
		return err
	}
	var inv []entry
	if err := yaml.Unmarshal(b, &inv); err != nil {
		return err
	}
	// The last three entries are the scanner, the flooder and the honest host.
	targets := map[flow.Rule]entry{flow.RuleNetscan: inv[len(inv)-3], flow.RuleUDPFlood: inv[len(inv)-2]}
	if s.mode == "innocent" {
		targets[flow.RulePortscan] = inv[len(inv)-1]
	}
	for rule, e := range targets {
		id := "inc-" + e.VDS
		if s.mode != "liar" {
			req := panel.Request{Action: "suspend", Key: "k-" + id, Incident: id, VDS: e.VDS, MAC: e.MACs[0], Reason: string(rule), At: time.Now()}
			if err := s.post(s.cfg.Respond.Suspenders[0].URL, req.Key, req); err != nil {
				return err
			}
		}
		inc := flow.Incident{ID: id, Tenant: e.Prefix.Addr(), Rules: []flow.Rule{rule}, Tier: flow.TierSuspend, State: flow.StateVerified,
			Opened: time.Now(), Findings: []flow.Finding{{Reason: "the stub says so"}}}
		sum := sha256.Sum256([]byte("log"))
		ticket := panel.Ticket{Event: "suspended", Incident: inc, Subject: "suspended", Logs: []flow.EvidenceLog{{Text: "log", SHA256: hex.EncodeToString(sum[:])}}}
		if err := s.post(s.cfg.Respond.Notify.Ticket.URL, "n-"+id, ticket); err != nil {
			return err
		}
		msg := "Subject: =?utf-8?q?=D0=A1=D0=B5=D1=82=D1=8C?=\r\n\r\nhello\r\n"
		if err := smtp.SendMail(s.cfg.Respond.Notify.Email.Address, nil, "abuse@hoster.example", []string{e.Contact}, []byte(msg)); err != nil {
			return err
		}
		s.mu.Lock()
		s.list = append(s.list, inc)
		s.mu.Unlock()
	}
	return nil
}

func (s *stub) post(url, key string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	ts, sig := panel.Sign(s.secret, time.Now(), body)
	req.Header.Set("X-Flowcordon-Timestamp", ts)
	req.Header.Set("X-Flowcordon-Signature", sig)
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}
