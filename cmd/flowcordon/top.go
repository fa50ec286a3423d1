package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/api"
	apiclient "github.com/flowcordon/flowcordon/api/client"
)

// hostCommands look at traffic.
func hostCommands() []deskCommand {
	return []deskCommand{
		{name: "top", what: "the tenants with the most traffic", role: api.RoleViewer, watch: true, setup: setupTop},
		{name: "hosts", args: "IP", what: "who holds an address, its traffic over time, its incidents", role: api.RoleViewer, argument: "host", watch: true, setup: setupHost},
		{name: "peers", args: "IP", what: "whom an address exchanged packets with, and on which ports", role: api.RoleViewer, argument: "host", setup: setupPeers},
		{name: "flows", args: "[IP]", what: "stored flow records, by any filter", role: api.RoleViewer, argument: "host", setup: setupFlows,
			more: "Prints stored flow records of an address or a prefix, or of all. Which are stored, and for how long, is\nstore.flow_policy and store.flow_ttl of the configuration."},
		{name: "exporters", args: "[IP]", what: "the exporters and their health, or all of one", role: api.RoleViewer, argument: "exporter", watch: true, setup: setupExporters},
	}
}

func setupTop(fs *flag.FlagSet) action {
	by := fs.String("by", "out_bytes", "`what` to order by: out_bytes, out_packets, in_bytes, in_packets or syn")
	window := fs.String("window", "5m", "how far back, a `time` from 10s to 744h")
	limit := fs.Int64("limit", 20, "at most so many, up to 1000")
	return func(ctx context.Context, d *desk, _ []string) error {
		order := apiclient.TopParamsBy(*by)
		return show(ctx, d, "adding up", func(ctx context.Context) (*http.Response, error) {
			return d.api.Top(ctx, &apiclient.TopParams{By: &order, Window: window, Limit: limit})
		}, d.printTop)
	}
}

func (d *desk) printTop(o *apiclient.TopOutputBody) error {
	if len(o.Top) == 0 {
		return d.sayf("No traffic from %s to %s UTC.", stamp(o.From), stamp(o.To))
	}
	s := max(o.To.Sub(o.From).Seconds(), 1)
	rate := func(n int64, unit float64) string { return metric(float64(n) * unit / s) }
	t := newTable("TENANT", "CUSTOMER~8", ">OUT BIT/S", ">OUT PKT/S", ">IN BIT/S?", ">IN PKT/S?", ">SYN SEEN?", "INCIDENTS~10")
	for _, e := range o.Top {
		who := ""
		if e.Holder != nil {
			who = holderName(*e.Holder)
		}
		t.add(e.Tenant, who, rate(e.EstOutBytes, 8), rate(e.EstOutPackets, 1), rate(e.EstInBytes, 8), rate(e.EstInPackets, 1), e.SynOut, cell{strings.Join(e.Incidents, " "), yellow})
	}
	return t.write(d.out, d.term)
}

func setupHost(fs *flag.FlagSet) action {
	from := fs.String("from", "", "begin `time`: RFC 3339, or relative such as -6h (default: an hour before the end)")
	to := fs.String("to", "", "end `time` (default: now)")
	step := fs.String("step", "", "`time` of one line, a multiple of 10s (default: fits)")
	return func(ctx context.Context, d *desk, args []string) error {
		return show(ctx, d, "asking for the series", func(ctx context.Context) (*http.Response, error) {
			return d.api.Host(ctx, args[0], &apiclient.HostParams{From: opt(*from), To: opt(*to), Step: opt(*step)})
		}, d.printHost)
	}
}

func (d *desk) printHost(h *apiclient.HostOutputBody) error {
	who := apiclient.Holder{}
	if h.Holder != nil {
		who = *h.Holder
	}
	head := pairs{
		{"address", h.IP},
		{"stored as", strings.TrimPrefix(h.Tenant, h.IP)},
		{"holder", first(strings.TrimSpace(holderName(who)+onNode(val(who.Hypervisor))), "nobody that the inventory knows")},
		{"contact", val(who.Contact)},
		{"tags", strings.Join(who.Tags, " ")},
	}
	if err := head.write(d.out, d.term); err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	if len(h.Incidents) > 0 {
		if err := d.incidentTable(h.Incidents).write(d.out, d.term); err != nil {
			return err
		}
		fmt.Fprintln(d.out)
	}
	if len(h.Series) == 0 {
		return d.sayf("No traffic from %s to %s UTC.", stamp(h.From), stamp(h.To))
	}
	most := int64(1)
	for _, p := range h.Series {
		most = max(most, p.EstOutPackets)
	}
	s := float64(max(h.StepS, 1))
	t := newTable("TIME (UTC)", ">OUT BIT/S", ">OUT PKT/S", ">IN BIT/S?", ">IN PKT/S?", ">SYN SEEN?", "OUT PKT/S?")
	for _, p := range h.Series {
		t.add(stamp(p.Time), metric(float64(p.EstOutBytes)*8/s), metric(float64(p.EstOutPackets)/s), metric(float64(p.EstInBytes)*8/s),
			metric(float64(p.EstInPackets)/s), p.SynOut, bar(float64(p.EstOutPackets)/float64(most), 20))
	}
	return t.write(d.out, d.term)
}

// bar draws a share of 1 in so many columns of eighth blocks.
func bar(x float64, columns int) string {
	eighths := int(x*float64(columns)*8 + 0.5)
	out := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		out += string(rune('█' + 8 - rest)) // U+2588 full block to U+258F one eighth
	}
	return first(out, " ")
}

func setupExporters(*flag.FlagSet) action {
	return func(ctx context.Context, d *desk, args []string) error {
		return show(ctx, d, "asking for the exporters", func(ctx context.Context) (*http.Response, error) { return d.api.Exporters(ctx) },
			func(o *apiclient.ExportersOutputBody) error {
				if len(args) == 0 {
					return d.printExporters(o.Exporters)
				}
				i := slices.IndexFunc(o.Exporters, func(e apiclient.ExporterHealth) bool { return e.Exporter == args[0] })
				if i < 0 {
					return failf(exitFailed, "there is no exporter %q; flowcordon exporters lists them", args[0])
				}
				return d.printExporter(&o.Exporters[i])
			})
	}
}

func (d *desk) printExporters(list []apiclient.ExporterHealth) error {
	if len(list) == 0 {
		return d.sayf("Nothing has come from an exporter yet. exporters.allow of the configuration names those that may send.")
	}
	t := newTable("EXPORTER", "PROTOCOLS~8", "SAMPLING~6", "LAST SEEN", ">RECORDS", ">LOST?", ">DROPPED?", ">PROBLEMS")
	var problems []string
	for _, e := range list {
		dropped := int64(0)
		for _, n := range e.Dropped {
			dropped += n
		}
		count := cell{"-", plain}
		if n := len(e.Problems); n > 0 {
			count = cell{fmt.Sprint(n), red}
		}
		t.add(e.Exporter, strings.Join(e.Protocols, " "), samplings(e.Samplers), span(d.now().Sub(e.LastSeen))+" ago", metric(e.Records), e.Lost, dropped, count)
		for _, p := range e.Problems {
			problems = append(problems, e.Exporter+": "+p)
		}
	}
	if err := t.write(d.out, d.term); err != nil || len(problems) == 0 {
		return err
	}
	fmt.Fprintln(d.out)
	for _, p := range problems {
		for _, line := range wrap(p, d.term.width) {
			fmt.Fprintln(d.out, line)
		}
	}
	return nil
}

func samplings(list []apiclient.SamplerHealth) string {
	var out []string
	for _, s := range list {
		text := "unknown"
		if s.Rate > 0 {
			text = fmt.Sprintf("1:%d", s.Rate)
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return strings.Join(out, " ")
}

func (d *desk) printExporter(e *apiclient.ExporterHealth) error {
	var drops []string
	for reason, n := range e.Dropped {
		drops = append(drops, fmt.Sprintf("%s %d", reason, n))
	}
	slices.Sort(drops)
	clock := ""
	if e.ClockOffsetS != nil {
		clock = fmt.Sprintf("%+.1f s", *e.ClockOffsetS)
	}
	head := pairs{
		{"exporter", e.Exporter},
		{"protocols", strings.Join(e.Protocols, " ")},
		{"seen", fmt.Sprintf("%s to %s UTC", stamp(e.FirstSeen), stamp(e.LastSeen))},
		{"datagrams", fmt.Sprint(e.Datagrams)},
		{"records", fmt.Sprint(e.Records)},
		{"lost", fmt.Sprint(e.Lost)},
		{"dropped", strings.Join(drops, ", ")},
		{"clock", clock},
		{"export delay", spreadText(e.ExportDelayS)},
		{"flow length", spreadText(e.FlowDurationS)},
		{"templates", fmt.Sprint(e.TemplatesKnown)},
	}
	for _, p := range e.Problems {
		head = append(head, [3]string{"problem", p, red})
	}
	if err := head.write(d.out, d.term); err != nil || len(e.Samplers) == 0 {
		return err
	}
	fmt.Fprintln(d.out)
	t := newTable(">DOMAIN", "SAMPLING", "FROM~8", ">RECORDS", "LAST SEEN (UTC)")
	for _, s := range e.Samplers {
		t.add(s.Domain, samplings([]apiclient.SamplerHealth{s}), s.Source, s.Records, stamp(s.LastSeen))
	}
	return t.write(d.out, d.term)
}

func spreadText(s *apiclient.Spread) string {
	if s == nil {
		return ""
	}
	sec := func(x float64) string { return (time.Duration(x*1000) * time.Millisecond).String() }
	return fmt.Sprintf("%s in half of the records, %s in 99 %%, %s at most", sec(s.P50), sec(s.P99), sec(s.Max))
}
