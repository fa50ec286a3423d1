package main

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/flowcordon/flowcordon/cmd/flowgen/bulk"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond"
)

// longEnv switches the long runs on.
const longEnv = "FLOWCORDON_LONG"

func long(t *testing.T) {
	t.Helper()
	if os.Getenv(longEnv) == "" {
		t.Skipf("set %s=1 for the long run", longEnv)
	}
}

// envCount is a number from the environment, or its default.
func envCount(t *testing.T, name string, def uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

var totalsProtocols = []flow.Protocol{flow.NetFlow5, flow.NetFlow9, flow.IPFIX, flow.SFlow5}

// TestKnownTotals: per internal address, packets, bytes and records in
// ClickHouse are exactly what was sent.
func TestKnownTotals(t *testing.T) {
	for _, p := range totalsProtocols {
		t.Run(p.String(), func(t *testing.T) { knownTotals(t, p, 200_000, 5_000, "5s") })
	}
}

// TestLongKnownTotals is the same with ten million records of 50,000 hosts.
func TestLongKnownTotals(t *testing.T) {
	long(t)
	n := envCount(t, "FLOWCORDON_TOTALS_RECORDS", 10_000_000)
	for _, p := range totalsProtocols {
		t.Run(p.String(), func(t *testing.T) { knownTotals(t, p, n, 50_000, longInterval) })
	}
}

// longInterval is the detector's slot in the long run. Every rule runs, only
// not each 5 s: 50,000 busy hosts are asked for with each tick, and what is
// tested is the sums.
const longInterval = "30s"

// inFlight is how many records may be on their way between the generator and
// the decoder: what socket buffers hold without loss.
const inFlight = 50_000

func knownTotals(t *testing.T, p flow.Protocol, records uint64, hosts int, interval string) {
	s := newSite(t, siteOptions{Interval: interval})
	l := s.start(t)
	l.awaitDatabase(t)
	began, cpu, engine := time.Now(), cpuOf(t, os.Getpid()), cpuOf(t, l.engine.Pid())
	truth := sendBulk(t, l, p, records, hosts)
	sent := time.Since(began)
	l.collector.Flush()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := l.store.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	stored := time.Since(began)
	t.Logf("%s: %d records of %d hosts in %d datagrams: sent in %.1f s (%.0f records/s), stored after %.1f s; CPU per million: %.1f s generator and flowcordon, %.1f s engine",
		p, truth.Records, len(truth.Hosts), truth.Datagrams, sent.Seconds(), float64(truth.Records)/sent.Seconds(), stored.Seconds(),
		(cpuOf(t, os.Getpid())-cpu).Seconds()*1e6/float64(truth.Records), (cpuOf(t, l.engine.Pid())-engine).Seconds()*1e6/float64(truth.Records))

	m, err := s.client(l.listener.Addr().String()).scrape()
	if err != nil {
		t.Fatal(err)
	}
	checkAccounts(t, m)
	for name, want := range map[string]float64{
		"flowcordon_collector_datagrams_decoded_total":  float64(truth.Datagrams),
		"flowcordon_collector_records_total":            float64(truth.Records),
		"flowcordon_collector_records_aggregated_total": float64(truth.Records),
		"flowcordon_collector_kernel_drops_total":       0,
		"flowcordon_collector_sequence_lost_total":      0,
		"flowcordon_collector_rows_dropped_total":       0,
		"flowcordon_store_dropped_total":                0,
		"flowcordon_store_spool_bytes":                  0,
	} {
		if got := m.sum(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	conn := dialEngine(t, l.engine)
	defer conn.Close()
	windows := map[netip.Addr]flow.Counts{} // v6 hosts by their /64
	for ip, c := range truth.Hosts {
		windows[tenantKey(l.cfg.Networks, ip)] = c
	}
	compareCounts(t, "host_window", windows, sums(t, conn, `SELECT tenant, sum(out_records), sum(in_records), sum(out_packets), sum(in_packets),
		sum(out_bytes), sum(in_bytes) FROM flowcordon.host_window GROUP BY tenant`))
	compareCounts(t, "flows", truth.Hosts, sums(t, conn, `SELECT host, countIf(dir = 1), countIf(dir = 2), sumIf(packets, dir = 1), sumIf(packets, dir = 2),
		sumIf(bytes, dir = 1), sumIf(bytes, dir = 2) FROM flowcordon.flows GROUP BY host`))
	if incidents := l.control.Incidents(respond.Filter{}); len(incidents) > 0 {
		t.Errorf("random traffic led to %d incidents, the first: %+v", len(incidents), incidents[0])
	}
}

// sendBulk sends most of the records as instants from one router and a fifth
// with durations of up to 25 s from another; sFlow samples have none.
func sendBulk(t *testing.T, l *local, p flow.Protocol, records uint64, hosts int) bulk.Truth {
	t.Helper()
	target, v6 := l.netflow(), 0.2
	switch p {
	case flow.NetFlow5:
		v6 = 0
	case flow.SFlow5:
		target = l.sflow()
	}
	all := bulk.Truth{Hosts: map[netip.Addr]flow.Counts{}}
	for i, longest := range []time.Duration{0, 25 * time.Second} {
		if p == flow.SFlow5 {
			longest = 0
		}
		before := all.Records
		truth, err := bulk.Run(t.Context(), bulk.Config{
			Protocol: p, Target: target, Source: netip.AddrFrom4([4]byte{127, 0, 0, byte(11 + i)}), Domain: uint32(i + 1),
			Records: []uint64{records - records/5, records / 5}[i], Hosts: hosts, Seed: uint64(i + 1), V6Share: v6, MaxDuration: longest,
			Pace: func(sent uint64) { l.keepUp(t, before+sent) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for ip, c := range truth.Hosts {
			n := all.Hosts[ip]
			n.Add(c)
			all.Hosts[ip] = n
		}
		all.Records += truth.Records
		all.Datagrams += truth.Datagrams
	}
	l.keepUp(t, all.Records+inFlight) // until all are decoded
	return all
}

// keepUp waits until the collector has decoded all but inFlight of the records
// sent. A loss would make it wait for ever, so that is told.
func (l *local) keepUp(t *testing.T, sent uint64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		var decoded uint64
		for _, e := range l.collector.Exporters() {
			decoded += e.Records
		}
		if decoded+inFlight >= sent {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d records sent, and only %d are decoded after a minute", sent, decoded)
		}
	}
}

// sums reads counts by address: out and in records, packets, bytes.
func sums(t *testing.T, conn driver.Conn, query string) map[netip.Addr]flow.Counts {
	t.Helper()
	rows, err := conn.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[netip.Addr]flow.Counts{}
	for rows.Next() {
		var ip netip.Addr
		var c flow.Counts
		if err := rows.Scan(&ip, &c.OutRecords, &c.InRecords, &c.OutPackets, &c.InPackets, &c.OutBytes, &c.InBytes); err != nil {
			t.Fatal(err)
		}
		out[ip.Unmap()] = c
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// compareCounts shows the first differences.
func compareCounts(t *testing.T, what string, want, got map[netip.Addr]flow.Counts) {
	t.Helper()
	keys := slices.Collect(maps.Keys(want))
	for k := range got {
		if _, ok := want[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, netip.Addr.Compare)
	wrong := 0
	for _, k := range keys {
		if want[k] == got[k] {
			continue
		}
		if wrong++; wrong <= 5 {
			t.Errorf("%s: %s: want %+v, got %+v", what, k, want[k], got[k])
		}
	}
	if wrong > 0 {
		t.Errorf("%s: %d of %d addresses differ", what, wrong, len(keys))
	}
}

func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	st, err := readStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	return st.cpu
}
