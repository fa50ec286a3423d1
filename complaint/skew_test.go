package complaint

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// scene is a complaint of some moments, and a host's flows with the target.
func scene(claims []time.Time, flows []time.Time, port func(int) uint16) ([]*claim, map[int]*evidence) {
	ev := &evidence{}
	for i, f := range flows {
		ev.rows = append(ev.rows, row(func(r *flow.FlowRow) {
			r.Start, r.End, r.HostPort = f.UnixNano(), f.UnixNano(), port(i)
		}))
	}
	var cs []*claim
	evs := map[int]*evidence{}
	for i, at := range claims {
		c := aClaim()
		c.from, c.to, c.hostPort = at, at, 0
		if port != nil && port(-1) > 0 {
			c.hostPort = port(i)
		}
		evs[len(cs)] = ev
		cs = append(cs, c)
	}
	return cs, evs
}

func noPort(int) uint16 { return 0 }

func moments(minutes ...int) []time.Time {
	var out []time.Time
	for _, m := range minutes {
		out = append(out, at.Add(time.Duration(m)*time.Minute))
	}
	return out
}

func moved(in []time.Time, d time.Duration) []time.Time {
	var out []time.Time
	for _, t := range in {
		out = append(out, t.Add(d))
	}
	return out
}

func TestSkew(t *testing.T) {
	spread := moments(0, 37, 101, 222, 345, 480)
	burst := []time.Time{at, at.Add(time.Second), at.Add(2 * time.Second), at.Add(30 * time.Second)}
	alike := func(int) uint16 { return 0 }
	own := func(i int) uint16 { return uint16(40000 + max(i, 0)) }
	for _, tt := range []struct {
		name        string
		claims      []time.Time
		flows       []time.Time
		port        func(int) uint16
		want        string // empty: nothing is said
		significant bool
	}{
		{"three hours over a day", spread, moved(spread, 3*time.Hour), alike, "+03:00", true},
		{"half an hour's zone", spread, moved(spread, -5*time.Hour-30*time.Minute), alike, "-05:30", true},
		{"a clock that is seven minutes late", spread, moved(spread, 7*time.Minute), alike, "+07", true},
		{"a day and an hour", spread, moved(spread, 25*time.Hour), alike, "+25:00", true},
		{"it is right as written", spread, spread, alike, "", false},
		{"nothing at all", spread, nil, alike, "", false},
		{"one burst proves little", burst, moved(burst, 3*time.Hour), alike, "+03:00", false},
		{"one burst with its own source ports does", burst, moved(burst, 3*time.Hour), own, "+03:00", true},
		{"two of six", spread, moved(spread[:2], 3*time.Hour), alike, "", false},
		{"one line", spread[:1], moved(spread[:1], 91*time.Minute), alike, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			claims, evs := scene(tt.claims, tt.flows, tt.port)
			s := search(claims, evs, DefaultTolerance)
			switch {
			case s == nil && tt.want == "":
			case s == nil || tt.want == "":
				t.Fatalf("got %+v, want %q", s, tt.want)
			case s.Significant != tt.significant:
				t.Errorf("significant %v (chance %v)", s.Significant, s.Chance)
			case tt.want == "+07": // minutes within the tolerance explain as much
				if s.OffsetS < 5*60 || s.OffsetS > 9*60 {
					t.Errorf("%s", s.Name)
				}
			case s.Name != tt.want:
				t.Errorf("%s, want %s", s.Name, tt.want)
			}
			if s != nil && (s.Explained > s.Of || s.Chance <= 0 || s.Chance > 1) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A host that talks to the target all the time explains every offset, and none.
func TestSkewBusyTarget(t *testing.T) {
	var flows []time.Time
	for m := -30 * 60; m < 40*60; m += 3 {
		if m < -10 || m > 500 { // but not while it is claimed
			flows = append(flows, at.Add(time.Duration(m)*time.Minute))
		}
	}
	claims, evs := scene(moments(0, 37, 101, 222, 345, 480), flows, noPort)
	if s := search(claims, evs, DefaultTolerance); s != nil && s.Significant {
		t.Errorf("%+v", s)
	}
}

// Complaints that have nothing to do with the flows: of many, at most about one
// in a thousand may be called off by a clock.
func TestSkewFalseAlarms(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	const runs = 400
	alarms := 0
	for range runs {
		var claims, flows []time.Time
		for range 1 + rng.IntN(8) {
			claims = append(claims, at.Add(time.Duration(rng.IntN(24*3600))*time.Second))
		}
		for range rng.IntN(60) {
			flows = append(flows, at.Add(time.Duration(rng.IntN(76*3600)-26*3600)*time.Second))
		}
		cs, evs := scene(claims, flows, noPort)
		if s := search(cs, evs, DefaultTolerance); s != nil && s.Significant {
			alarms++
		}
	}
	if alarms > 2 {
		t.Errorf("%d false alarms in %d", alarms, runs)
	}
}

// The weights of all offsets but zero are at most one: else the chances of all
// of them together would be more than what is said.
func TestSkewWeights(t *testing.T) {
	sum := 0.0
	for o := -maxOffset; o <= maxOffset; o++ {
		if o != 0 {
			sum += weight(o)
		}
	}
	if sum > 1 || sum < 0.9 {
		t.Errorf("the weights add up to %v", sum)
	}
}
