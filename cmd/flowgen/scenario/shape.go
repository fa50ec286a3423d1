package scenario

import (
	"math"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

type outcome struct {
	share float64
	pkts  []pkt
	ok    bool
}

// outcomes are the packets of each way a conversation can end.
func (s *Source) outcomes() []outcome {
	var out []outcome
	add := func(share float64, ok bool, pkts []pkt) {
		if share > 1e-9 {
			if s.server {
				for i := range pkts {
					pkts[i].out = !pkts[i].out
				}
			}
			out = append(out, outcome{share, pkts, ok})
		}
	}
	if s.proto != flow.ProtoTCP {
		var q, a []pkt
		for i := range s.udp.out {
			q = append(q, pkt{0.01 * float64(i), true, 0, uint16(s.udp.size)})
		}
		for i := range s.udp.in {
			a = append(a, pkt{0.005 + 0.01*float64(i), false, 0, uint16(s.udp.insize)})
		}
		add(s.udp.ok, true, append(slices.Clone(q), a...))
		add(1-s.udp.ok, false, q)
		return out
	}
	c := s.tcp
	syn := pkt{0, true, flow.SYN, c.length}
	synack := pkt{0.05, false, flow.SYN | flow.ACK, 60}
	var dead []pkt
	for i := range c.syn {
		dead = append(dead, pkt{math.Pow(2, float64(i)) - 1, true, flow.SYN, c.length}) // RFC 6298 §2: 1 s, then doubled
	}
	whole := []pkt{syn, synack}
	for i := 1; i < c.out; i++ {
		f := uint8(flow.ACK)
		if i == c.out-1 && i > 1 {
			f |= flow.FIN
		} else if i%2 == 0 {
			f |= flow.PSH
		}
		whole = append(whole, pkt{0.1 + c.dur*float64(i)/float64(c.out), true, f, c.size})
	}
	for i := 1; i < c.in; i++ {
		f := uint8(flow.ACK | flow.PSH)
		if i == c.in-1 {
			f |= flow.FIN
		}
		whole = append(whole, pkt{0.12 + c.dur*float64(i)/float64(c.in), false, f, c.insize})
	}
	add(c.ok, true, whole)
	add(c.rst, false, []pkt{syn, {0.05, false, flow.RST | flow.ACK, 40}})
	add(c.half, true, []pkt{syn, synack, {0.051, true, flow.RST, 40}})
	add(c.silent, false, []pkt{syn, synack})
	add(c.scatter, false, []pkt{synack, {0.051, true, flow.RST, 40}})
	add(1-c.ok-c.rst-c.half-c.silent-c.scatter, false, dead)
	return out
}
