package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/bulk"
	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/cmd/internal/tool"
	"github.com/flowcordon/flowcordon/flow"
)

var protocols = map[string]flow.Protocol{
	"v5": flow.NetFlow5, "v9": flow.NetFlow9, "ipfix": flow.IPFIX, "sflow": flow.SFlow5,
}

func runBulk(ctx context.Context, fs *flag.FlagSet, args []string, stdout, _ io.Writer) error {
	var cfg bulk.Config
	protocol := fs.String("protocol", "v9", "v5, v9, ipfix or sflow")
	target := fs.String("target", "", "the collector's `address:port`")
	out := fs.String("out", "", "write the datagrams to this `file` instead, for flowgen send")
	source := fs.String("source", "", "the exporter's `address`; empty: the system's choice")
	fs.Uint64Var(&cfg.Records, "records", 1_000_000, "how many records or samples")
	fs.IntVar(&cfg.Hosts, "hosts", 50_000, "internal addresses")
	fs.Uint64Var(&cfg.Rate, "rate", 0, "records per second; 0: as fast as it goes")
	fs.Uint64Var(&cfg.Seed, "seed", 1, "the same seed gives the same records")
	fs.Float64Var(&cfg.V6Share, "v6-share", 0, "share of hosts with IPv6, 0 to 1")
	fs.TextVar(&cfg.Prefix4, "prefix4", bulk.DefaultPrefix4, "`prefix` of the internal IPv4 addresses")
	fs.TextVar(&cfg.Prefix6, "prefix6", bulk.DefaultPrefix6, "`prefix` of the internal IPv6 addresses, a /64 each")
	fs.DurationVar(&cfg.MaxDuration, "max-duration", 5*time.Second, "longest that a record lasts; 0: instants")
	fs.BoolVar(&cfg.LegacySampling, "legacy-sampling", false, "IPFIX: announce samplingInterval (34), not a PSAMP selector")
	truth := fs.String("truth", "", "write the totals per internal address to this `file`, tab-separated")
	if err := tool.Parse(fs, args, 0); err != nil {
		return err
	}
	var ok bool
	if cfg.Protocol, ok = protocols[*protocol]; !ok {
		return tool.Misuse(fs, "--protocol %q: write v5, v9, ipfix or sflow", *protocol)
	}
	if (*target == "") == (*out == "") {
		return tool.Misuse(fs, "give one of --target and --out")
	}
	var err error
	if *target != "" {
		if cfg.Target, err = netip.ParseAddrPort(*target); err != nil {
			return tool.Misuse(fs, "--target: %v; write it as 127.0.0.1:2055", err)
		}
	}
	if *source != "" {
		if cfg.Source, err = netip.ParseAddr(*source); err != nil {
			return tool.Misuse(fs, "--source: %v", err)
		}
	}
	finish := func() error { return nil }
	if *out != "" {
		if cfg.Write, finish, err = datagramFile(*out); err != nil {
			return err
		}
	}
	t, err := bulk.Run(ctx, cfg)
	if err := errors.Join(err, finish()); err != nil {
		return err
	}
	if *truth != "" {
		if err := writeTruth(*truth, t); err != nil {
			return err
		}
	}
	return json.NewEncoder(stdout).Encode(map[string]any{
		"records": t.Records, "datagrams": t.Datagrams, "bytes": t.Bytes, "hosts": len(t.Hosts),
		"seconds": t.Elapsed.Seconds(), "records_per_second": float64(t.Records) / t.Elapsed.Seconds(),
		"out_packets": t.Total.OutPackets, "out_bytes": t.Total.OutBytes, "in_packets": t.Total.InPackets, "in_bytes": t.Total.InBytes,
		"first": t.First, "last": t.Last,
	})
}

func writeTruth(path string, t bulk.Truth) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(t.WriteTSV(f), f.Close())
}

// datagramFile writes datagrams one after the other, each after its length in
// four bytes, most significant first.
func datagramFile(path string) (write func([]byte) error, finish func() error, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, nil, err
	}
	b := bufio.NewWriterSize(f, 1<<20)
	write = func(d []byte) error {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(d)))
		_, err := b.Write(n[:])
		if err == nil {
			_, err = b.Write(d)
		}
		return err
	}
	return write, func() error { return errors.Join(b.Flush(), f.Close()) }, nil
}

func runSend(ctx context.Context, fs *flag.FlagSet, args []string, stdout, _ io.Writer) error {
	target := fs.String("target", "", "the collector's `address:port`")
	source := fs.String("source", "", "the exporter's `address`; empty: the system's choice")
	rate := fs.Uint64("rate", 0, "datagrams per second; 0: as fast as it goes")
	if err := tool.Parse(fs, args, 1); err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(*target)
	if err != nil {
		return tool.Misuse(fs, "--target: %v; write it as 127.0.0.1:2055", err)
	}
	var from netip.Addr
	if *source != "" {
		if from, err = netip.ParseAddr(*source); err != nil {
			return tool.Misuse(fs, "--source: %v", err)
		}
	}
	f, err := os.Open(fs.Arg(0))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	u, err := export.DialUDP(netip.AddrPortFrom(from, 0), to)
	if err != nil {
		return err
	}
	if err := errors.Join(sendFile(ctx, u, bufio.NewReaderSize(f, 1<<20), *rate), u.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%d datagrams\n", u.Sent())
	return err
}

func sendFile(ctx context.Context, u *export.UDP, r io.Reader, rate uint64) error {
	started := time.Now()
	buf := make([]byte, 65536)
	for n := uint64(0); ctx.Err() == nil; n++ {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("datagram %d: %w", n, err)
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > uint32(len(buf)) {
			return fmt.Errorf("datagram %d: length %d; not a file of flowgen bulk --out", n, size)
		}
		if _, err := io.ReadFull(r, buf[:size]); err != nil {
			return fmt.Errorf("datagram %d: %w", n, err)
		}
		if err := u.Send(buf[:size]); err != nil {
			return err
		}
		if rate == 0 {
			continue
		}
		if wait := time.Until(started.Add(time.Duration(float64(n+1) / float64(rate) * 1e9))); wait > 200*time.Microsecond {
			if err := u.Flush(); err != nil {
				return err
			}
			time.Sleep(wait)
		}
	}
	return ctx.Err()
}
