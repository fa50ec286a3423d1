package detect

import (
	"slices"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
)

func TestSYNCarpetBoundaries(t *testing.T) {
	carpet := func(syn, pairs, remotes uint64, n float64) flow.AttemptStat {
		return flow.AttemptStat{Tenant: tenant4, IPProto: flow.ProtoTCP, Attempts: syn, Pairs: pairs, Remotes: remotes, TopDistinct: pairs, Rate: n, Classes: flow.Classes{SYNOut: syn}}
	}
	with := func(s flow.AttemptStat, change func(*flow.Classes)) flow.AttemptStat {
		change(&s.Classes)
		return s
	}
	at14, at30 := minExcessCount(150_000, 14), minExcessCount(150_000, 30)
	raw14 := minExcessCount(30_000, 14)
	for _, c := range []struct {
		name  string
		in    flow.AttemptStat
		alone float64
		want  flow.Tier
		gates []string
	}{
		{"just below notify", carpet(at14-1, 250, 250, 1), 0, flow.TierNone, nil},
		{"notify", carpet(at14, 250, 250, 1), 0, flow.TierNotify, nil},
		{"suspend", carpet(at30, 250, 250, 1), 0, flow.TierSuspend, nil},
		{"seven addresses are judged alone", carpet(at30, 7, 7, 1), 0, flow.TierNone, nil},
		{"what is judged alone does not count", carpet(at30, 250, 250, 1), float64(at30-at14) + 1, flow.TierNone, nil},
		{"each destination once in two seconds", carpet(300_000, 9_000, 9_000, 1), 0, flow.TierSuspend, nil},
		{"more destinations than that are a scan", carpet(300_000, 10_000, 10_000, 1), 0, flow.TierNone, nil},
		{"all ports of a network are a scan", carpet(600_000, 500_000, 250, 1), 0, flow.TierNone, nil},
		{"raw SYNs", with(carpet(raw14, 250, 250, 1), func(c *flow.Classes) { c.RawSYN = c.SYNOut }), 0, flow.TierNotify, nil},
		{"raw SYNs that are answered may be a kernel's", with(carpet(raw14, 250, 250, 1), func(c *flow.Classes) { c.RawSYN, c.SYNACKIn = c.SYNOut, c.SYNOut }), 0, flow.TierNone, nil},
		{"established share just below 0.2", with(carpet(200_000, 250, 250, 1), func(c *flow.Classes) { c.EstOut = 39_999 }), 0, flow.TierSuspend, nil},
		{"established share 0.2", with(carpet(200_000, 250, 250, 1), func(c *flow.Classes) { c.EstOut = 40_000 }), 0, flow.TierNotify, nil},
		{"completed", with(carpet(200_000, 250, 250, 1), func(c *flow.Classes) { c.EstOut = 400_000 }), 0, flow.TierNone, nil},
		{"refused", with(carpet(200_000, 250, 250, 1), func(c *flow.Classes) { c.RSTIn = 100_000 }), 0, flow.TierNotify, []string{GateRefused}},
		// 8,000/s at 1:4096 are 117 SYNs, 93 of 250 destinations.
		{"sampled", carpet(117, 93, 93, 4096), 0, flow.TierSuspend, nil},
		{"sampled, all of them different", carpet(117, 116, 116, 4096), 0, flow.TierNone, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultSYNFlood()
			f, _ := synCarpet(&cfg, &c.in, c.alone, minute)
			if f.Tier != c.want || !slices.Equal(f.Gates, c.gates) {
				t.Errorf("%s %v (score %.2f), want %s %v", f.Tier, f.Gates, f.Score, c.want, c.gates)
			}
		})
	}
}
