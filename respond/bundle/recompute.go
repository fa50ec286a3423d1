package bundle

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// recompute is the questions that give the findings' numbers again: from the
// windows, which the rules read, and from the rows that the windows were made
// of. It is text for people; addresses and numbers only go into it as typed
// values.
func recompute(in Input) string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- Incident %s: the measured values again, from ClickHouse.\n", comment(in.Incident.ID))
	b.WriteString("-- Counts are of what was exported; multiply by the sampling rate to estimate.\n")
	b.WriteString("-- Windows are kept longer than rows: an empty answer to the last question of a\n-- finding means that its rows have expired.\n")
	for i, f := range in.Incident.Findings {
		fmt.Fprintf(&b, "\n-- Finding %d: %s, rule version %d, configuration %s, window %d s\n", i+1, comment(string(f.Rule)), f.RuleVersion, comment(f.ConfigHash), f.WindowS)
		fmt.Fprintf(&b, "-- Measured: samples %d, distinct %d, sampling 1:%.0f, estimated %.1f/s, score %.2f of %.2f\n", f.Samples, f.Distinct, f.SamplingRate, f.EstRate, f.Score, f.Threshold)
		tenant := f.Tenant
		if !tenant.IsValid() {
			tenant = in.Incident.Tenant
		}
		b.WriteString(windowSQL(tenant, f))
		b.WriteString(rowSQL(tenant, f))
	}
	if len(in.Incident.Findings) == 0 {
		b.WriteString("\n-- There are no findings.\n")
	}
	return b.String()
}

// comment keeps a name on its line.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 || r == 0x85 {
			return ' '
		}
		return r
	}, s)
}

func address(a netip.Addr) string { return "toIPv6('" + a.WithZone("").String() + "')" }

func second(t time.Time) string {
	return "toDateTime('" + t.UTC().Format(time.DateTime) + "', 'UTC')"
}

// distinctSQL is what flow.ServiceWindow.RemotesLevel says.
const distinctSQL = `bitShiftLeft(toUInt64(1), max(w.remotes_level)) * length(arrayFilter(
    h -> bitAnd(h, bitShiftLeft(toUInt64(1), max(w.remotes_level)) - 1) = 0, groupUniqArrayArray(w.remotes)))`

// windowSQL asks the windows that a rule of the finding's kind reads: those to
// one remote, those of a service, or those of the host.
func windowSQL(tenant netip.Addr, f flow.Finding) string {
	var b strings.Builder
	seconds := max(f.To.Sub(f.From).Seconds(), 1)
	table, columns := "host_window", "sum(w.syn_out) AS syn_out, sum(w.udp_out_packets) AS udp_out_packets, sum(w.icmp_out_packets) AS icmp_out_packets, sum(w.spoof_out) AS spoof_out"
	where := ""
	switch {
	case f.Remote.IsValid():
		table, columns = "pair_window", "sum(w.syn_packets) AS syn_packets, sum(w.in_packets) AS in_packets, uniqExactArray(w.ports) AS distinct_ports"
		where = " AND remote = " + address(f.Remote)
	case f.Port != 0 || attempts(f.Rule):
		table, columns = "service_window", "sum(w.attempts) AS attempts, sum(w.syn_out) AS syn_out, sum(w.syn_in) AS syn_in, sum(w.synack_in) AS synack_in,\n    "+distinctSQL+" AS distinct_remotes"
		role := flow.RoleClient
		if f.Rule == flow.RuleReflector {
			role = flow.RoleServer
		}
		where = fmt.Sprintf(" AND role = %d", role)
		if f.Port != 0 {
			where += fmt.Sprintf(" AND svc_port = %d", f.Port)
		}
	}
	if f.IPProto != 0 && table != "host_window" {
		where += fmt.Sprintf(" AND ip_proto = %d", f.IPProto)
	}
	fmt.Fprintf(&b, `SELECT min(w.rate) AS least_rate, max(w.rate) AS greatest_rate,
    sum(w.out_records) AS out_records, sum(w.out_packets) AS out_packets, sum(w.out_packets * w.rate) / %.0f AS est_packets_per_s,
    %s
FROM %s AS w
WHERE tenant = %s AND start >= %s AND start < %s%s;
`, seconds, columns, table, address(tenant), second(f.From), second(f.To), where)
	return b.String()
}

// attempts reports whether a rule counts who was tried to be reached.
func attempts(r flow.Rule) bool {
	switch r {
	case flow.RuleNetscan, flow.RulePortscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep, flow.RuleSpam, flow.RuleBruteforce, flow.RuleBlockedPort, flow.RuleReflector:
		return true
	}
	return false
}

// rowSQL asks the rows themselves.
func rowSQL(tenant netip.Addr, f flow.Finding) string {
	where := fmt.Sprintf(" AND dir = %d", flow.Out)
	if f.Remote.IsValid() {
		where += " AND remote = " + address(f.Remote)
	}
	if f.Port != 0 {
		where += fmt.Sprintf(" AND svc_port = %d", f.Port)
	}
	if f.IPProto != 0 {
		where += fmt.Sprintf(" AND ip_proto = %d", f.IPProto)
	}
	return fmt.Sprintf(`SELECT count() AS rows, sum(f.packets) AS packets, sum(f.packets * f.rate) AS est_packets,
    uniqExact(f.remote) AS distinct_addresses, uniqExact(f.remote_port) AS distinct_ports, min(f.time) AS first, max(f.time) AS last
FROM flows AS f
WHERE tenant = %s AND time >= %s AND time < %s%s;
`, address(tenant), second(f.From), second(f.To), where)
}
