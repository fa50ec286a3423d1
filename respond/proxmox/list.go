package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flowcordon/flowcordon/flow"
	"golang.org/x/sync/errgroup"
)

const (
	// listWorkers bounds the calls that a search makes at once: pvedaemon has
	// three workers a node, and the panel needs them too.
	listWorkers = 8
	// listTimeout bounds a search: two calls of some 20 ms for each of 10,000
	// guests, by listWorkers at once, are 50 s.
	listTimeout = 2 * time.Minute
)

// Marked lists every NIC of the cluster that carries a mark of ours. It reads
// the notes and the firewall rules of each guest, two calls for each. On an
// error (a node that cannot be reached) what was found is given too.
func (a *Adapter) Marked(ctx context.Context) ([]flow.MarkedNIC, error) {
	var mu sync.Mutex
	var found []flow.MarkedNIC
	var errs []error
	err := a.timed(ctx, "list", listTimeout, func(ctx context.Context) error {
		all, err := a.guests(ctx)
		if err != nil {
			return err
		}
		var g errgroup.Group
		g.SetLimit(listWorkers)
		for _, one := range all {
			if truth(string(one.Template)) {
				continue
			}
			g.Go(func() error {
				ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.timeout(), errDeadline)
				defer cancel()
				got, err := a.markedOf(ctx, one)
				mu.Lock()
				defer mu.Unlock()
				found = append(found, got...)
				if err != nil && !errors.Is(err, errMoved) { // gone since the list was made
					errs = append(errs, fmt.Errorf("guest %s on %s: %w", one, one.Node, err))
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		if len(errs) > 0 {
			return fmt.Errorf("%d of %d guests could not be read: %w", len(errs), len(all), errs[0])
		}
		return nil
	})
	slices.SortFunc(found, func(a, b flow.MarkedNIC) int {
		return strings.Compare(a.NIC.VDS+" "+a.NIC.MAC, b.NIC.VDS+" "+b.NIC.MAC)
	})
	return found, err
}

func (a *Adapter) markedOf(ctx context.Context, g guest) ([]flow.MarkedNIC, error) {
	v, err := a.read(ctx, g)
	if err != nil {
		return nil, err
	}
	_, notes := splitNotes(v.now["description"])
	rs, err := (&target{a: a, g: g, v: v}).rules(ctx)
	if err != nil {
		return nil, err
	}
	var out []flow.MarkedNIC
	for _, key := range v.nics() {
		for _, mac := range v.macsOf(key) {
			t := &target{a: a, g: g, v: v, key: key, mac: mac}
			own, _ := t.ours(rs)
			if len(own) == 0 && !slices.ContainsFunc(notes, func(n note) bool { return n.MAC == mac && n.Guest == g.ID }) {
				continue
			}
			st, err := t.status(ctx)
			if err != nil {
				return out, err
			}
			out = append(out, flow.MarkedNIC{NIC: flow.NIC{VDS: strconv.Itoa(g.ID), Hypervisor: a.cfg.Name, MAC: mac}, Status: st})
		}
	}
	return out, nil
}

// Describe says which calls a cut or a measure would make now. It changes
// nothing; the token is not in it.
func (a *Adapter) Describe(ctx context.Context, nic flow.NIC, me flow.Measure) (string, error) {
	var text string
	err := a.do(ctx, "describe", nic, func(_ context.Context, t *target) error {
		method := "PUT"
		if t.g.Type == "qemu" {
			method = "POST"
		}
		net := parseNet(t.v.now[t.key])
		config := func(d netDev) string {
			return fmt.Sprintf("%s %s%s %s=%s digest=%s, with our mark added to the notes",
				method, a.cfg.URLs[0], "/api2/json"+t.g.path("/config"), t.key, d, t.v.digest)
		}
		switch me.Kind {
		case flow.MeasureCut:
			text = config(net.with("link_down", "1"))
		case flow.MeasureLimit:
			text = config(net.with("rate", rateOf(me.KbitS)))
		case flow.MeasureBlockPort:
			rs, err := rulesFor(t.key, me.Ports, "our mark")
			if err != nil {
				return err
			}
			var lines []string
			for _, r := range rs {
				p := url.Values{"type": {r.Type}, "action": {r.Action}, "enable": {"1"}, "iface": {r.Iface}, "proto": {r.Proto}}
				if r.DPort != "" {
					p.Set("dport", string(r.DPort))
				}
				q, err := url.QueryUnescape(p.Encode())
				if err != nil {
					return err
				}
				lines = append(lines, fmt.Sprintf("POST %s%s %s, with our mark as comment", a.cfg.URLs[0],
					"/api2/json"+t.g.path("/firewall/rules"), strings.ReplaceAll(q, "&", " ")))
			}
			text = strings.Join(lines, "\n")
		default:
			return fail(flow.ErrUnsupported, "Proxmox VE has no measure %q", me.Kind)
		}
		return nil
	})
	return text, err
}
