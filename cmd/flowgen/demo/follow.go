package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// pollEvery is how often the API is asked: often enough to tell a story, seldom
// enough to cost nothing.
const pollEvery = 500 * time.Millisecond

// patience is for how many polls in a row the API may not answer.
const patience = 20

// follow tells what happens until ctx ends, or with Once until all is shown
// (errDone) or something happened that never may.
func (d *demo) follow(ctx context.Context) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	failures, told, began := 0, false, false
	silent, toldWrong := map[string]bool{}, map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			if cause := context.Cause(ctx); errors.Is(cause, errTimeout) {
				return cause
			}
			return nil
		case <-ticker.C:
		}
		if v := d.routers.snapshot(); !began && !v.lastScan.IsZero() && d.attackBegan(v) {
			began = true
			d.story.attackBegan(d.routers.world)
		}
		list, err := d.api.incidents(ctx)
		if err != nil {
			if failures++; failures > patience && ctx.Err() == nil {
				return fmt.Errorf("the API does not answer any more: %w", err)
			}
			continue
		}
		failures = 0
		d.setIncidents(list)
		for _, i := range list {
			d.story.incident(i, d.who(i))
		}
		v := d.verdict(time.Now())
		for _, text := range v.wrong {
			if d.cfg.Once {
				return errors.New(text)
			}
			if !toldWrong[text] {
				toldWrong[text] = true
				d.story.say("WRONG     %s", text)
			}
		}
		for _, a := range v.attackers {
			if a.ok() && !silent[a.tenant.VDS] {
				silent[a.tenant.VDS] = true
				d.story.silent(a.tenant.Addr, a.tenant.VDS, d.console(ctx, a.tenant.VDS))
			}
		}
		if v.shown() && !told {
			told = true
			d.final = d.summary()
			d.story.all(d, d.final)
			if d.cfg.Once {
				return errDone
			}
		}
	}
}

func (d *demo) attackBegan(v view) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.attack.IsZero() && v.at.After(d.attack)
}

// who says what a tenant is, for people.
func (d *demo) who(i flow.Incident) string {
	w := d.routers.world
	for _, t := range w.Tenants() {
		if t.Addr == i.Tenant {
			return t.VDS + ", " + t.Profile
		}
	}
	if i.Holder.VDS != "" {
		return i.Holder.VDS
	}
	return "nobody's"
}

func (d *demo) setIncidents(list []flow.Incident) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.incidents = list
}

// console is the login prompt of a VM, by the panel's HTTP interface.
func (d *demo) console(ctx context.Context, vds string) string {
	url := fmt.Sprintf("http://%s/hypervisor/console/%s", d.outside.http.Addr(), vds)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error()
	}
	resp, err := d.api.http.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 200))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}
