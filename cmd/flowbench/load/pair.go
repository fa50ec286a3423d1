package load

import "github.com/flowcordon/flowcordon/flow"

// outcome is how a TCP conversation goes, by what a cache has of both directions.
type outcome struct {
	percent        uint32
	client, server uint8 // flags; 0: nothing comes back
}

// Nineteen of twenty connections are made, as where nobody scans: what a router
// exports of ordinary hosts, our choice.
var outcomes = [...]outcome{
	{66, flow.SYN | flow.ACK | flow.PSH | flow.FIN, flow.SYN | flow.ACK | flow.PSH | flow.FIN},
	{14, flow.ACK | flow.PSH, flow.ACK | flow.PSH}, // goes on since an earlier record
	{8, flow.SYN | flow.ACK | flow.PSH, flow.SYN | flow.ACK | flow.PSH},
	{7, flow.SYN | flow.ACK | flow.PSH | flow.RST, flow.SYN | flow.ACK | flow.PSH},
	{3, flow.SYN, flow.RST | flow.ACK}, // refused
	{2, flow.SYN, 0},
}

// unansweredPercent is for UDP and ICMP.
const unansweredPercent = 4

// nextOfPair fills r with the next record where both directions of a conversation
// are exported, the server's after the client's.
func (m *mix) nextOfPair(r *record) {
	answer := &m.answers[m.begun%answerLag]
	if answer.proto != 0 {
		*r, answer.proto = *answer, 0
		return
	}
	m.begun++
	m.talk(r)
	back, flags := m.below(100) >= unansweredPercent, uint8(0)
	if r.proto == flow.ProtoTCP {
		how, p := 0, m.below(100)
		for p >= outcomes[how].percent {
			p -= outcomes[how].percent
			how++
		}
		r.flags, flags = outcomes[how].client, outcomes[how].server
		back = flags != 0
	}
	m.times(r)
	if r.flags == flow.SYN { // sent again, if at all
		r.startAgo = r.endAgo
	}
	m.volume(r)
	if !back {
		return
	}
	*answer = *r
	answer.turn()
	answer.flags = flags
	m.volume(answer)
}
