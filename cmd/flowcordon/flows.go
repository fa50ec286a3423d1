package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strings"

	apiclient "github.com/flowcordon/flowcordon/api/client"
)

func setupFlows(fs *flag.FlagSet) action {
	from := fs.String("from", "", "begin `time`: RFC 3339, or relative such as -15m (default: an hour before the end)")
	to := fs.String("to", "", "end `time` (default: now)")
	remoteIP := fs.String("remote", "", "with this other `address`")
	proto := fs.String("proto", "", "`protocol`: tcp, udp, icmp, icmpv6 or a number")
	port := fs.Int64("port", -1, "service `port`: the server's, whichever side that is")
	dir := fs.String("dir", "", "`direction` seen from the tenant: out or in")
	limit := fs.Int64("limit", 1000, "the newest so many, up to 20000")
	format := fs.String("format", "", "`form`: table, csv, jsonl or json (default: table; json with --json)")
	return func(ctx context.Context, d *desk, args []string) error {
		p := &apiclient.FlowsParams{From: opt(*from), To: opt(*to), Remote: opt(*remoteIP), Proto: opt(*proto), Dir: opt(apiclient.FlowsParamsDir(*dir)), Limit: limit}
		if *port != -1 {
			p.Port = port
		}
		ask := func(ctx context.Context) (*http.Response, error) { return d.api.Flows(ctx, args[0], p) }
		switch *format {
		case "table", "", "json":
			d.json = d.json && *format != "table" || *format == "json"
			return show(ctx, d, "reading flows", ask, d.printFlows)
		case "csv", "jsonl":
			if d.json {
				return failf(exitUsage, "--json and --format %s contradict each other; leave one out", *format)
			}
			form := apiclient.FlowsParamsFormat(*format)
			p.Format = &form
			body, head, err := d.fetch(ctx, "reading flows", ask)
			if err != nil {
				return err
			}
			if head.Get("X-Flowcordon-Truncated") == "true" {
				d.truncated(*limit)
			}
			return d.writeText(string(body))
		}
		return failf(exitUsage, "--format %s is not known; write table, csv, jsonl or json", *format)
	}
}

// truncated says beside the data that it is not all.
func (d *desk) truncated(limit int64) {
	fmt.Fprintf(d.errs, "flowcordon flows: more rows match; these are the newest %d. --limit gives up to 20000, --from and --to less time\n", limit)
}

func (d *desk) printFlows(b *apiclient.FlowsBody) error {
	if len(b.Flows) == 0 {
		return d.sayf("No stored flows of %s from %s to %s UTC match.", b.IP, stamp(b.From), stamp(b.To))
	}
	t := newTable("TIME (UTC)", "DIR", "PROTO", "HOST", ">PORT", "REMOTE", ">PORT", "CLASS", "FLAGS?", ">PACKETS", ">BYTES", ">1:N?", "EXPORTER?")
	for i := range b.Flows {
		f := &b.Flows[i]
		t.add(stamp(f.Time), f.Dir, ipProtocol(f.IPProto), f.Host, f.HostPort, f.Remote, f.RemotePort, f.Class, flagNames(f), f.Packets, f.Bytes, f.SamplingRate, f.Exporter)
	}
	if err := t.write(d.out, d.term); err != nil {
		return err
	}
	if b.Truncated {
		d.truncated(int64(len(b.Flows)))
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
