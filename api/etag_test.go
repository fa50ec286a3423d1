package api

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

// counted are incidents that know their version and how often they were listed;
// during is called while they are.
type counted struct {
	*desk
	mu      sync.Mutex
	version uint64
	lists   int
	during  func()
}

func (c *counted) Version() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

func (c *counted) changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
}

func (c *counted) List(ctx context.Context, q ListQuery) ([]flow.Incident, int, error) {
	l, n, err := c.desk.List(ctx, q)
	if c.during != nil {
		c.during()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists++
	return l, n, err
}

func (c *counted) Close(ctx context.Context, id, actor, text string) error {
	err := c.desk.Close(ctx, id, actor, text)
	c.changed()
	return err
}

// TestUnmade: while nothing has changed an answer is not even made; every change,
// one while it is made too, another question and another role are answered anew.
func TestUnmade(t *testing.T) {
	var c *counted
	b := newBench(t, func(_ *Config, d *Deps) {
		c = &counted{desk: d.Incidents.(*desk), version: 7}
		d.Incidents = c
	})
	const path = Prefix + "/incidents"
	ask := func(name, path, match string, role Role, code, lists int) string {
		t.Helper()
		before := c.lists
		a := b.do(t, role, "GET", path, "", "If-None-Match", match)
		if a.code != code || c.lists-before != lists || code == http.StatusNotModified && a.body != "" {
			t.Errorf("%s: %d, want %d; listed %d times, want %d", name, a.code, code, c.lists-before, lists)
		}
		return a.head.Get("ETag")
	}
	tag := ask("the first", path, "", RoleViewer, 200, 1)
	if again := ask("unchanged", path, tag, RoleViewer, 304, 0); again != tag {
		t.Errorf("the tag %s became %s", tag, again)
	}
	ask("unchanged, among others", path, `"x", `+strings.TrimPrefix(tag, "W/"), RoleViewer, 304, 0)
	ask("another question", path+"?limit=1", tag, RoleViewer, 200, 1)
	ask("another role", path, tag, RoleAdmin, 304, 1) // made, and found to be the same
	ask("no tag", path, "", RoleViewer, 200, 1)
	ask("a tag that only looks so", path, `"x.`+strings.Repeat("0", 18)+`"`, RoleViewer, 200, 1)

	c.changed() // of something that the answer does not show
	next := ask("a change elsewhere", path, tag, RoleViewer, 304, 1)
	if next == tag {
		t.Error("the tag does not follow the version")
	}
	ask("unchanged since then", path, next, RoleViewer, 304, 0)
	b.do(t, RoleAbuse, "POST", path+"/inc-3/close", `{"reason":"x"}`)
	last := ask("a change", path, next, RoleViewer, 200, 1)

	// What changes while an answer is made is in the next one.
	c.during = func() {
		c.during = nil
		b.do(t, RoleAbuse, "POST", path+"/inc-2/close", `{"reason":"x"}`)
	}
	c.changed()
	stale := ask("a change meanwhile", path, last, RoleViewer, 304, 1)
	ask("after it", path, stale, RoleViewer, 200, 1)

	// What depends on the clock is made each time.
	tag = ask("of the last day", path+"?since=-24h", "", RoleViewer, 200, 1)
	ask("again", path+"?since=-24h", tag, RoleViewer, 304, 1)
	// Another process counts from its own beginning.
	old := ask("before a restart", path, "", RoleViewer, 200, 1)
	b.h.boot = "another"
	ask("after a restart", path, old, RoleViewer, 304, 1)
	if m := b.do(t, RoleAdmin, "GET", "/metrics", "").body; !strings.Contains(m, "flowcordon_http_unmade_total 3\n") {
		t.Error("what was not made is not counted")
	}
}
