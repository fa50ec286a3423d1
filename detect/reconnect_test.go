package detect

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// steps are n steps with that many packets per second each way.
func steps(n int, out, in float64) []flow.Exchange {
	e := flow.Exchange{Out: uint64(out * reconnectStep.Seconds()), In: uint64(in * reconnectStep.Seconds())}
	return slices.Repeat([]flow.Exchange{e}, n)
}

func TestReconnectBounds(t *testing.T) {
	cfg := defaultSYNFlood()
	for _, c := range []struct {
		name     string
		rate     float64
		raw, syn uint64
		before   []flow.Exchange
		want     bool
	}{
		{"twenty times what was exchanged", 2000, 0, 120_000, steps(3, 100, 100), true},
		{"more than twenty times", 2001, 0, 120_000, steps(3, 100, 100), false},
		{"two steps only", 1000, 0, 60_000, steps(2, 100, 100), false},
		{"one busy step among quiet ones", 1000, 0, 60_000, append(steps(1, 5000, 5000), steps(9, 1, 1)...), false},
		{"three busy steps among quiet ones", 1000, 0, 60_000, append(steps(3, 100, 100), steps(9, 1, 1)...), true},
		{"one ACK for ten packets", 1000, 0, 60_000, steps(3, 100, 10), true},
		{"next to nothing came back", 1000, 0, 60_000, steps(3, 100, 4), false},
		{"no past", 600, 0, 36_000, nil, false},
		{"the most that sockets make", 5000, 0, 300_000, steps(3, 9000, 9000), true},
		{"more than sockets make", 5001, 0, 300_000, steps(3, 9000, 9000), false},
		{"one in twenty of a raw shape", 1000, 3000, 60_000, steps(3, 100, 100), true},
		{"more of a raw shape", 1000, 3001, 60_000, steps(3, 100, 100), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := flow.PairStat{Classes: flow.Classes{SYNOut: c.syn, RawSYN: c.raw}}
			if got := cfg.mayReconnect(&flow.Finding{EstRate: c.rate}, &p) && cfg.explains(c.before, c.rate); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// The past is asked for only where nothing else holds the flood, and a store
// that cannot answer holds it.
func TestReconnectGate(t *testing.T) {
	for _, c := range []struct {
		name  string
		per   uint64 // SYNs in each window
		met   float64
		err   error
		want  flow.Tier
		gates []string
	}{
		{"a stranger", 10_000, 0, nil, flow.TierSuspend, nil},
		{"an old acquaintance", 10_000, 300, nil, flow.TierNotify, []string{GateKnownPeers}},
		{"too fast for an acquaintance", 200_000, 300_000, nil, flow.TierSuspend, nil},
		{"the store cannot tell", 10_000, 0, errors.New("timeout"), flow.TierNotify, []string{GatePeersUnknown}},
		{"too fast to ask", 200_000, 0, errors.New("timeout"), flow.TierSuspend, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemWindows()
			m.met, m.peersErr = c.met, c.err
			floodRows(m, flow.ProtoTCP, c.per, 0, 10, 20, 30, 40, 50)
			f := tickAt(t, New(Config{}, Deps{Windows: m}), 60)
			if len(f) != 1 || f[0].Rule != flow.RuleSYNFlood || f[0].Tier != c.want || !slices.Equal(f[0].Gates, c.gates) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// What went on in the range itself, and longer ago than a day, is no past.
func TestReconnectLooksBackADay(t *testing.T) {
	m := newMemWindows()
	rows := func(at time.Duration) {
		for i := range 4 {
			for _, dir := range []flow.Direction{flow.Out, flow.In} {
				m.addSeen([]flow.FlowRow{{Time: epoch.Add(at + time.Duration(i)*reconnectStep).UnixNano(), Tenant: tenant4, Remote: remote,
					IPProto: flow.ProtoTCP, Class: flow.ClassEst, Dir: dir, End: 1, Packets: 1_000_000, Rate: 1}})
			}
		}
	}
	ask := func() flow.Tier {
		floodRows(m, flow.ProtoTCP, 10_000, 0, 10, 20, 30, 40, 50)
		f := tickAt(t, New(Config{}, Deps{Windows: m}), 60)
		if len(f) != 1 {
			t.Fatalf("%+v", f)
		}
		m.pairs, m.hosts = newMemWindows().pairs, newMemWindows().hosts
		return f[0].Tier
	}
	rows(-26 * time.Hour)
	rows(0)
	if got := ask(); got != flow.TierSuspend {
		t.Errorf("%s by what was longer ago or is now, want suspend", got)
	}
	rows(-5 * time.Hour)
	if got := ask(); got != flow.TierNotify {
		t.Errorf("%s by what was 5 hours ago, want notify", got)
	}
}
