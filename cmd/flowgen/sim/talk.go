package sim

import (
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// router says which of the two carries a tenant's traffic.
type router uint8

const (
	routerA router = iota // NetFlow v9, 1:1
	routerB               // sFlow, 1:N
)

// outcome is how the other side answered.
type outcome uint8

const (
	answered outcome = iota
	dead             // no answer at all
	refused          // TCP reset
)

// talk is one conversation between a tenant and a remote host, both
// directions. Packets and bytes of a direction without traffic are zero.
type talk struct {
	tenant          *Tenant
	local, remote   netip.Addr
	lport, rport    uint16
	proto           uint8
	icmpOut, icmpIn uint8
	client          bool // the tenant began it
	outcome         outcome
	attack          bool
	start, dur      int64
	out, in         volume
	ttlOut, ttlIn   uint8 // of sampled packets
}

// volume is one direction of a talk.
type volume struct {
	packets, bytes uint64
	flags          uint8 // OR'd over all packets, as a flow cache does
	first          uint8 // flags of the first packet, for samples
}

// handshake and data as a flow cache sums them up.
const (
	whole    = flow.SYN | flow.ACK | flow.PSH | flow.FIN
	synLen   = 60 // a Linux socket's SYN: MSS, SACK, timestamps, window scale
	ackLen   = 52
	rstLen   = 40
	fullSize = 1500
)

// begin fills in what all talks share and picks the family.
func (w *World) begin(t *Tenant, at int64, client bool, proto uint8) talk {
	k := talk{tenant: t, local: t.Addr, proto: proto, client: client, start: at, ttlOut: 63, ttlIn: uint8(64 - 8 - w.rng.IntN(16))}
	if t.Addr6.IsValid() && w.rng.IntN(5) == 0 {
		k.local = t.Addr6
	}
	return k
}

// far gives k a random remote host of its family.
func (w *World) far(k *talk) {
	if k.local.Is4() {
		k.remote = w.remote4()
	} else {
		k.remote = w.remote6()
	}
}

func (w *World) ephemeral() uint16 { return uint16(32768 + w.rng.IntN(28232)) }

// tcp sends a TCP conversation: req and resp are the data bytes of client and
// server, d its length.
func (w *World) tcp(k talk, svc uint16, req, resp uint64, d time.Duration) {
	client, server := tcpVolume(req, resp)
	k.dur = int64(d)
	switch {
	case k.outcome == dead:
		// Linux sends the SYN again after 1, 3 and 7 s; most callers have
		// given up by then.
		n := 1 + uint64(w.rng.IntN(3))
		client = volume{packets: n, bytes: n * synLen, flags: flow.SYN, first: flow.SYN}
		server = volume{}
		k.dur = int64(n*n-1) * int64(time.Second) / 2
	case k.outcome == refused:
		client = volume{packets: 1, bytes: synLen, flags: flow.SYN, first: flow.SYN}
		server = volume{packets: 1, bytes: rstLen, flags: flow.RST | flow.ACK, first: flow.RST | flow.ACK}
		k.dur = int64(40 * time.Millisecond)
	}
	if k.client {
		k.lport, k.rport = w.ephemeral(), svc
		k.out, k.in = client, server
	} else {
		k.lport, k.rport = svc, w.ephemeral()
		k.out, k.in = server, client
	}
	w.send(k)
}

// tcpVolume is both directions of a whole conversation: handshake, data in
// full segments, an ACK for every second one, and the close.
func tcpVolume(req, resp uint64) (client, server volume) {
	const payload = fullSize - ackLen
	creq, cresp := (req+payload-1)/payload, (resp+payload-1)/payload
	client = volume{packets: 3 + creq + cresp/2, flags: whole, first: flow.SYN}
	client.bytes = synLen + (client.packets-1)*ackLen + req
	server = volume{packets: 2 + cresp + creq/2, flags: whole, first: flow.SYN | flow.ACK}
	server.bytes = synLen + (server.packets-1)*ackLen + resp
	return client, server
}

// udp sends a UDP exchange of n packets each way, of the given IP lengths.
func (w *World) udp(k talk, svc uint16, n, size, nBack, sizeBack uint64, d time.Duration) {
	k.dur = int64(d)
	there, back := volume{packets: n, bytes: n * size}, volume{packets: nBack, bytes: nBack * sizeBack}
	if k.outcome == dead {
		back = volume{}
	}
	if k.client {
		if k.lport == 0 {
			k.lport = w.ephemeral()
		}
		k.rport, k.out, k.in = svc, there, back
	} else {
		k.lport, k.rport, k.out, k.in = svc, w.ephemeral(), back, there
	}
	w.send(k)
}

// send puts the talk on the wire, unless the tenant's link is down: then only
// what comes from outside does, and nothing answers it.
func (w *World) send(k talk) {
	t := k.tenant
	if t.down || t.off {
		if k.client {
			return
		}
		k.out, k.outcome = volume{}, dead
		if k.proto == flow.ProtoTCP {
			k.in = volume{packets: 3, bytes: 3 * synLen, flags: flow.SYN, first: flow.SYN}
			k.dur = int64(3 * time.Second)
		}
	}
	if k.out.packets > 0 {
		t.Sent += k.out.packets
		t.LastSent = time.Unix(0, k.start)
	}
	if t.router == routerA {
		w.a.observe(&k)
	} else {
		w.b.observe(&k)
	}
}
