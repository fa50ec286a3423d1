package proxmox

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowcordon/flowcordon/respond/proxmox/pvetest"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
)

func TestWatcher(t *testing.T) {
	suspendertest.RunWatcher(t, func(t *testing.T) suspendertest.Fixture {
		s := pvetest.Start(t)
		return suspendertest.Fixture{
			S: adapter(t, s, func(c *Config) { c.WatchEvery = 20 * time.Millisecond }), NIC: vmNIC,
			Change: func(*testing.T) { s.Task("qmrollback", 100, "panel@pve") },
		}
	})
}

// What is told, look by look: the client is the simulator itself, so that the
// time is the test's.
func TestWatchTells(t *testing.T) {
	s := pvetest.Start(t)
	s.Task("qmstart", 100, "panel@pve") // from before
	a := adapter(t, s, func(c *Config) { c.WatchEvery = time.Hour })
	ctx := t.Context()
	before, err := a.recent(ctx)
	if err != nil || len(before) != 1 {
		t.Fatalf("recent = %v, %v", before, err)
	}
	s.Task("qmconfig", 100, "abuse@pve!flowcordon") // our own
	s.Task("vncproxy", 100, "panel@pve")
	s.Task("vzdump", 100, "root@pam")
	s.Task("qmigrate", 200, "panel@pve")
	s.Lock()
	s.Tasks[0]["endtime"] = 1732000009
	s.Tasks = append(s.Tasks, map[string]any{"upid": "UPID:pve1:1:1:1:srvstart:pveproxy:root@pam:"}, map[string]any{"upid": "UPID:"}, map[string]any{})
	s.Unlock()
	after, err := a.recent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for key, id := range after {
		if _, ok := before[key]; !ok {
			told[id]++
		}
	}
	if len(told) != 2 || told["100"] != 1 || told["200"] != 1 {
		t.Errorf("new: %v, want the end of the task on 100 and the migration of 200", told)
	}
}

// A cluster that cannot be reached does not end the watch.
func TestWatchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(Config{Name: "pve"}, Deps{}) // no URL: each look fails at once
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Watch(ctx, func(vds string) { t.Errorf("told of %q", vds) }) }()
		time.Sleep(time.Hour)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
}
