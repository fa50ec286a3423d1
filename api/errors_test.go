package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Every wrong parameter is refused with what to write instead.
func TestBadParameters(t *testing.T) {
	b := newBench(t, nil)
	for _, tc := range []struct {
		path string
		code int
		want string
	}{
		{"/incidents?state=bogus", 422, `state: "bogus" is not understood; write live or some of open, notified`},
		{"/incidents?rule=ddos", 422, `rule: "ddos" is not understood; write one of netscan`},
		{"/incidents?tenant=me", 422, `tenant: "me" is not understood; write an address such as`},
		{"/incidents?tenant=203.0.113.1", 404, `203.0.113.1 is in none of our networks; networks.internal`},
		{"/incidents?since=yesterday", 422, `since: "yesterday" is not understood; write an RFC 3339 time such as 2026-01-31T15:04:05Z, a time before now such as -15m`},
		{"/incidents?since=2026-11-22", 422, `RFC 3339`},
		{"/incidents?until=-5x", 422, `until: "-5x" is not understood`},
		{"/incidents?since=-1h&until=-2h", 422, `since is not before until`},
		{"/incidents?limit=0", 422, `limit: expected number >= 1`},
		{"/incidents?limit=501", 422, `limit: expected number <= 500`},
		{"/incidents?limit=many", 422, `limit: invalid integer, got "many"`},
		{"/incidents?offset=-1", 422, `offset: expected number >= 0`},
		{"/incidents?page=2", 422, `page: unknown query parameter; known here are state, tenant, rule, since, until, limit, offset`},
		{"/hosts/nobody", 422, `ip: "nobody" is not understood; write an address such as 198.18.0.7`},
		{"/hosts/fe80::1%25eth0", 422, `is not understood; write an address`},
		{"/hosts/203.0.113.1", 404, `in none of our networks`},
		{"/hosts/198.18.0.7?from=-1h&to=-2h", 422, `from 2026-11-22T06:00:00Z is not before to 2026-11-22T05:00:00Z; write an earlier from`},
		{"/hosts/198.18.0.7?step=15s", 422, `step: "15s" is not understood; write auto or a multiple of 10s`},
		{"/hosts/198.18.0.7?step=0s", 422, `step: "0s" is not understood`},
		{"/hosts/198.18.0.7?from=-48h&step=10s", 422, `step: 10s gives 17280 points; write 1m30s or more, or a shorter time`},
		{"/hosts/198.18.0.7/flows?proto=tpc", 422, `proto: "tpc" is not understood; write tcp, udp, icmp, icmpv6 or a number from 1 to 255`},
		{"/hosts/198.18.0.7/flows?proto=256", 422, `a number from 1 to 255`},
		{"/hosts/198.18.0.7/flows?port=65536", 422, `port: expected number <= 65535`},
		{"/hosts/198.18.0.7/flows?port=ssh", 422, `port: invalid integer, got "ssh"`},
		{"/hosts/198.18.0.7/flows?dir=up", 422, `dir: expected value to be one of "out, in", got "up"`},
		{"/hosts/198.18.0.7/flows?remote=x", 422, `remote: "x" is not understood; write an address`},
		{"/hosts/198.18.0.7/flows?limit=20001", 422, `limit: expected number <= 20000`},
		{"/hosts/198.18.0.7/flows?format=xml", 422, `format: expected value to be one of "json, csv, jsonl"`},
		{"/top?by=love", 422, `by: expected value to be one of "out_bytes, out_packets, in_bytes, in_packets, syn"`},
		{"/top?window=1s", 422, `window: "1s" is not understood; write a time from 10s to 744h`},
		{"/top?window=745h", 422, `window: "745h"`},
		{"/top?limit=1001", 422, `limit: expected number <= 1000`},
		{"/incidents?state=" + strings.Repeat("x", 5000), 422, `xxx…" is not understood`},
		{"/incidents?rule=<script>alert(1)</script>", 422, `rule: "<script>alert(1)</script>" is not understood`},
		{"/incidents/%3Cscript%3E", 404, `no incident "<script>"`},
		{"/nothing", 404, `there is nothing at this address; /api/v1/openapi.json lists`},
	} {
		p := b.get(t, Prefix+tc.path).problem(t, tc.code)
		if !strings.Contains(p.Detail, tc.want) || len(p.Detail) > 1000 {
			t.Errorf("%.80s: detail %q, want %q", tc.path, p.Detail, tc.want)
		}
	}
}

func TestFailures(t *testing.T) {
	storePaths := []string{"/hosts/198.18.0.7", "/hosts/198.18.0.7/flows", "/hosts/198.18.0.7/peers", "/top", "/incidents/inc-1/evidence"}
	t.Run("store away", func(t *testing.T) {
		b := newBench(t, nil)
		b.shelf.fail = errors.New("dial tcp 10.0.0.5:9000: secret")
		for _, path := range storePaths {
			a := b.get(t, Prefix+path)
			p := a.problem(t, 503)
			if strings.Contains(a.body, "secret") || !strings.Contains(p.Detail, a.head.Get("X-Request-Id")) {
				t.Errorf("%s: %s", path, a.body)
			}
			if n := b.logs.FilterMessage("store failed").FilterField(zapString("request", a.head.Get("X-Request-Id"))).Len(); n != 1 {
				t.Errorf("%s: %d log lines", path, n)
			}
		}
	})
	t.Run("controller fails", func(t *testing.T) {
		b := newBench(t, nil)
		b.desk.fail = errors.New("secret")
		if a := b.get(t, Prefix+"/incidents"); a.problem(t, 500).Status != 500 || strings.Contains(a.body, "secret") {
			t.Error(a.body)
		}
	})
	t.Run("too slow", func(t *testing.T) {
		b := newBench(t, func(c *Config, _ *Deps) { c.Timeout = 20 * time.Millisecond })
		b.shelf.block = true
		if p := b.get(t, Prefix+"/top").problem(t, 504); !strings.Contains(p.Detail, "ask for a shorter time") {
			t.Error(p.Detail)
		}
	})
	t.Run("panic", func(t *testing.T) {
		b := newBench(t, nil)
		b.shelf.panic = true
		for _, path := range storePaths {
			if a := b.get(t, Prefix+path); a.problem(t, 500).Status != 500 || strings.Contains(a.body, "secret") {
				t.Errorf("%s: %s", path, a.body)
			}
		}
		if n := b.logs.FilterMessage("panic in a handler").Len(); n != len(storePaths) {
			t.Errorf("%d panics logged", n)
		}
		b.shelf.mu.Lock()
		b.shelf.panic = false
		b.shelf.mu.Unlock()
		b.get(t, Prefix+"/top").into(t, &struct{}{})
	})
	t.Run("large body", func(t *testing.T) {
		b := newBench(t, nil)
		a := b.do(t, RoleAbuse, http.MethodPost, Prefix+"/incidents/inc-1/release", `{"statement":"`+strings.Repeat("x", maxBody)+`"}`)
		if p := a.problem(t, 413); !strings.Contains(p.Detail, "too large") || len(a.body) > 2000 {
			t.Error(a.body)
		}
	})
	t.Run("wrong method", func(t *testing.T) {
		b := newBench(t, nil)
		for path, want := range map[string]string{"/incidents/inc-1/release": "POST", "/incidents": "GET"} {
			a := b.do(t, RoleAdmin, http.MethodDelete, Prefix+path, "")
			if p := a.problem(t, 405); a.head.Get("Allow") != want || !strings.Contains(p.Detail, "use "+want) {
				t.Errorf("%s: Allow %q, %q", path, a.head.Get("Allow"), p.Detail)
			}
		}
	})
}
