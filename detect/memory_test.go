package detect

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
)

// memMemory is Memory in memory.
type memMemory struct {
	state         []byte
	at            time.Time
	saves         int
	loadErr, sErr error
}

func (m *memMemory) SaveGuards(_ context.Context, ts time.Time, b []byte) error {
	if m.sErr != nil {
		return m.sErr
	}
	m.state, m.at, m.saves = slices.Clone(b), ts, m.saves+1
	return nil
}

func (m *memMemory) LoadGuards(_ context.Context, since time.Time) ([]byte, error) {
	if m.loadErr != nil || m.at.Before(since) {
		return nil, m.loadErr
	}
	return m.state, nil
}

// What a guard holds, and what it lets through, is the same with a restart in the
// middle of the story as without; and would not be, were the past forgotten.
func TestRestartInTheMiddle(t *testing.T) {
	at := func(s int64) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	always := at(1 << 20)
	// One scanner beside others that are well.
	scanAfter := func(from int64) func(m *memWindows, s int64) {
		return func(m *memWindows, s int64) {
			if s%10 == 0 {
				dialers(m, s, 8, 10, 9)
				if s > from {
					scanners(m, s, 0, 1)
				}
			}
		}
	}
	for _, c := range []struct {
		name string
		st   story
		gate string // that holds everybody after the restart; "": none does
	}{
		{"six have scanned for long, and are no newcomers", story{cfg: onlyNetscan(), restart: 1200, until: 1320,
			at: func(m *memWindows, s int64) {
				if s%10 == 0 {
					scanners(m, s, 0, min(6, int(s/100)))
				}
			}}, ""},
		{"six began at once", story{cfg: onlyNetscan(), restart: 400, until: 460,
			at: func(m *memWindows, s int64) {
				if s%10 == 0 && s > 300 {
					scanners(m, s, 0, 6)
				}
			}}, GateFleet},
		{"an outage that has lasted longer than what it is compared with", story{cfg: onlyNetscan(), restart: 1800, until: 1860,
			at: func(m *memWindows, s int64) {
				if s%10 != 0 {
					return
				}
				answered := uint64(9)
				if s > 900 {
					answered = 1
					scanners(m, s, 0, 1) // a crawler whose targets fell silent
				}
				dialers(m, s, 8, 10, answered)
			}}, GateFleet},
		{"a surge of five minutes ago", story{cfg: onlyNetscan(), restart: 1200, until: 1300,
			at: func(m *memWindows, s int64) {
				if s%10 != 0 {
					return
				}
				n := uint64(1)
				if s > 900 {
					n = 6
					scanners(m, s, 0, 1)
				}
				dialers(m, s, 8, n, n)
			}}, GateFleet},
		{"an exporter changed its rate ten minutes ago", story{cfg: onlyNetscan(), restart: 1500, until: 1600, at: scanAfter(1300),
			health: func(began, now time.Time) []flow.ExporterHealth {
				return []flow.ExporterHealth{sender(began, now, now, flow.SamplerHealth{Rate: 1000, FirstSeen: epoch, LastSeen: at(900)},
					flow.SamplerHealth{Rate: 1, FirstSeen: at(900), LastSeen: always})}
			}}, GateExporterRate},
		{"an exporter changes its rate while nobody listens", story{cfg: onlyNetscan(), restart: 1200, down: 60, until: 1400, at: scanAfter(1000),
			health: func(began, now time.Time) []flow.ExporterHealth {
				return []flow.ExporterHealth{sender(began, now, now, flow.SamplerHealth{Rate: 1000, FirstSeen: epoch, LastSeen: at(1230)},
					flow.SamplerHealth{Rate: 1, FirstSeen: at(1230), LastSeen: always})}
			}}, GateExporterRate},
		{"an exporter's rate is one for hours, and is told late by a collector that starts", story{cfg: onlyNetscan(), restart: 1200, until: 1300, at: scanAfter(1000),
			health: func(began, now time.Time) []flow.ExporterHealth {
				told := began.Add(500 * time.Millisecond)
				return []flow.ExporterHealth{sender(began, now, now, flow.SamplerHealth{Rate: 0, FirstSeen: began, LastSeen: told},
					flow.SamplerHealth{Rate: 1, FirstSeen: told, LastSeen: always})}
			}}, ""},
		{"an exporter that lost a third until a minute ago", story{cfg: onlyNetscan(), restart: 1200, until: 1300, at: scanAfter(1000),
			health: func(began, now time.Time) []flow.ExporterHealth {
				h := sender(began, now, now, flow.SamplerHealth{Rate: 1, FirstSeen: epoch, LastSeen: always})
				if began.Before(at(1140)) { // five a second from 1000 to 1140
					h.Lost = uint64(5 * min(140, max(0, now.Sub(at(1000)).Seconds())))
				}
				return []flow.ExporterHealth{h}
			}}, GateExporterLoss},
		{"an agent samples ten times denser than it states, as a collector knows after a minute", story{cfg: onlyNetscan(), restart: 1200, until: 1250, at: scanAfter(1000),
			health: func(began, now time.Time) []flow.ExporterHealth {
				h := sender(began, now, now, flow.SamplerHealth{Rate: 1, FirstSeen: epoch, LastSeen: always})
				if now.Sub(began) >= time.Minute {
					h.Denser = 10
				}
				return []flow.ExporterHealth{h}
			}}, GateRateWrong},
		{"an exporter fell silent, and does not speak to the next collector either", story{cfg: onlyNetscan(), restart: 1200, until: 1300, at: scanAfter(1000),
			health: func(began, now time.Time) []flow.ExporterHealth {
				return []flow.ExporterHealth{sender(began, now, at(1000), flow.SamplerHealth{Rate: 1, FirstSeen: epoch, LastSeen: at(1000)})}
			}}, GateExporterSilent},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := c.st.play(t, true, false)
			if c.st.down == 0 {
				if d := cmp.Diff(c.st.play(t, false, false), got, cmpopts.EquateComparable(netip.Addr{})); d != "" {
					t.Errorf("-goes on +begins again:\n%s", d)
				}
			}
			if c.gate == "" && !acted(got) || c.gate != "" && (acted(got) || !holds(got, c.gate)) {
				t.Errorf("want %q to hold: %+v", c.gate, got)
			}
			if forgets := c.st.play(t, true, true); c.gate != "" && !acted(forgets) && c.gate != GateFleet {
				t.Error("the same without a memory: the story shows nothing")
			}
		})
	}
}

// What was normal before a stop is what the fleet is compared with after it, where
// the outage began meanwhile.
func TestOutageDuringAStop(t *testing.T) {
	st := story{cfg: onlyNetscan(), restart: 900, down: 900, until: 2100, at: func(m *memWindows, s int64) {
		if s%10 != 0 {
			return
		}
		answered := uint64(9)
		if s > 900 {
			answered = 1
			scanners(m, s, 0, 1)
		}
		dialers(m, s, 8, 10, answered)
	}}
	got := st.play(t, true, false)
	for s, fs := range got {
		// Two minutes must be stored before there is anything to compare.
		if s < 1800+200 {
			continue
		}
		for _, f := range fs {
			if f.Tier > flow.TierNotify {
				t.Errorf("after %d s: %+v", s, f)
			}
		}
	}
	if !holds(got, GateFleet) {
		t.Error("the fleet holds nobody")
	}
	if f := st.play(t, true, true); holds(f, GateFleet) {
		t.Error("without a memory the outage is seen as well: the story shows nothing")
	}
}

// Nothing is acted on while what was remembered cannot be had, and what was saved
// is not overwritten.
func TestMemoryUnavailable(t *testing.T) {
	ctx := context.Background()
	m := newMemWindows()
	mem := &memMemory{loadErr: errors.New("timeout"), state: []byte("old")}
	d := New(onlyNetscan(), Deps{Windows: m, Memory: mem})
	step := func(s int64) []flow.Finding {
		t.Helper()
		ts := epoch.Add(time.Duration(s) * time.Second)
		scanners(m, s, 0, 1)
		d.recall(ctx, ts)
		fs := tickAt(t, d, s)
		d.remember(ctx, ts, true)
		return fs
	}
	for s := int64(10); s <= 60; s += 10 {
		if fs := step(s); s > 30 && (len(fs) != 1 || !slices.Equal(fs[0].Gates, []string{GateGuardsUnknown})) {
			t.Errorf("after %d s: %+v", s, fs)
		}
	}
	if mem.saves != 0 || value(t, d.m.errors.WithLabelValues(stepMemory)) == 0 {
		t.Errorf("%d saves over what could not be read", mem.saves)
	}
	mem.loadErr, mem.state = nil, nil
	if fs := step(70); len(fs) != 1 || fs[0].Tier != flow.TierSuspend {
		t.Errorf("after the store answers, and has nothing: %+v", fs)
	}
	if mem.saves != 1 {
		t.Errorf("%d saves, want one", mem.saves)
	}
	for i, broken := range []string{`{"version":99}`, `{`, `[]`} {
		at := int64(2000 * (i + 1))
		mem.state, mem.at = []byte(broken), epoch.Add(time.Hour)
		d = New(onlyNetscan(), Deps{Windows: m, Memory: mem})
		scanners(m, at-20, 0, 1)
		scanners(m, at-10, 0, 1)
		if fs := step(at); len(fs) != 1 || !slices.Equal(fs[0].Gates, []string{GateGuardsUnknown}) {
			t.Errorf("%q: %+v", broken, fs)
		}
		scanners(m, at+610, 0, 1)
		scanners(m, at+600, 0, 1)
		if fs := step(at + 620); len(fs) != 1 || fs[0].Tier != flow.TierSuspend {
			t.Errorf("%q, ten minutes later: %+v", broken, fs)
		}
	}
}

// A change is saved soon, and nothing more often than each minute otherwise.
func TestMemoryIsSaved(t *testing.T) {
	m, mem := newMemWindows(), &memMemory{}
	d := New(onlyNetscan(), Deps{Windows: m, Memory: mem})
	d.recall(context.Background(), epoch)
	var saved []int64
	for s := int64(5); s <= 200; s += 5 {
		if s%10 == 0 && s > 95 {
			scanners(m, s, 0, 1)
		}
		tickAt(t, d, s)
		before := mem.saves
		d.remember(context.Background(), epoch.Add(time.Duration(s)*time.Second), false)
		if mem.saves > before {
			saved = append(saved, s)
		}
	}
	if want := []int64{5, 65, 110, 170}; !slices.Equal(saved, want) {
		t.Errorf("saved at %v, want %v", saved, want)
	}
}

// A number of the store's that is none ends neither the detector nor what was
// saved before.
func TestMemoryThatCannotBeTold(t *testing.T) {
	mem := &memMemory{}
	d := New(onlyNetscan(), Deps{Windows: newMemWindows(), Memory: mem})
	d.recall(context.Background(), epoch)
	d.remember(context.Background(), epoch, true)
	d.guards.answers.base = math.NaN()
	d.remember(context.Background(), epoch.Add(time.Hour), true)
	if mem.saves != 1 || value(t, d.m.errors.WithLabelValues(stepMemory)) != 1 {
		t.Errorf("%d saves and %v errors, want one of each", mem.saves, value(t, d.m.errors.WithLabelValues(stepMemory)))
	}
	d.guards.answers.base = 0
	d.remember(context.Background(), epoch.Add(2*time.Hour), true)
	if mem.saves != 2 {
		t.Errorf("%d saves once it can be told, want 2", mem.saves)
	}
}
