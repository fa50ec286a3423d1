package complaint

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// tried is what sums by the hour say: in these hours the host tried the target of
// aClaim.
func tried(at []time.Time, level uint8) *evidence {
	ev := &evidence{old: []serviceSums{{res: flow.ResolutionHour}}}
	for _, t := range at {
		w := flow.ServiceSum{Key: flow.Key{Start: t.Truncate(time.Hour).Unix(), Rate: 1}, Length: time.Hour, IPProto: 6, Role: flow.RoleClient, SvcPort: aClaim().remotePort,
			Counts: flow.Counts{OutPackets: 3}, Tried: []uint64{flow.RemoteHash(aClaim().remote)}, Level: level}
		if level > 0 {
			w.Tried = nil
		}
		ev.old[0].Rows = append(ev.old[0].Rows, w)
	}
	return ev
}

// fromTheHour is moments from the beginning of an hour on.
func fromTheHour(minutes ...int) []time.Time {
	l := moments(minutes...)
	for i := range l {
		l[i] = l[i].Add(-at.Sub(at.Truncate(time.Hour)))
	}
	return l
}

func searchIn(ev *evidence, claims []time.Time) *Skew {
	cs, evs := scene(claims, nil, noPort)
	for i := range evs {
		evs[i] = ev
	}
	return searchHours(cs, evs, DefaultTolerance)
}

func TestSkewHours(t *testing.T) {
	day := fromTheHour(10, 5*60+15, 11*60+20, 26*60+10, 35*60+8, 47*60+40) // three days, in fact
	block := fromTheHour(0, 60, 120, 180, 240, 300)
	for _, tt := range []struct {
		name        string
		claims      []time.Time
		tried       []time.Time
		want        string // empty: nothing is said
		significant bool
	}{
		{"three hours over a day", day, moved(day, 3*time.Hour), "+03:00", true},
		{"six hours back", day, moved(day, -6*time.Hour), "-06:00", true},
		{"five of six", day, moved(day[:5], 3*time.Hour), "+03:00", true},
		{"minutes cannot be told", day, moved(day, 7*time.Minute), "", false},
		{"it is right as written", day, day, "", false},
		{"nothing at all", day, nil, "", false},
		{"two of six", day, moved(day[:2], 3*time.Hour), "", false},
		{"one moment", day[:1], moved(day[:1], 3*time.Hour), "", false},
		{"two moments may be an accident", day[:2], moved(day[:2], 3*time.Hour), "+03:00", false},
		{"hours on end are one moment", block, moved(block, 5*time.Hour), "", false},
		{"every hour fits every offset", day, fromTheHour(func() (all []int) {
			for h := -40; h < 90; h++ {
				if h != 0 && h != 5 && h != 11 && h != 26 && h != 35 && h != 47 {
					all = append(all, 60*h)
				}
			}
			return all
		}()...), "", false},
		{"two hours fit alike: neither is told", day, append(moved(day, 3*time.Hour), moved(day, 4*time.Hour)...), "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := searchIn(tried(tt.tried, 0), tt.claims)
			switch {
			case s == nil && tt.want == "":
			case s == nil || s.Name != tt.want || s.Significant != tt.significant || s.Resolution != ResolutionHour:
				t.Errorf("%+v, want %q", s, tt.want)
			}
		})
	}
	// A half hour fits two whole ones by halves, or one of them by accident; where
	// lines fall into both halves it is neither.
	halves := fromTheHour(10, 4*60+40, 7*60+20, 13*60+50, 16*60+15, 19*60+45)
	if s := searchIn(tried(moved(halves, 5*time.Hour+30*time.Minute), 0), halves); s != nil {
		t.Errorf("a half hour: %+v", s)
	}
}

// Targets that a sample cannot name are no lines to search by.
func TestSkewHoursOfASample(t *testing.T) {
	day := fromTheHour(0, 4*60, 7*60, 13*60)
	if flow.RemoteHash(aClaim().remote)&(1<<12-1) == 0 {
		t.Fatal("the target is in every sample")
	}
	ev := tried(moved(day, 3*time.Hour), 12)
	if hit, could := ev.hoursOf(aClaim(), DefaultTolerance); could {
		t.Errorf("%v", hit)
	}
	if s := searchIn(ev, day); s != nil {
		t.Errorf("%+v", s)
	}
}

// Complaints that have nothing to do with what the host did, some hours on end:
// of many at most about one in a thousand is called off by a clock.
func TestSkewHoursFalseAlarms(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 11))
	const runs = 300
	some := func(from, to int) (l []time.Time) {
		for range 1 + rng.IntN(8) {
			at := at.Add(time.Duration(from+rng.IntN(to-from)) * time.Minute)
			for range 1 + rng.IntN(4) {
				l, at = append(l, at), at.Add(time.Duration(20+rng.IntN(60))*time.Minute)
			}
		}
		return l
	}
	alarms, said := 0, 0
	for range runs {
		if s := searchIn(tried(some(-26*60, 50*60), 0), some(0, 24*60)); s != nil {
			said++
			if s.Significant {
				alarms++
			}
		}
	}
	if alarms > 2 {
		t.Errorf("%d false alarms in %d", alarms, runs)
	}
	t.Logf("%d said, %d significant of %d", said, alarms, runs)
}

func TestSkewHourWeights(t *testing.T) {
	sum := 0.0
	for o := -maxHours; o <= maxHours; o++ {
		if o != 0 {
			sum += hourWeight(o)
		}
	}
	if sum > 1+1e-9 || sum < 0.99 {
		t.Errorf("the weights add up to %v", sum)
	}
}
