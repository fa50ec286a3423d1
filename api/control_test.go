package api

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowcordon/flowcordon/flow"
)

// board is a control that remembers what it was told.
type board struct {
	mu     sync.Mutex
	told   []string
	frozen []flow.Frozen
	quiet  bool // nothing to lift
	filter flow.AuditFilter
	page   flow.AuditPage
}

func (c *board) tell(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, fmt.Sprintf(format, args...))
}

func (c *board) Restrict(_ context.Context, id, actor string, m flow.Measure, reason string) error {
	c.tell("restrict %s %s %s %v %d %s", id, actor, m.Kind, m.Ports, m.KbitS, reason)
	if m.Kind == flow.MeasureBlockPort && len(m.Ports) == 0 {
		return ErrInvalid("block_port without ports")
	}
	return nil
}

func (c *board) ReleaseMistake(_ context.Context, id, actor, reason string) error {
	c.tell("mistake %s %s %s", id, actor, reason)
	return nil
}

func (c *board) Undo(_ context.Context, since time.Time, actor, reason string) (flow.Undone, error) {
	c.tell("undo %s %s %s", since.Format(time.RFC3339), actor, reason)
	return flow.Undone{GivingBack: []string{"inc-1"}}, nil
}

func (c *board) Freezes() []flow.Frozen { return c.frozen }

func (c *board) Unfreeze(_ context.Context, actor, reason string) error {
	c.tell("unfreeze %s %s", actor, reason)
	if c.quiet {
		return ErrConflict("nothing is frozen")
	}
	return nil
}

func (c *board) Audit(f flow.AuditFilter, p flow.AuditPage) ([]flow.AuditEntry, uint64) {
	c.filter, c.page = f, p
	return []flow.AuditEntry{{Seq: 8, Time: t0, Actor: "detector", Kind: "opened", Incident: "inc-1"}}, 8
}

func TestControl(t *testing.T) {
	c := &board{frozen: []flow.Frozen{{Rule: flow.RuleNetscan, Since: t0, Tenants: 12, Incident: "inc-1"}}}
	b := newBench(t, func(_ *Config, d *Deps) { d.Control = c })
	post := func(path, body string) answer {
		return b.do(t, RoleAdmin, http.MethodPost, Prefix+path, body)
	}
	for _, tt := range []struct{ path, body, told string }{
		{"/incidents/inc-1/restrict", `{"measure":"block_port","ports":[{"proto":6,"port":22}],"reason":" ssh "}`, "restrict inc-1 test-admin block_port [{6 22}] 0 ssh"},
		{"/incidents/inc-1/restrict", `{"measure":"rate_limit","kbit_s":10000,"reason":"slow"}`, "restrict inc-1 test-admin rate_limit [] 10000 slow"},
		{"/incidents/inc-1/mistake", `{"reason":"wrong rate"}`, "mistake inc-1 test-admin wrong rate"},
		{"/undo", `{"since":"-1h","reason":"wrong rate"}`, "undo " + t0.Add(-time.Hour).Format(time.RFC3339) + " test-admin wrong rate"},
		{"/freezes/lift", `{"reason":"a worm"}`, "unfreeze test-admin a worm"},
	} {
		if a := post(tt.path, tt.body); a.code != 200 {
			t.Errorf("%s: %d %s", tt.path, a.code, a.body)
		}
		if got := c.told[len(c.told)-1]; got != tt.told {
			t.Errorf("%s: told %q, want %q", tt.path, got, tt.told)
		}
	}
	before := len(c.told)
	for path, body := range map[string]string{
		"/incidents/inc-1/restrict": `{"measure":"kill","reason":"x"}`,
		"/undo":                     `{"since":"2099-01-01T00:00:00Z","reason":"x"}`,
		"/freezes/lift":             `{"reason":"   "}`,
	} {
		post(path, body).problem(t, 422)
	}
	if len(c.told) != before {
		t.Errorf("refused orders were carried out: %q", c.told[before:])
	}
	post("/incidents/nobody/restrict", `{"measure":"cut","reason":"x"}`).problem(t, 404)
	c.quiet = true
	post("/freezes/lift", `{"reason":"again"}`).problem(t, 409)
	if n := b.logs.FilterMessage("write").Len(); n < 8 {
		t.Errorf("%d lines in the audit log, want one for each order", n)
	}
}

func TestAudit(t *testing.T) {
	c := &board{}
	b := newBench(t, func(_ *Config, d *Deps) { d.Control = c })
	var got struct {
		Entries []flow.AuditEntry `json:"entries"`
		Next    uint64            `json:"next"`
	}
	a := b.do(t, RoleOperator, http.MethodGet, Prefix+"/audit?incident=inc-1&kind=intent,released&tenant=2001:db8:0:7::1&since=-24h&before=99&limit=1", "")
	a.into(t, &got)
	want := flow.AuditFilter{Incident: "inc-1", Kinds: []string{"intent", "released"}, Since: t0.Add(-24 * time.Hour)}
	want.Tenant = c.filter.Tenant
	if d := cmp.Diff(want.Kinds, c.filter.Kinds); d != "" || c.filter.Incident != "inc-1" || !c.filter.Since.Equal(want.Since) || c.filter.Tenant.String() != "2001:db8:0:7::" {
		t.Errorf("filter %+v", c.filter)
	}
	if c.page != (flow.AuditPage{Before: 99, Limit: 1}) || len(got.Entries) != 1 || got.Next != 8 {
		t.Errorf("page %+v, answer %+v", c.page, got)
	}
	if p := b.do(t, RoleOperator, http.MethodGet, Prefix+"/audit?since=yesterday", "").problem(t, 422); !strings.Contains(p.Detail, "since") {
		t.Errorf("detail %q", p.Detail)
	}
}

func TestBundle(t *testing.T) {
	b := newBench(t, nil)
	a := b.do(t, RoleAbuse, http.MethodGet, Prefix+"/incidents/inc-1/bundle?for=outside", "")
	if a.code != 200 || a.body != "zip of inc-1, outside true" || a.head.Get("Content-Type") != "application/zip" || a.head.Get("Content-Disposition") != "attachment; filename=inc-1.zip" {
		t.Errorf("%d %v %s", a.code, a.head, a.body)
	}
	b.do(t, RoleAbuse, http.MethodGet, Prefix+"/incidents/none/bundle", "").problem(t, 404)
	if p := b.do(t, RoleAbuse, http.MethodGet, Prefix+"/incidents/inc-5/bundle", "").problem(t, 503); strings.Contains(p.Detail, "secret") {
		t.Errorf("the inside is shown: %q", p.Detail)
	}
}
