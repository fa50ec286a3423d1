package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/flowcordon/flowcordon/collector/capture"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

const decodeUsage = `usage: flowcordon decode [--json] [--default-rate N] FILE…

Decodes export datagrams from captures (pcap, pcapng), raw datagram files and
IPFIX files, or directories of them. All files are read by one decoder in the
order given, so templates in one serve data in the next.

`

// runDecode is the decode command. It returns the exit status: 0, 1 if a file
// cannot be read, 2 for wrong usage.
func runDecode(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("decode", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() {
		fmt.Fprint(stderr, decodeUsage)
		fs.PrintDefaults()
	}
	asJSON := fs.Bool("json", false, "one JSON object per record, a summary last")
	defaultRate := fs.Uint("default-rate", 0, "sampling rate 1:`N` of exporters that state none (0: unknown)")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if fs.NArg() == 0 || *defaultRate > 1<<32-1 {
		fs.Usage()
		return 2
	}
	cfg := decode.Config{TrustClock: true}
	if n := uint32(*defaultRate); n > 0 {
		cfg.Sampling = []decode.SamplingRule{
			{Exporter: netip.MustParsePrefix("0.0.0.0/0"), Default: n},
			{Exporter: netip.MustParsePrefix("::/0"), Default: n},
		}
	}
	out := bufio.NewWriter(stdout)
	c := decodeRun{dec: decode.New(cfg, decode.Deps{}), out: newRecordPrinter(out, *asJSON), stderr: stderr}
	status := 0
	for _, path := range fs.Args() {
		if err := c.file(ctx, path); err != nil {
			status = 1
			if ctx.Err() != nil {
				fmt.Fprintln(stderr, "decode: interrupted")
				break
			}
			if c.out.err != nil {
				break
			}
			fmt.Fprintf(stderr, "decode: %v\n  what was read before is decoded; check that the file exists, may be read, and is a whole pcap, pcapng or raw datagram file\n", err)
		}
	}
	c.dec.DropHeld()
	c.out.summary(c.dec.Stats(), c.skipped)
	if err := errors.Join(c.out.err, out.Flush()); err != nil {
		fmt.Fprintf(stderr, "decode: write output: %v\n", err)
		return 1
	}
	return status
}

type decodeRun struct {
	dec     *decode.Decoder
	out     *recordPrinter
	stderr  io.Writer
	skipped uint64
}

func (c *decodeRun) file(ctx context.Context, path string) error {
	skipped, err := eachDatagram(ctx, path, func(d capture.Datagram) error {
		c.dec.Decode(decode.Datagram{Exporter: d.Exporter, Received: d.Time, Payload: d.Payload}, c.out.records)
		return c.out.err
	})
	c.skipped += skipped
	return err
}

// eachDatagram calls fn for each datagram of a file or directory until there
// are no more, fn fails or ctx ends. It returns how many packets held no whole
// UDP datagram.
func eachDatagram(ctx context.Context, path string, fn func(capture.Datagram) error) (skipped uint64, err error) {
	r, err := capture.Open(path)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	defer func() { _ = r.Close() }() // read only
	for ctx.Err() == nil {
		d, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Skipped(), nil
		}
		if err != nil {
			return r.Skipped(), fmt.Errorf("read %w", err)
		}
		if err := fn(d); err != nil {
			return r.Skipped(), err
		}
	}
	return r.Skipped(), ctx.Err()
}

// recordJSON is a record in the form of docs/contracts.md: pointers are nil
// where the export had nothing.
type recordJSON struct {
	Type           string              `json:"type"`
	Time           string              `json:"time"`
	Exporter       netip.Addr          `json:"exporter"`
	Protocol       flow.Protocol       `json:"protocol"`
	Domain         uint32              `json:"domain"`
	Start          string              `json:"start,omitempty"`
	End            string              `json:"end,omitempty"`
	Src            netip.Addr          `json:"src,omitzero"`
	Dst            netip.Addr          `json:"dst,omitzero"`
	SrcPort        *uint16             `json:"src_port,omitempty"`
	DstPort        *uint16             `json:"dst_port,omitempty"`
	IPProto        *uint8              `json:"ip_proto,omitempty"`
	TCPFlags       *uint8              `json:"tcp_flags,omitempty"`
	ICMPType       *uint8              `json:"icmp_type,omitempty"`
	ICMPCode       *uint8              `json:"icmp_code,omitempty"`
	Packets        uint64              `json:"packets"`
	Bytes          uint64              `json:"bytes"`
	IPLen          *uint16             `json:"ip_len,omitempty"`
	TTL            *uint8              `json:"ttl,omitempty"`
	SamplingRate   uint32              `json:"sampling_rate"`
	SamplingSource flow.SamplingSource `json:"sampling_source"`
	InIf           *uint32             `json:"in_if,omitempty"`
	OutIf          *uint32             `json:"out_if,omitempty"`
	SrcMAC         string              `json:"src_mac,omitempty"`
	VLAN           *uint16             `json:"vlan,omitempty"`
	Fragment       bool                `json:"fragment,omitempty"`
}

func toJSON(r *flow.Record) recordJSON {
	j := recordJSON{
		Type: "record", Time: rfc3339(r.Received), Exporter: r.Exporter, Protocol: r.Protocol, Domain: r.Domain,
		Src: r.Src, Dst: r.Dst, Packets: r.Packets, Bytes: r.Bytes,
		SamplingRate: r.SamplingRate, SamplingSource: r.SamplingSource,
		Fragment: r.Has&flow.HasFragment != 0,
	}
	if r.Has&flow.HasTimes != 0 {
		j.Start, j.End = rfc3339(r.Start), rfc3339(r.End)
	}
	if r.Has&flow.HasPorts != 0 {
		j.SrcPort, j.DstPort = &r.SrcPort, &r.DstPort
	}
	if r.Has&flow.HasICMP != 0 {
		j.ICMPType, j.ICMPCode = &r.ICMPType, &r.ICMPCode
	}
	j.IPProto = has(r, flow.HasIPProto, &r.IPProto)
	j.TCPFlags = has(r, flow.HasTCPFlags, &r.TCPFlags)
	j.IPLen = has(r, flow.HasIPLen, &r.IPLen)
	j.TTL = has(r, flow.HasTTL, &r.TTL)
	j.InIf = has(r, flow.HasInIf, &r.InIf)
	j.OutIf = has(r, flow.HasOutIf, &r.OutIf)
	j.VLAN = has(r, flow.HasVLAN, &r.VLAN)
	if r.Has&flow.HasSrcMAC != 0 {
		m := r.SrcMAC
		j.SrcMAC = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
	}
	return j
}

func has[T any](r *flow.Record, bit flow.Has, v *T) *T {
	if r.Has&bit == 0 {
		return nil
	}
	return v
}

func rfc3339(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

// countsJSON is what the summary says of all exporters and of each.
type countsJSON struct {
	Datagrams      uint64               `json:"datagrams"`
	Decoded        uint64               `json:"decoded"` // datagrams − those dropped whole
	Records        uint64               `json:"records"`
	OptionsRecords uint64               `json:"options_records"`
	Templates      uint64               `json:"templates"`
	Dropped        map[string]uint64    `json:"dropped"` // datagrams, sets and records by reason
	Notes          map[string]uint64    `json:"notes,omitempty"`
	Lost           *uint64              `json:"lost,omitempty"`
	Samplers       []flow.SamplerHealth `json:"samplers,omitempty"`
}

type summaryJSON struct {
	Type string `json:"type"`
	countsJSON
	Skipped   uint64                `json:"packets_skipped"` // of captures: not UDP, or not whole
	Exporters map[string]countsJSON `json:"exporters"`
}

func merged(ms ...map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for _, m := range ms {
		for k, n := range m {
			out[k] += n
		}
	}
	return out
}

func summaryOf(s decode.Stats, skipped uint64) summaryJSON {
	sum := summaryJSON{Type: "summary", Skipped: skipped, Exporters: map[string]countsJSON{}, countsJSON: countsJSON{
		Datagrams: s.Datagrams, Decoded: s.Decoded, Records: s.Records,
		OptionsRecords: s.OptionsRecords, Templates: s.Templates,
		Dropped: merged(s.Dropped, s.SetsDropped, s.RecordsDropped), Notes: s.Notes,
	}}
	for addr, e := range s.Exporters {
		sum.Exporters[addr.String()] = countsJSON{
			Datagrams: e.Datagrams, Decoded: e.Decoded, Records: e.Records,
			OptionsRecords: e.OptionsRecords, Templates: e.Templates,
			Dropped: merged(e.Dropped, e.SetsDropped, e.RecordsDropped), Notes: e.Notes,
			Lost: &e.Lost, Samplers: e.Samplers,
		}
	}
	return sum
}

// recordPrinter writes records as JSON lines or as a table. The first write
// error is kept and stops the run.
type recordPrinter struct {
	w    *bufio.Writer
	json *json.Encoder
	tab  *tabwriter.Writer
	rows int
	err  error
}

func newRecordPrinter(w *bufio.Writer, asJSON bool) *recordPrinter {
	p := &recordPrinter{w: w}
	if asJSON {
		p.json = json.NewEncoder(w)
		return p
	}
	p.tab = tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	return p
}

func (p *recordPrinter) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *recordPrinter) records(rs []flow.Record) {
	for i := range rs {
		p.record(&rs[i])
	}
}

func (p *recordPrinter) record(r *flow.Record) {
	if p.json != nil {
		p.keep(p.json.Encode(toJSON(r)))
		return
	}
	if p.rows == 0 {
		_, err := fmt.Fprintln(p.tab, "END\tEXPORTER\tPROTOCOL\tSOURCE\tDESTINATION\tPROTO\tFLAGS\tPACKETS\tBYTES\tSAMPLING")
		p.keep(err)
	}
	p.rows++
	rate := "unknown"
	if r.SamplingRate > 0 {
		rate = fmt.Sprintf("1:%d %s", r.SamplingRate, r.SamplingSource)
	}
	_, err := fmt.Fprintf(p.tab, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", rfc3339(r.End), r.Exporter, r.Protocol,
		endpoint(r, r.Src, r.SrcPort), endpoint(r, r.Dst, r.DstPort), protocolName(r), flagText(r), r.Packets, r.Bytes, rate)
	p.keep(err)
	if p.rows%500 == 0 { // columns are fitted piece by piece, so memory stays bounded
		p.keep(p.tab.Flush())
	}
}

func endpoint(r *flow.Record, a netip.Addr, port uint16) string {
	switch {
	case !a.IsValid():
		return "-"
	case r.Has&flow.HasPorts == 0:
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

func protocolName(r *flow.Record) string {
	if r.Has&flow.HasIPProto == 0 {
		return "-"
	}
	switch r.IPProto {
	case flow.ProtoTCP:
		return "tcp"
	case flow.ProtoUDP:
		return "udp"
	case flow.ProtoICMP, flow.ProtoICMPv6:
		name := "icmp"
		if r.IPProto == flow.ProtoICMPv6 {
			name = "icmp6"
		}
		if r.Has&flow.HasICMP != 0 {
			return fmt.Sprintf("%s %d/%d", name, r.ICMPType, r.ICMPCode)
		}
		return name
	}
	return fmt.Sprint(r.IPProto)
}

func flagText(r *flow.Record) string {
	if r.Has&flow.HasTCPFlags == 0 {
		return "-"
	}
	b := []byte("CEUAPRSF")
	for i := range b {
		if r.TCPFlags&(0x80>>i) == 0 {
			b[i] = '.'
		}
	}
	return string(b)
}

func (p *recordPrinter) summary(s decode.Stats, skipped uint64) {
	sum := summaryOf(s, skipped)
	if p.json != nil {
		p.keep(p.json.Encode(sum))
		return
	}
	p.keep(p.tab.Flush())
	say := func(format string, a ...any) {
		_, err := fmt.Fprintf(p.w, format, a...)
		p.keep(err)
	}
	say("%d datagrams, %d records, %d options records, %d templates\n", sum.Datagrams, sum.Records, sum.OptionsRecords, sum.Templates)
	help := map[string]string{}
	for _, r := range decode.Reasons() {
		help[r.Name] = fmt.Sprintf("(%ss) %s", r.Level, r.Help)
	}
	for _, name := range slices.Sorted(maps.Keys(sum.Dropped)) {
		say("dropped %s: %d %s\n", name, sum.Dropped[name], help[name])
	}
	for _, addr := range slices.Sorted(maps.Keys(sum.Exporters)) {
		e := sum.Exporters[addr]
		say("exporter %s: %d datagrams, %d records, %d lost by sequence number\n", addr, e.Datagrams, e.Records, *e.Lost)
	}
}
