package config

import (
	"regexp"
	"time"
)

// Retention is how long rollups are kept; what they are made of has
// store.flow_ttl and store.window_ttl.
type Retention struct {
	Minutes time.Duration `yaml:"minutes"` // sums of a minute, by host
	Hours   time.Duration `yaml:"hours"`   // sums of an hour, by host, service and pair
}

// Storage is where rows lie on a server with several disks. Empty: where the
// server puts them, as with the embedded engine.
type Storage struct {
	Policy     string    `yaml:"policy"`      // a storage policy of the server
	ColdVolume string    `yaml:"cold_volume"` // volume of the policy for old rows
	ColdAfter  ColdAfter `yaml:"cold_after"`
}

// ColdAfter is the age at which rows of a level are moved; 0: never.
type ColdAfter struct {
	Flows   time.Duration `yaml:"flows"`
	Windows time.Duration `yaml:"windows"`
	Minutes time.Duration `yaml:"minutes"`
	Hours   time.Duration `yaml:"hours"`
}

var volumeName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// leastWindows are kept long enough for the hours to be summed after an outage.
const leastWindows = 6 * time.Hour

func (c *Config) checkRetention(d *decoder) {
	r, st := c.ClickHouse.Retention, c.ClickHouse.Storage
	d.positive("clickhouse.retention.minutes", r.Minutes)
	d.positive("clickhouse.retention.hours", r.Hours)
	if w := c.Store.WindowTTL; w > 0 && w < leastWindows {
		d.bad("store.window_ttl", "%v is too short for hours to be summed before it ends; write at least %v", w, leastWindows)
	}
	if r.Minutes > 0 && r.Minutes < c.Store.WindowTTL {
		d.bad("clickhouse.retention.minutes", "%v is shorter than store.window_ttl (%v), of which minutes are the sums; write as much or more", r.Minutes, c.Store.WindowTTL)
	}
	if r.Hours > 0 && r.Hours < r.Minutes {
		d.bad("clickhouse.retention.hours", "%v is shorter than clickhouse.retention.minutes (%v); write as much or more", r.Hours, r.Minutes)
	}
	for _, n := range []struct{ key, value string }{{"policy", st.Policy}, {"cold_volume", st.ColdVolume}} {
		if n.value != "" && !volumeName.MatchString(n.value) {
			d.bad("clickhouse.storage."+n.key, "%q is no name of letters, digits and underscores; write the one in the server's storage_configuration", n.value)
		}
	}
	if len(c.ClickHouse.Addr) == 0 && (st.Policy != "" || st.ColdVolume != "") {
		d.bad("clickhouse.storage", "needs a ClickHouse server: the embedded engine has one disk; name one in clickhouse.addr, or leave this out")
	}
	for _, l := range []struct {
		name       string
		after, ttl time.Duration
	}{
		{"flows", st.ColdAfter.Flows, c.Store.FlowTTL}, {"windows", st.ColdAfter.Windows, c.Store.WindowTTL},
		{"minutes", st.ColdAfter.Minutes, r.Minutes}, {"hours", st.ColdAfter.Hours, r.Hours},
	} {
		at := "clickhouse.storage.cold_after." + l.name
		switch {
		case l.after < 0 || l.after > 0 && l.after < time.Minute:
			d.bad(at, "%v is under a minute; write for example 720h, or 0 for never", l.after)
		case l.after > 0 && st.ColdVolume == "":
			d.bad(at, "needs clickhouse.storage.cold_volume")
		case l.after > 0 && l.ttl > 0 && l.after >= l.ttl:
			d.bad(at, "%v is no sooner than rows of this level expire (%v); write less, or 0 for never", l.after, l.ttl)
		}
	}
}
