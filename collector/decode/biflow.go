package decode

import "github.com/flowcordon/flowcordon/flow"

// reversed is the other direction of a biflow: endpoints, interfaces and
// counters change places; what belongs to the sender's side is left out.
func reversed(f *fields, r flow.Record) flow.Record {
	r.Src, r.Dst = r.Dst, r.Src
	r.SrcPort, r.DstPort = r.DstPort, r.SrcPort
	r.Packets, r.Bytes = f.revPackets, f.revBytes // after running, where they are totals
	in, out := r.Has&flow.HasInIf, r.Has&flow.HasOutIf
	r.InIf, r.OutIf = r.OutIf, r.InIf
	r.Has &^= flow.HasInIf | flow.HasOutIf | flow.HasSrcMAC | flow.HasTTL | flow.HasTCPFlags
	if in != 0 {
		r.Has |= flow.HasOutIf
	}
	if out != 0 {
		r.Has |= flow.HasInIf
	}
	r.SrcMAC, r.TTL, r.TCPFlags = [6]byte{}, 0, 0
	if f.has&fRevFlags != 0 && r.IPProto == flow.ProtoTCP {
		r.TCPFlags = f.revFlags
		r.Has |= flow.HasTCPFlags
	}
	// An echo request forth is an echo reply back; other types have no answer
	// of a known type.
	if r.Has&flow.HasICMP != 0 {
		switch {
		case r.IPProto == flow.ProtoICMP && r.ICMPType == 8:
			r.ICMPType = 0
		case r.IPProto == flow.ProtoICMPv6 && r.ICMPType == 128:
			r.ICMPType = 129
		default:
			r.Has &^= flow.HasICMP
			r.ICMPType, r.ICMPCode = 0, 0
		}
	}
	return r
}
