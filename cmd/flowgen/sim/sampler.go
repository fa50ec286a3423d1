package sim

import (
	"math"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/flow"
)

// sflowRouter is router B: each packet is sampled with probability 1/N and its
// header sent at once.
type sflowRouter struct {
	w     *World
	enc   export.Encoder
	logQ  float64 // ln(1 − 1/N)
	queue *wheel[cached]
}

func newSFlowRouter(w *World, enc export.Encoder) *sflowRouter {
	r := &sflowRouter{w: w, enc: enc, queue: newWheel[cached](w.now)}
	if n := float64(w.cfg.SampleRate); n > 1 {
		r.logQ = math.Log1p(-1 / n)
	}
	return r
}

// skip is the number of packets before the next sampled one: geometric.
func (r *sflowRouter) skip() uint64 {
	if r.logQ == 0 {
		return 0
	}
	return uint64(math.Log(1-r.w.rng.Float64()) / r.logQ)
}

func (r *sflowRouter) observe(k *talk) {
	r.direction(k, k.out, true)
	r.direction(k, k.in, false)
}

// direction draws the samples of one direction of k.
func (r *sflowRouter) direction(k *talk, v volume, out bool) {
	for i := r.skip(); i < v.packets; i += 1 + r.skip() {
		c := cached{f: k.flow(out), tenant: k.tenant, attack: k.attack && out}
		f := &c.f
		f.Packets = 1
		f.Start = k.start + int64(float64(k.dur)*float64(i)/float64(v.packets))
		f.End = f.Start
		r.packet(f, v, i)
		r.queue.add(f.Start, c)
	}
}

// packet gives f the flags and the length of the i-th packet of v.
func (r *sflowRouter) packet(f *export.Flow, v volume, i uint64) {
	mean := v.bytes / v.packets
	f.Bytes = mean
	if f.IPProto == flow.ProtoTCP {
		f.Bytes = r.tcpPacket(f, v, i, mean)
	}
	if least := leastLen(f); f.Bytes < least {
		f.Bytes = least
	}
}

func (r *sflowRouter) tcpPacket(f *export.Flow, v volume, i, mean uint64) uint64 {
	retries := v.flags == v.first // SYN after SYN, or one packet only
	switch {
	case i == 0 || retries:
		f.TCPFlags = v.first
		if v.first&flow.RST != 0 {
			return rstLen
		}
		if retries || mean < synLen {
			return mean
		}
		return synLen
	case i == v.packets-1:
		f.TCPFlags = v.flags & (flow.FIN | flow.RST)
		if f.TCPFlags&flow.RST != 0 {
			return rstLen
		}
		f.TCPFlags |= flow.ACK
		return ackLen
	}
	// Data packets are full or empty: a mix that has the right mean.
	f.TCPFlags = flow.ACK
	if mean > ackLen && r.w.rng.Float64() < float64(mean-ackLen)/(fullSize-ackLen) {
		f.TCPFlags |= flow.PSH
		return fullSize
	}
	return ackLen
}

// leastLen is the shortest packet of f's protocols; the volumes are counted
// with IPv4 headers, and IPv6 needs more.
func leastLen(f *export.Flow) uint64 {
	n := uint64(20)
	if !f.Src.Is4() {
		n = 40
	}
	switch f.IPProto {
	case flow.ProtoTCP:
		if f.TCPFlags&flow.SYN != 0 {
			return n + 24
		}
		return n + 20
	default:
		return n + 8
	}
}

// export emits the samples of packets that were really sent: none of a talk
// whose link was cut before.
func (r *sflowRouter) export(now int64) error {
	err := r.queue.take(now, func(c cached) error {
		if cut := c.tenant.cutAt; cut != 0 && c.tenant.down && c.f.Start >= cut && c.f.InIf == ifInternal {
			return nil
		}
		c.tenant.exported(c.attack, now)
		return r.enc.Add(&c.f, now)
	})
	if err != nil {
		return err
	}
	return r.enc.Flush(now)
}
