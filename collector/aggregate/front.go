package aggregate

import (
	"net/netip"

	"github.com/flowcordon/flowcordon/flow"
)

// Front judges records and routes their sides to shards. It belongs to one
// goroutine.
type Front struct {
	cfg    Config
	nets   *networks
	shards uint64

	records, clockAhead          uint64
	clippedPackets, clippedBytes uint64
	dropped                      [numReasons]uint64

	last   netip.Addr // the exporter of the last record: runs of records have one
	lastIP ip

	exporters map[netip.Addr]*ExporterStats
	forgeries forgeries
}

// NewFront returns a Front for that many shards. It panics if cfg does not
// Validate: a user's configuration is checked before.
func NewFront(cfg Config, shards int) *Front {
	if err := cfg.Validate(); err != nil {
		panic("aggregate: " + err.Error())
	}
	cfg = cfg.withDefaults()
	return &Front{cfg: cfg, nets: newNetworks(cfg), shards: uint64(shards), exporters: make(map[netip.Addr]*ExporterStats)}
}

// Reconfigure replaces the configuration for records that come from now on. An
// error leaves everything as it was.
func (f *Front) Reconfigure(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	f.cfg = cfg.withDefaults()
	f.nets = newNetworks(f.cfg)
	return nil
}

// Route appends each side of each record to the block of its tenant's shard;
// flow.Record.Received is "now". len(blocks) is the number of shards. Nothing of
// rs is kept.
func (f *Front) Route(rs []flow.Record, blocks []*Block) {
	f.records += uint64(len(rs))
	for i := range rs {
		f.route(&rs[i], blocks)
	}
}

func (f *Front) route(r *flow.Record, blocks []*Block) {
	if !r.Src.IsValid() || !r.Dst.IsValid() {
		f.dropped[dropNoAddress]++
		return
	}
	if r.SamplingRate == 0 {
		f.dropped[dropSamplingUnknown]++
		f.exporter(r.Exporter).SamplingUnknown++
		return
	}
	if r.Exporter != f.last {
		f.last, f.lastIP = r.Exporter, ipOf(r.Exporter)
	}
	src, dst := ipOf(r.Src), ipOf(r.Dst)
	srcPlace, dstPlace := f.nets.place(r.Src, src), f.nets.place(r.Dst, dst)
	forged := srcPlace == 0 && f.isForged(r, src)
	if (srcPlace|dstPlace)&placeInternal == 0 {
		f.transit(r, dst)
		if !forged {
			f.dropped[dropNotInternal]++
			return
		}
	}
	t := checkTimes(r)
	if t.ahead {
		f.clockAhead++
		f.exporter(r.Exporter).ClockAhead++
	}
	if tooLate(t.end, r.Received, f.cfg.MaxAge) {
		f.dropped[dropTooLate]++
		f.clippedPackets += r.Packets
		f.clippedBytes += r.Bytes
		f.exporter(r.Exporter).TooLate++
		return
	}
	var k kind
	k.classify(r)
	set := k.set | itemPrimary
	if forged {
		f.forge(r, &k, t, src, dst, blocks, dstPlace&placeInternal == 0)
	}
	if srcPlace&placeInternal != 0 {
		it := f.item(src, r.SamplingRate, blocks)
		it.fill(r, &k, t)
		it.exporter, it.remote, it.hostPort, it.remotePort = f.lastIP, dst, r.SrcPort, r.DstPort
		it.dir, it.role, it.counter = out, k.sender, counterOf[k.class]
		it.set = set
		if ownAmplifier(r, r.SrcPort, it) {
			it.role = flow.RoleServer
		} else if k.isAttempt() {
			it.set |= itemAttempt
		}
		if k.class == flow.ClassSYN {
			it.set |= outgoingSYN(r)
		}
		if dstPlace&placeBogon != 0 {
			it.set |= itemBogon
		}
		if r.Has&flow.HasInIf != 0 && f.nets.isExternal(r.Exporter, r.InIf) {
			it.set |= itemSpoofed
		}
		set &^= itemPrimary
	}
	if dstPlace&placeInternal != 0 {
		it := f.item(dst, r.SamplingRate, blocks)
		it.fill(r, &k, t)
		it.exporter, it.remote, it.hostPort, it.remotePort = f.lastIP, src, r.DstPort, r.SrcPort
		it.dir, it.role, it.counter = in, opposite(k.sender), counterOf[k.class]
		if it.counter < cIn {
			it.counter += cIn
		}
		if ownAmplifier(r, r.DstPort, it) {
			it.role = flow.RoleServer
		}
		it.set = set
		if srcPlace&placeBogon != 0 {
			it.set |= itemBogon
		}
	}
}

// counterOf says in which counter a class counts, going out.
var counterOf = [...]uint8{
	flow.ClassOther: noCounter, flow.ClassUDP: noCounter, flow.ClassEcho: noCounter, flow.ClassICMPErr: noCounter,
	flow.ClassSYN: cSYN, flow.ClassEst: cEst, flow.ClassSYNACK: cSYNACK, flow.ClassRST: cRST, flow.ClassNoFlags: cNoFlags,
}

// outgoingSYN returns the bits that only an outgoing ClassSYN record has.
func outgoingSYN(r *flow.Record) (set uint16) {
	if isRawSYN(r) {
		set |= itemRawSYN
	}
	if hasPorts(r) {
		set |= itemPort
	}
	return set
}

// item returns a new item in the block of the host's shard, with host and hash.
func (f *Front) item(host ip, rate uint32, blocks []*Block) *Item {
	h := hashTenant(host.tenant(f.nets.mask))
	b := blocks[0]
	if f.shards > 1 {
		b = blocks[(h>>32)*f.shards>>32]
	}
	it := b.next()
	it.host, it.hash = host, hashHost(h, rate)
	return it
}

// fill sets what both sides of a record have in common.
func (it *Item) fill(r *flow.Record, k *kind, t times) {
	it.start, it.end, it.received = t.start, t.end, r.Received
	it.packets, it.bytes = r.Packets, r.Bytes
	it.rate, it.inIf, it.outIf = r.SamplingRate, r.InIf, r.OutIf
	it.svc, it.ipLen, it.vlan, it.mac = k.svc, r.IPLen, r.VLAN, r.SrcMAC
	it.proto, it.tcpFlags, it.icmpType, it.icmpCode, it.ttl = r.IPProto, r.TCPFlags, r.ICMPType, r.ICMPCode, r.TTL
	it.class = k.class
}

func opposite(r flow.Role) flow.Role {
	switch r {
	case flow.RoleClient:
		return flow.RoleServer
	case flow.RoleServer:
		return flow.RoleClient
	}
	return r
}

// Stats returns the totals of what the Front judged.
func (f *Front) Stats() Stats {
	s := Stats{Records: f.records, ClockAhead: f.clockAhead, ClippedPackets: f.clippedPackets, ClippedBytes: f.clippedBytes}
	s.Dropped = make(map[string]uint64, numReasons)
	for i, name := range Reasons() {
		s.Dropped[name] = f.dropped[i]
	}
	s.Exporters = make(map[netip.Addr]ExporterStats, len(f.exporters))
	for addr, e := range f.exporters {
		s.Exporters[addr] = *e
	}
	return s
}

// maxExporters bounds the exporters told apart; those beyond it share the
// invalid address. Far more than one collector is ever sent by.
const maxExporters = 4096

func (f *Front) exporter(addr netip.Addr) *ExporterStats {
	e := f.exporters[addr]
	if e == nil {
		if len(f.exporters) >= maxExporters {
			addr = netip.Addr{}
			if e = f.exporters[addr]; e != nil {
				return e
			}
		}
		e = &ExporterStats{}
		f.exporters[addr] = e
	}
	return e
}
