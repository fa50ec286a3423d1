package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/flowcordon/flowcordon/cmd/flowgen/panel"
	"github.com/flowcordon/flowcordon/cmd/flowgen/sim"
)

// outside is what flowcordon talks to: the hypervisor panel, the ticket system
// and the mail server.
type outside struct {
	panel   *panel.Panel
	http    net.Listener
	smtp    net.Listener
	web     *http.Server
	mail    *smtp.Server
	panelLg *os.File

	mu      sync.Mutex
	tickets []ticketFile
	mails   []mailFile
}

type ticketFile struct {
	file   string
	ticket panel.Ticket
}

func newOutside(w *work, tenants []*sim.Tenant, s *story) (*outside, error) {
	o := &outside{}
	var err error
	if o.http, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return o, err
	}
	if o.smtp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return o, err
	}
	o.panelLg, err = os.OpenFile(filepath.Join(w.dir, "panel.jsonl"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return o, err
	}
	nics := make([]panel.NIC, 0, len(tenants))
	for _, t := range tenants {
		nics = append(nics, panel.NIC{VDS: t.VDS, MAC: t.MAC, IP: t.Addr.String()})
	}
	o.panel = panel.New(panel.Config{Secret: w.secret, NICs: nics, Log: o.panelLg, OnChange: s.changed})
	tickets := &panel.Tickets{Dir: w.tickets, Secret: w.secret, OnTicket: func(t panel.Ticket, file string) {
		o.mu.Lock()
		o.tickets = append(o.tickets, ticketFile{file, t})
		o.mu.Unlock()
		s.ticket(t, file)
	}}
	mux := http.NewServeMux()
	mux.Handle("/hypervisor", o.panel)
	mux.Handle("/hypervisor/", o.panel)
	mux.Handle("/tickets", tickets)
	o.web = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	o.mail = newMailServer(w.mails, func(m mailFile) {
		o.mu.Lock()
		o.mails = append(o.mails, m)
		o.mu.Unlock()
		s.mail(m)
	})
	return o, nil
}

// run serves until ctx ends, and a little longer: flowcordon may still have
// something to say on its way down.
func (o *outside) run(ctx context.Context) error {
	ended := make(chan error, 2)
	go func() { ended <- o.web.Serve(o.http) }()
	go func() { ended <- o.mail.Serve(o.smtp) }()
	select {
	case err := <-ended:
		o.close()
		<-ended
		return fmt.Errorf("simulated panel or mail server: %w", err)
	case <-ctx.Done():
	}
	o.close()
	for range 2 {
		if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, smtp.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			return err
		}
	}
	return nil
}

func (o *outside) close() {
	if o.web != nil {
		_ = o.web.Close()
	}
	if o.mail != nil {
		_ = o.mail.Close()
	}
	for _, l := range []net.Listener{o.http, o.smtp} {
		if l != nil {
			_ = l.Close() // again, when nothing was served
		}
	}
	if o.panelLg != nil {
		_ = o.panelLg.Close()
	}
}

// written returns the tickets and mails so far.
func (o *outside) written() ([]ticketFile, []mailFile) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]ticketFile(nil), o.tickets...), append([]mailFile(nil), o.mails...)
}
