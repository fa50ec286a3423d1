package detect

import (
	"context"
	"fmt"
	"slices"

	"github.com/flowcordon/flowcordon/flow"
)

// This file holds the questions that are asked of suspects only, each with what
// bounds it: the same thresholds that the rules begin with.

func (w *screened) ServiceStats(ctx context.Context, r flow.Range, ipProto uint8, least uint64) ([]flow.ServiceStat, error) {
	var main bool
	var b bound
	switch th := w.loose; ipProto {
	case flow.ProtoTCP:
		main, b = least == th.Netscan.NotifyDistinct && w.spans(r, th.Netscan.WindowsS), scoreBound(flow.SignTCPScan, th.Netscan.NotifyScore)
	case flow.ProtoUDP:
		main, b = least == th.UDPSweep.NotifyDistinct && w.spans(r, th.UDPSweep.WindowsS), scoreBound(flow.SignUDPSweep, th.UDPSweep.NotifyScore)
	case flow.ProtoICMP, flow.ProtoICMPv6:
		main, b = least == th.ICMPSweep.NotifyDistinct && w.spans(r, th.ICMPSweep.WindowsS), scoreBound(flow.SignEchoSweep, th.ICMPSweep.NotifyScore)
	}
	ctx, none, err := w.narrowHeld(ctx, fmt.Sprint("clients ", ipProto), r, main, b)
	if none || err != nil {
		return nil, err
	}
	if few, ok, err := w.hold(ctx, r); ok || err != nil {
		return w.held.serviceStats(r, few, ipProto, least), err
	}
	return w.Windows.ServiceStats(ctx, r, ipProto, least)
}

func (w *screened) AttemptStats(ctx context.Context, r flow.Range, ipProto uint8, least, scaled uint64) ([]flow.AttemptStat, error) {
	th := &w.loose.Blockscan
	key := fmt.Sprint("attempts ", ipProto)
	// A SYN carpet is asked for in the same way.
	main := ipProto == flow.ProtoTCP && least == th.NotifyPairs && w.spans(r, th.WindowsS, w.loose.SYNFlood.WindowsS)
	bounds := []bound{scoreBound(flow.SignTCPScan, th.NotifyScore), synBound(flow.SignHostSYNs, &w.loose.SYNFlood, r)}
	ctx, none, err := w.narrowHeld(ctx, key, r, main, bounds...)
	if none || err != nil {
		return nil, err
	}
	k := attemptsKey{r, ipProto, least, scaled, len(w.suspects[key])}
	if l, ok := w.attempts[k]; ok && main { // two rules ask the same
		return l, nil
	}
	if few, ok, err := w.hold(ctx, r); ok || err != nil {
		return w.held.attemptStats(r, few, ipProto, least, scaled), err
	}
	l, err := w.Windows.AttemptStats(ctx, r, ipProto, least, scaled)
	if err == nil && main {
		w.attempts[k] = l
	}
	return l, err
}

func (w *screened) ServiceTotals(ctx context.Context, r flow.Range, q flow.ServiceQuery) ([]flow.ServiceStat, error) {
	var main bool
	var bounds []bound
	switch th := w.loose; {
	case q.IPProto == flow.ProtoTCP && q.Role == flow.RoleClient:
		main = slices.Equal(q.Ports, w.ports.asked) && q.MinOutPackets == min(th.BlockedPort.MinSamples, th.Spam.MinServers) &&
			w.spans(r, th.Spam.WindowsS, th.Bruteforce.WindowsS, th.BlockedPort.WindowsS)
		bounds = []bound{loginBound(&th.Bruteforce, r), {sign: flow.SignMail, least: float64(th.Spam.MinServers)}, closedBound(flow.SignClosedTCP, &th.BlockedPort)}
	case q.IPProto == flow.ProtoUDP && q.Role == flow.RoleClient:
		main = q.Ports != nil && slices.Equal(q.Ports, w.ports.closed) && q.MinOutPackets == th.BlockedPort.MinSamples && w.spans(r, th.BlockedPort.WindowsS)
		bounds = []bound{closedBound(flow.SignClosedUDP, &th.BlockedPort)}
	case q.IPProto == flow.ProtoUDP && q.Role == flow.RoleServer:
		main = q.Ports != nil && slices.Equal(q.Ports, w.ports.answers) && w.spans(r, th.Reflector.WindowsS)
		bounds = []bound{excessBound(flow.SignAnswered, flow.SignAnswers, th.Reflector.NotifyScore, r.Seconds())}
	}
	narrow := w.narrow
	if q.Role == flow.RoleClient {
		narrow = w.narrowHeld
	}
	ctx, none, err := narrow(ctx, fmt.Sprint("totals ", q.IPProto, q.Role), r, main, bounds...)
	if none || err != nil {
		return nil, err
	}
	if q.Role == flow.RoleClient {
		if few, ok, err := w.hold(ctx, r); ok || err != nil {
			return w.held.serviceTotals(r, few, &q), err
		}
	}
	return w.Windows.ServiceTotals(ctx, r, q)
}

func (w *screened) PairStats(ctx context.Context, r flow.Range, ipProto uint8, packets, ports uint64) ([]flow.PairStat, error) {
	th := w.loose
	var main bool
	var bounds []bound
	switch {
	case ipProto == flow.ProtoTCP && packets == 0:
		main = ports == th.Portscan.NotifyPorts && w.spans(r, th.Portscan.WindowsS)
		bounds = []bound{scoreBound(flow.SignPortScan, th.Portscan.NotifyScore)}
	case ports != 0:
	case ipProto == flow.ProtoTCP: // of which packet_flood is told as well
		main = w.spans(r, th.SYNFlood.WindowsS, th.PacketFlood.WindowsS) &&
			(packets == leastPackets(th.SYNFlood.NotifyScore, ackPerSYN) || packets == leastPackets(th.PacketFlood.NotifyScore, th.PacketFlood.Return))
		bounds = []bound{synBound(flow.SignSYNs, &th.SYNFlood, r), rateBound(flow.SignTCP, th.PacketFlood.NotifyScore, th.PacketFlood.Rate, r)}
	case ipProto == flow.ProtoUDP:
		main = packets == leastPackets(th.UDPFlood.NotifyScore, th.UDPFlood.NotifyReturn) && w.spans(r, th.UDPFlood.WindowsS)
		bounds = []bound{rateBound(flow.SignUDP, th.UDPFlood.NotifyScore, th.UDPFlood.Rate, r)}
	case ipProto == flow.ProtoICMP || ipProto == flow.ProtoICMPv6:
		main = packets == leastPings && w.spans(r, th.ICMPFlood.WindowsS)
		bounds = []bound{rateBound(flow.SignEchoes, th.ICMPFlood.NotifyScore, th.ICMPFlood.Rate, r)}
	}
	key := fmt.Sprint("pairs ", ipProto)
	if ports != 0 {
		key = fmt.Sprint("ports ", ipProto)
	}
	ctx, none, err := w.narrow(ctx, key, r, main, bounds...)
	if none || err != nil {
		return nil, err
	}
	return w.Windows.PairStats(ctx, r, ipProto, packets, ports)
}

func (w *screened) OtherPairStats(ctx context.Context, r flow.Range, packets uint64) ([]flow.PairStat, error) {
	th := &w.loose.PacketFlood
	main := packets == leastPackets(th.NotifyScore, th.Return) && w.spans(r, th.WindowsS)
	ctx, none, err := w.narrow(ctx, "other pairs", r, main, rateBound(flow.SignOther, th.NotifyScore, th.Rate, r))
	if none || err != nil {
		return nil, err
	}
	return w.Windows.OtherPairStats(ctx, r, packets)
}

func (w *screened) OneWay(ctx context.Context, r flow.Range, ipProto uint8, scaled uint64, back float64) ([]flow.ServiceStat, error) {
	rate := w.loose.UDPFlood.Rate
	main := ipProto == flow.ProtoUDP && float64(scaled) >= 0.99*rate*r.Seconds() && w.spans(r, w.loose.UDPFlood.WindowsS)
	ctx, none, err := w.narrow(ctx, fmt.Sprint("one way ", ipProto), r, main, bound{sign: flow.SignOneWay, least: float64(scaled) - 1.001*drift*rate*r.Seconds()})
	if none || err != nil {
		return nil, err
	}
	return w.Windows.OneWay(ctx, r, ipProto, scaled, back)
}
