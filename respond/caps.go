package respond

import (
	"cmp"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Caps bound automatic acts beside Config.MaxPerHour. An act is a suspend
// intent of any measure. Zero values mean the defaults beside the fields;
// negative: none at all.
type Caps struct {
	Per10Min     int     // as MaxPerHour: no bound of its own
	PerDay       int     // five times MaxPerHour
	TenantPerDay int     // 6, of one customer
	NodePerHour  int     // as MaxPerHour, of one hypervisor
	FleetShare   float64 // 0.05 of all servers with a measure in force at once, where Deps.FleetSize tells; never less than 3 servers
}

// fleetFloor: a share of a small fleet would allow nothing.
const fleetFloor = 3

// Counts are the acts that caps look at.
type Counts struct {
	Short, Day int // automatic and approved suspend intents of 10 minutes and of 24 hours
	TenantDay  int // of the same customer in 24 hours
	NodeHour   int // on the same hypervisor in 60 minutes
	Holding    int // servers with a measure in force or under way, without this one
	Fleet      int // servers that the inventory knows; 0: not known
}

func (c Caps) withDefaults(perHour int) Caps {
	orDefault(&c.Per10Min, perHour)
	orDefault(&c.PerDay, 5*perHour)
	orDefault(&c.TenantPerDay, 6)
	orDefault(&c.NodePerHour, perHour)
	orDefault(&c.FleetShare, 0.05)
	return c
}

// reached is the cap that one more act would pass, or "".
func (c Caps) reached(in Input) Reason {
	n := in.Counts
	switch {
	case n.Short >= max(c.Per10Min, 0):
		return ReasonCapShort
	case n.Day >= max(c.PerDay, 0):
		return ReasonCapDay
	case n.TenantDay >= max(c.TenantPerDay, 0):
		return ReasonCapTenant
	case n.NodeHour >= max(c.NodePerHour, 0):
		return ReasonCapNode
	case n.Fleet > 0 && in.InForce.Kind == "" && n.Holding >= c.fleetBound(n.Fleet):
		return ReasonCapFleet
	}
	return ""
}

func (c Caps) fleetBound(fleet int) int {
	if c.FleetShare < 0 {
		return 0
	}
	return max(fleetFloor, int(c.FleetShare*float64(fleet)))
}

// intent is a suspend intent as caps count it.
type intent struct {
	at       time.Time
	customer string // customerKey
	node     string // name of the adapter
}

// customerKey names the customer for caps: the id, else the server.
func customerKey(inc flow.Incident) string {
	return cmp.Or(inc.Holder.Tenant, holderKey(inc.Tenant, inc.Holder))
}

// counts sums up the intents for a decision on a holder's incident.
func (s *state) counts(ts time.Time, inc flow.Incident) (c Counts, lastHour int) {
	customer := customerKey(inc)
	s.eachIntent(ts.Add(-24*time.Hour), func(i intent) {
		c.Day++
		if i.customer == customer {
			c.TenantDay++
		}
		if i.at.After(ts.Add(-time.Hour)) {
			lastHour++
			if i.node == inc.Holder.Hypervisor {
				c.NodeHour++
			}
		}
		if i.at.After(ts.Add(-10 * time.Minute)) {
			c.Short++
		}
	})
	c.Holding = s.holding(inc.ID)
	return c, lastHour
}

// eachIntent calls fn for the intents after t. Their times come from findings
// and from clocks, so they are in order but for an hour at most.
func (s *state) eachIntent(t time.Time, fn func(intent)) {
	for ; s != nil; s = s.parent {
		for i := len(s.intents) - 1; i >= 0; i-- {
			at := s.intents[i].at
			if at.Before(t.Add(-time.Hour)) {
				break
			}
			if at.After(t) {
				fn(s.intents[i])
			}
		}
	}
}

// holding counts incidents, other than own, that have a measure in force.
func (s *state) holding(own string) int {
	n := 0
	seen := map[string]bool{}
	for ; s != nil; s = s.parent {
		for id, held := range s.holds {
			if !seen[id] {
				seen[id] = true
				if held && id != own {
					n++
				}
			}
		}
	}
	return n
}
