package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"

	apiclient "github.com/flowcordon/flowcordon/api/client"
)

func setupPeers(fs *flag.FlagSet) action {
	from := fs.String("from", "", "begin `time`: RFC 3339, or relative such as -6h (default: an hour before the end)")
	to := fs.String("to", "", "end `time` (default: now)")
	limit := fs.Int64("limit", 20, "at most so many of each, up to 1000")
	return func(ctx context.Context, d *desk, args []string) error {
		return show(ctx, d, "adding up", func(ctx context.Context) (*http.Response, error) {
			return d.api.Peers(ctx, args[0], &apiclient.PeersParams{From: opt(*from), To: opt(*to), Limit: limit})
		}, d.printPeers)
	}
}

func (d *desk) printPeers(o *apiclient.PeersOutputBody) error {
	if len(o.Peers) == 0 {
		return d.sayf("No stored flows of %s from %s to %s UTC.", o.IP, stamp(o.From), stamp(o.To))
	}
	ports := newTable("PORT", ">ADDRESSES", ">OUT BYTES", ">IN BYTES", ">PACKETS", ">NOT ESTABLISHED?")
	for _, p := range o.Ports {
		name := first(protoName(uint8(val(p.IPProto))), fmt.Sprintf("ip %d", val(p.IPProto)))
		if n := val(p.SvcPort); n > 0 {
			name += fmt.Sprintf("/%d", n)
		}
		ports.add(name, val(p.Remotes), metric(p.EstOutBytes), metric(p.EstInBytes), metric(p.EstOutPackets+p.EstInPackets), p.NotEstablished)
	}
	if err := ports.write(d.out, d.term); err != nil {
		return err
	}
	fmt.Fprintln(d.out)
	peers := newTable("PEER", ">OUT BYTES", ">IN BYTES", ">PACKETS", ">NOT ESTABLISHED?")
	for _, p := range o.Peers {
		peers.add(val(p.Remote), metric(p.EstOutBytes), metric(p.EstInBytes), metric(p.EstOutPackets+p.EstInPackets), p.NotEstablished)
	}
	if err := peers.write(d.out, d.term); err != nil {
		return err
	}
	if o.TotalPeers > int64(len(o.Peers)) || o.TotalPorts > int64(len(o.Ports)) {
		fmt.Fprintf(d.out, "\n%d ports and %d peers in all; --limit lists more\n", o.TotalPorts, o.TotalPeers)
	}
	return nil
}
