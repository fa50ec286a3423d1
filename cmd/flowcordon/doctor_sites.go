package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
	"github.com/flowcordon/flowcordon/respond"
)

func (d *doctor) checkInventory() {
	path := d.cfg.Inventory.File
	if path == "" {
		d.say("inventory", gradeWarn, "write inventory.file: who holds which address", "there is none; nobody is ever cut")
		return
	}
	st, err := os.Stat(path)
	inv := inventory.New(inventory.Config{Path: path}, inventory.Deps{})
	if err == nil {
		err = inv.Reload()
	}
	if err != nil {
		d.say("inventory", gradeFail, "mend the file; the one loaded before stays in force", "%v", err)
		return
	}
	n, now := 0, d.now()
	inv.Each(func(flow.Holder) bool { n++; return true })
	age := now.Sub(st.ModTime())
	if d.live != nil {
		if at := d.live.metrics.sum("flowcordon_inventory_loaded_timestamp_seconds", "", ""); at > 0 {
			age = now.Sub(time.Unix(int64(at), 0))
		}
	}
	switch most := d.cfg.Respond.InventoryMaxAge; {
	case n == 0:
		d.say("inventory", gradeWarn, "list who holds which address", "%s is empty; nobody is ever cut", path)
	case most > 0 && age > most:
		d.say("inventory", gradeFail, "have it written anew and systemctl reload flowcordon", "%d entries, loaded %v ago: older than respond.inventory_max_age (%v), so nothing is done", n, age.Round(time.Minute), most)
	case d.live != nil && d.live.metrics != nil && d.live.metrics.sum("flowcordon_inventory_last_reload_success", "", "") == 0:
		d.say("inventory", gradeWarn, "flowcordon check-config "+d.config, "the service refused the last version of %s", path)
	default:
		d.say("inventory", gradeOK, "", "%d entries, %v old", n, age.Round(time.Minute))
	}
}

// checkSuspenders asks each hypervisor something that changes nothing: for NICs
// with our marks, or for the state of one NIC of the inventory.
func (d *doctor) checkSuspenders(ctx context.Context) {
	if len(d.cfg.Respond.Suspenders) == 0 {
		d.say("suspenders", gradeWarn, "docs/suspenders.md", "there are none; nobody is ever cut")
		return
	}
	nics := d.oneNIC()
	s := &service{path: d.config, cfg: d.cfg, log: zap.NewNop(), registry: prometheus.NewRegistry()}
	for _, c := range d.cfg.Respond.Suspenders {
		check := "suspender " + c.Name
		if c.Type == "bgp" { // a session of its own would disturb the service's
			d.checkPeers(check)
			continue
		}
		a, err := s.suspender(c)
		if err != nil {
			d.say(check, gradeFail, "flowcordon check-config "+d.config, "%v", err)
			continue
		}
		d.tell(check, d.reach(ctx, a, nics[c.Name]))
	}
}

var errNoQuestion = errors.New("no NIC of the inventory is there, and the adapter cannot list marks")

// reach is what a harmless question to an adapter gives.
func (d *doctor) reach(ctx context.Context, a respond.Suspender, nic *flow.NIC) error {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Respond.CallTimeout)
	defer cancel()
	if nic != nil {
		_, err := a.Status(ctx, *nic)
		return err
	}
	if l, ok := a.(respond.Lister); ok {
		_, err := l.Marked(ctx)
		return err
	}
	return errNoQuestion
}

func (d *doctor) tell(check string, err error) {
	var act *flow.ActError
	switch {
	case err == nil:
		d.say(check, gradeOK, "", "answers")
	case errors.Is(err, errNoQuestion):
		d.say(check, gradeWarn, "", "could not be asked anything harmless: %v", err)
	case errors.As(err, &act) && (act.Class == flow.ErrNotFound || act.Class == flow.ErrUnsupported):
		d.say(check, gradeWarn, "is the inventory up to date?", "answers, but: %v", err)
	default:
		d.say(check, gradeFail, "is it up, the address right, the credentials valid? docs/suspenders.md says what it needs", "%v", err)
	}
}

func (d *doctor) checkPeers(check string) {
	if d.live == nil || len(d.live.metrics["flowcordon_bgp_peer_up"]) == 0 {
		d.say(check, gradeWarn, "", "its sessions are the service's; none runs that would tell")
		return
	}
	for _, p := range d.live.metrics["flowcordon_bgp_peer_up"] {
		if p.value == 0 {
			d.say(check, gradeFail, "is the peer configured for this address and AS?", "the session with %s is down", p.labels["peer"])
			return
		}
	}
	d.say(check, gradeOK, "", "its sessions are up")
}

// oneNIC picks, for each hypervisor, a NIC that the inventory says is there.
func (d *doctor) oneNIC() map[string]*flow.NIC {
	out := map[string]*flow.NIC{}
	inv := inventory.New(inventory.Config{Path: d.cfg.Inventory.File}, inventory.Deps{})
	if inv.Reload() != nil {
		return out // told by checkInventory
	}
	inv.Each(func(h flow.Holder) bool {
		if h.Hypervisor != "" && out[h.Hypervisor] == nil && len(h.NICs) > 0 {
			out[h.Hypervisor] = &flow.NIC{VDS: h.VDS, Hypervisor: h.Hypervisor, MAC: h.NICs[0], IP: h.Prefix.Addr()}
		}
		return true
	})
	return out
}
