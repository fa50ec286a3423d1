package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apiclient "github.com/flowcordon/flowcordon/api/client"
)

// pageRows is how many rows one question asks for: the service's limit. Tests
// make it smaller.
var pageRows int64 = 20_000

func setupFlows(fs *flag.FlagSet) action {
	customer := fs.String("customer", "", "of this customer's `id`, of each address while it was held")
	vds := fs.String("vds", "", "of this `server`")
	remoteIP := fs.String("remote", "", "with this other `address or prefix`")
	proto := fs.String("proto", "", "`protocol`: tcp, udp, icmp, icmpv6 or a number")
	port := fs.String("port", "", "service `ports`, the server's whichever side that is, separated by commas")
	dir := fs.String("dir", "", "`direction` seen from the tenant: out or in")
	class := fs.String("class", "", "`class`: syn, synack, rst, est, udp, echo, icmp_err, noflags or other")
	flags := fs.String("flags", "", "TCP `flags` that are all set, such as SYN,ACK")
	from := fs.String("from", "", "begin `time`: RFC 3339, or relative such as -15m (default: an hour before the end)")
	to := fs.String("to", "", "end `time` (default: now)")
	order := fs.String("order", "newest", "`which` come first: newest or oldest")
	limit := fs.Int64("limit", 1000, "at most so many; large numbers are asked for in parts")
	format := fs.String("format", "", "`form`: table, csv, jsonl or json (default: table; json with --json)")
	return func(ctx context.Context, d *desk, args []string) error {
		p := apiclient.FlowSearchParams{Customer: opt(*customer), Vds: opt(*vds), Remote: opt(*remoteIP), Proto: opt(*proto), Dir: opt(apiclient.FlowSearchParamsDir(*dir)),
			Class: opt(apiclient.FlowSearchParamsClass(*class)), Flags: opt(*flags), From: opt(*from), To: opt(*to), Order: opt(apiclient.FlowSearchParamsOrder(*order))}
		if len(args) == 1 {
			p.Tenant = &args[0]
		}
		for _, s := range strings.Split(*port, ",") {
			n, err := strconv.ParseUint(s, 10, 16)
			switch {
			case *port == "":
			case err != nil:
				return failf(exitUsage, "--port %q is not understood; write 22 or 80,443", *port)
			default:
				p.Port = append(p.Port, int64(n))
			}
		}
		if *limit < 1 {
			return failf(exitUsage, "--limit %d: write a number above 0", *limit)
		}
		form := first(*format, map[bool]string{true: "json", false: "table"}[d.json])
		switch {
		case form == "table" || form == "json":
			return d.flowPages(ctx, &p, *limit, form == "json")
		case form != "csv" && form != "jsonl":
			return failf(exitUsage, "--format %s is not known; write table, csv, jsonl or json", form)
		case d.json:
			return failf(exitUsage, "--json and --format %s contradict each other; leave one out", form)
		}
		p.Format = opt(apiclient.FlowSearchParamsFormat(form))
		return d.flowText(ctx, &p, *limit)
	}
}

// flowText writes rows as the service gives them, part by part.
func (d *desk) flowText(ctx context.Context, p *apiclient.FlowSearchParams, limit int64) error {
	for asked := int64(0); ; {
		p.Limit = opt(min(limit-asked, pageRows))
		body, head, err := d.fetch(ctx, fmt.Sprintf("reading flows, %d so far", asked), func(ctx context.Context) (*http.Response, error) { return d.api.FlowSearch(ctx, p) })
		if err != nil {
			return err
		}
		text := string(body)
		if asked > 0 && *p.Format == apiclient.FlowSearchParamsFormatCsv {
			_, text, _ = strings.Cut(text, "\n") // the names were told
		}
		if err := d.writeText(text); err != nil {
			return err
		}
		asked += *p.Limit
		if p.Cursor = opt(head.Get("X-Flowcordon-Next")); p.Cursor == nil {
			return nil
		}
		if asked >= limit {
			d.moreFlows(limit)
			return nil
		}
	}
}

// flowDocument is a FlowPage whose rows are as they came.
type flowDocument struct {
	Metadata apiclient.PageMeta `json:"_metadata"`
	Flows    []json.RawMessage  `json:"flows"`
	From     json.RawMessage    `json:"from"`
	To       json.RawMessage    `json:"to"`
}

// flowPages reads the parts of an answer and makes one of them.
func (d *desk) flowPages(ctx context.Context, p *apiclient.FlowSearchParams, limit int64, asJSON bool) error {
	var all flowDocument
	for {
		p.Limit = opt(min(limit-int64(len(all.Flows)), pageRows))
		part, _, err := get[flowDocument](ctx, d, fmt.Sprintf("reading flows, %d so far", len(all.Flows)), func(ctx context.Context) (*http.Response, error) { return d.api.FlowSearch(ctx, p) })
		if err != nil {
			return err
		}
		part.Flows = append(all.Flows, part.Flows...)
		all, p.Cursor = *part, part.Metadata.Next
		if p.Cursor == nil || int64(len(all.Flows)) >= limit {
			break
		}
		// The cursor goes with the range that the first part was read for.
		p.From, p.To = textOf(all.From), textOf(all.To)
	}
	all.Metadata.Limit = limit
	if all.Flows == nil {
		all.Flows = []json.RawMessage{}
	}
	body, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if asJSON {
		return d.writeJSON(body)
	}
	var page apiclient.FlowPage
	if err := json.Unmarshal(body, &page); err != nil {
		return failf(exitAway, "%s answers something that is not understood: %w", d.end.base, err)
	}
	return d.printFlows(&page)
}

func textOf(raw json.RawMessage) *string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return nil
	}
	return &s
}

// moreFlows says beside the data that it is not all.
func (d *desk) moreFlows(limit int64) {
	fmt.Fprintf(d.errs, "flowcordon flows: more rows match than --limit %d; write a higher one, or less time by --from and --to\n", limit)
}

func (d *desk) printFlows(b *apiclient.FlowPage) error {
	if len(b.Flows) == 0 {
		return d.sayf("No stored flows from %s to %s UTC match.", stamp(b.From), stamp(b.To))
	}
	t := newTable("TIME (UTC)", "DIR", "PROTO", "HOST", ">PORT", "REMOTE", ">PORT", "CLASS", "FLAGS?", ">PACKETS", ">BYTES", ">1:N?", "EXPORTER?")
	for i := range b.Flows {
		f := &b.Flows[i]
		t.add(stamp(f.Time), f.Dir, ipProtocol(f.IPProto), f.Host, f.HostPort, f.Remote, f.RemotePort, f.Class, flagNames(f), f.Packets, f.Bytes, f.SamplingRate, f.Exporter)
	}
	if err := t.write(d.out, d.term); err != nil {
		return err
	}
	if b.UnderscoreMetadata.Next != nil {
		d.moreFlows(b.UnderscoreMetadata.Limit)
	}
	return nil
}

// flagNames are the TCP flags as tcpdump writes them, or type and code of ICMP.
func flagNames(f *apiclient.FlowView) string {
	switch f.IPProto {
	case 1, 58:
		return fmt.Sprintf("%d/%d", f.IcmpType, f.IcmpCode)
	case 6:
		var b strings.Builder
		for i, c := range "FSRP.UEW" { // RFC 9293 §3.1, from the lowest bit on
			if f.TCPFlags>>i&1 == 1 {
				b.WriteRune(c)
			}
		}
		return b.String()
	}
	return ""
}
