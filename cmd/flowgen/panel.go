package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
	"github.com/flowcordon/flowcordon/cmd/internal/tool"
)

func runPanel(ctx context.Context, fs *flag.FlagSet, args []string, stdout, stderr io.Writer) error {
	listen := fs.String("listen", "127.0.0.1:9000", "`address` to serve on")
	secretFile := fs.String("secret-file", "", "`file` with the secret that requests are signed with")
	inventory := fs.String("inventory", "", "inventory.yaml with the interfaces; empty: any is taken")
	logFile := fs.String("log", "", "append each request as a JSON line to this `file`; empty: to stdout")
	tickets := fs.String("tickets", "", "also accept tickets at /tickets and write them to this `folder`")
	hang := fs.Duration("hang", 0, "wait this long before each answer")
	fail := fs.Int("fail", 0, "answer everything with this HTTP status")
	if err := tool.Parse(fs, args, 0); err != nil {
		return err
	}
	if *secretFile == "" {
		return tool.Misuse(fs, "--secret-file is missing")
	}
	secret, err := os.ReadFile(*secretFile)
	if err != nil {
		return err
	}
	cfg := panel.Config{Secret: bytes.TrimSpace(secret), AnyNIC: *inventory == "", Log: stdout}
	if len(cfg.Secret) == 0 {
		return fmt.Errorf("%s is empty", *secretFile)
	}
	if cfg.NICs, err = readNICs(*inventory); err != nil {
		return err
	}
	if *logFile != "" {
		f, err := os.OpenFile(*logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		cfg.Log = f
	}
	p := panel.New(cfg)
	p.Hang(*hang)
	p.Fail(*fail)
	mux := http.NewServeMux()
	mux.Handle("/", p)
	if *tickets != "" {
		if err := os.MkdirAll(*tickets, 0o700); err != nil {
			return err
		}
		mux.Handle("/tickets", &panel.Tickets{Dir: *tickets, Secret: cfg.Secret})
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "panel on http://%s/hypervisor\n", l.Addr())
	return serveUntil(ctx, &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}, l)
}

func serveUntil(ctx context.Context, s *http.Server, l net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	_ = s.Close()
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// readNICs takes the interfaces out of an inventory file; the keys it does not
// need are flowcordon's business.
func readNICs(path string) ([]panel.NIC, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries []struct {
		Prefix string   `yaml:"prefix"`
		IP     string   `yaml:"ip"`
		VDS    string   `yaml:"vds"`
		MACs   []string `yaml:"macs"`
	}
	if err := yaml.Unmarshal(b, &entries); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var nics []panel.NIC
	for _, e := range entries {
		for _, m := range e.MACs {
			nics = append(nics, panel.NIC{VDS: e.VDS, MAC: m, IP: e.IP + e.Prefix})
		}
	}
	if len(nics) == 0 {
		return nil, fmt.Errorf("%s names no interface (macs)", path)
	}
	return nics, nil
}
