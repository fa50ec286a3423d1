package detect

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// story is played by a detector that goes on, by one that is killed and begins
// again with what it saved, and by one that forgets.
type story struct {
	cfg     Config
	restart int64 // seconds after epoch, and after: until
	until   int64
	down    int64 // seconds without a detector, and without its collector
	// at brings what is stored by then.
	at func(m *memWindows, s int64)
	// health says what the collector that began at a moment knows; nil: nothing.
	health func(began, now time.Time) []flow.ExporterHealth
}

// play returns the findings from the restart on, by second.
func (st *story) play(t *testing.T, restart, forget bool) map[int64][]flow.Finding {
	t.Helper()
	m, mem := newMemWindows(), &memMemory{}
	began, now := epoch, epoch
	deps := Deps{Windows: m}
	if !forget {
		deps.Memory = mem
	}
	if st.health != nil {
		deps.Health = healthFunc(func() []flow.ExporterHealth { return st.health(began, now) })
	}
	d := New(st.cfg, deps)
	out := map[int64][]flow.Finding{}
	for s := int64(5); s <= st.until; s += 5 {
		now = epoch.Add(time.Duration(s) * time.Second)
		if restart && s >= st.restart && s < st.restart+st.down {
			continue
		}
		if restart && s == st.restart+st.down {
			began = now.Add(-time.Second)
			d = New(st.cfg, deps)
		}
		st.at(m, s)
		if !forget {
			d.recall(context.Background(), now)
		}
		fs := tickAt(t, d, s)
		d.remember(context.Background(), now, false)
		if s >= st.restart+st.down {
			out[s] = fs
		}
	}
	return out
}

// holds says whether a gate is named in any of the findings.
func holds(all map[int64][]flow.Finding, gate string) bool {
	for _, fs := range all {
		for i := range fs {
			if slices.Contains(fs[i].Gates, gate) {
				return true
			}
		}
	}
	return false
}

func acted(all map[int64][]flow.Finding) bool {
	for _, fs := range all {
		for i := range fs {
			if fs[i].Tier > flow.TierNotify {
				return true
			}
		}
	}
	return false
}

// dialers brings the windows of tenants who open connections, of which a share is
// answered; scanners those of tenants that scan.
func dialers(m *memWindows, s int64, tenants int, opened, answered uint64) {
	b := &flow.Batch{}
	for i := range tenants {
		k := flow.Key{Start: epoch.Unix() + s - 10, Tenant: address(500 + i), Rate: 1}
		c, cl := flow.Counts{OutRecords: opened, OutPackets: opened, InRecords: answered, InPackets: answered}, flow.Classes{SYNOut: opened, SYNACKIn: answered}
		w := flow.ServiceWindow{Key: k, IPProto: flow.ProtoTCP, Role: flow.RoleClient, SvcPort: 443, Counts: c, Classes: cl, Attempts: opened, Remotes: []uint64{1, 2, 3}}
		b.Services, b.Hosts = append(b.Services, w), append(b.Hosts, flow.HostWindow{Key: k, Counts: c, Classes: cl})
	}
	m.add(b)
}

func scanners(m *memWindows, s int64, from, to int) {
	for i := from; i < to; i++ {
		rowsOf(m, address(i), 22, 1, 60, s-10)
	}
}

// sender is an exporter as the collector that began at a moment knows it.
func sender(began, now, last time.Time, samplers ...flow.SamplerHealth) flow.ExporterHealth {
	if last.After(now) {
		last = now
	}
	h := flow.ExporterHealth{Exporter: exporter, Protocols: []string{"sflow5"}, FirstSeen: began.Add(100 * time.Millisecond), LastSeen: last}
	if last.Before(h.FirstSeen) {
		return flow.ExporterHealth{Exporter: exporter, Protocols: []string{"sflow5"}}
	}
	h.Datagrams = uint64(10*last.Sub(began).Seconds()) + 1
	h.Records = 5 * h.Datagrams
	for _, s := range samplers {
		if s.LastSeen.After(h.FirstSeen) && !s.FirstSeen.After(now) {
			s.FirstSeen, s.LastSeen, s.Records = later(s.FirstSeen, h.FirstSeen), earlier(s.LastSeen, now), 10
			h.Samplers = append(h.Samplers, s)
		}
	}
	return h
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
