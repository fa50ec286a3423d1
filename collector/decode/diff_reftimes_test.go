package decode_test

import (
	"math"
	"math/big"

	"github.com/flowcordon/flowcordon/flow"
)

// times sets a record's start and end, and reports whether the exporter's were
// not to be used as they are.
func (r *refDecoder) times(c refContext, fs refFields, x *flow.Record) (clamped bool) {
	start, okS := refMoment(c, fs, []uint16{150, 152, 154, 156}, 22, 158)
	end, okE := refMoment(c, fs, []uint16{151, 153, 155, 157}, 21, 159)
	if !okE {
		end, okE = refAbsolute(fs, 322, 323, 324, 325)
	}
	if d, ok := refDuration(fs); ok && okS != okE {
		if okE {
			start, okS = end-d, true
		} else {
			end, okE = start+d, true
		}
	}
	x.Start, x.End = x.Received, x.Received
	if !okS && !okE {
		return false
	}
	if !okS {
		start = end
	}
	if !okE {
		end = start
	}
	if end <= 0 || !c.trustClock && end > c.received+refMaxFuture {
		return true
	}
	if start <= 0 || start > end {
		start, clamped = end, true
	}
	x.Start, x.End = start, end
	x.Has |= flow.HasTimes
	return clamped
}

// refMoment: the absolute time, else the uptime, else microseconds before the
// export.
func refMoment(c refContext, fs refFields, absolute []uint16, uptime, before uint16) (int64, bool) {
	if ns, ok := refAbsolute(fs, absolute...); ok {
		return ns, true
	}
	if ms, ok := fs.num(math.MaxUint32, uptime); ok {
		return refUptime(c, fs, int64(ms))
	}
	if us, ok := fs.u64(before); ok && us < 1<<50 {
		return c.export - int64(us)*1000, true
	}
	return 0, false
}

// refAbsolute is the last of the elements that is filled in.
func refAbsolute(fs refFields, ids ...uint16) (int64, bool) {
	var at int64
	found := false
	for _, f := range fs {
		for _, id := range ids {
			if f.pen != 0 || f.scope || f.id != id {
				continue
			}
			n := new(big.Int).SetBytes(f.b)
			ns := new(big.Int)
			switch id {
			case 150, 151, 322: // seconds
				ns.Mul(n, big.NewInt(1e9))
			case 152, 153, 323: // milliseconds
				ns.Mul(n, big.NewInt(1e6))
			default: // NTP: seconds since 1900 or, with the top bit clear, 2036; a fraction of 32 bits
				if len(f.b) != 8 {
					continue
				}
				if f.b[0] < 0x80 {
					ns.Lsh(big.NewInt(1), 64)
				}
				ns.Add(ns, n)
				ns.Mul(ns, big.NewInt(1e9)).Rsh(ns, 32)
				ns.Sub(ns, new(big.Int).Mul(big.NewInt(2_208_988_800), big.NewInt(1e9)))
			}
			if len(f.b) < 1 || len(f.b) > 8 || n.Sign() == 0 || !ns.IsInt64() {
				continue
			}
			at, found = ns.Int64(), true
		}
	}
	return at, found
}

// refDuration of 161 (ms) or 162 (µs), in ns; what would not fit into decades is
// none.
func refDuration(fs refFields) (int64, bool) {
	var ns *big.Int
	for _, f := range fs {
		if f.pen != 0 || f.scope || f.id != 161 && f.id != 162 || len(f.b) < 1 || len(f.b) > 8 {
			continue
		}
		n := new(big.Int).SetBytes(f.b)
		n.Mul(n, big.NewInt(map[uint16]int64{161: 1e6, 162: 1e3}[f.id]))
		if n.IsInt64() {
			ns = n
		}
	}
	if ns == nil || ns.BitLen() > 62 {
		return 0, false
	}
	return ns.Int64(), true
}

// systemInit is when the exporter started, ms since the epoch; 0 is not filled in.
func (fs refFields) systemInit() (int64, bool) {
	b, ok := fs.last(0, func(b []byte) bool {
		return len(b) >= 1 && len(b) <= 8 && !allZero(b) && new(big.Int).SetBytes(b).Cmp(big.NewInt(math.MaxInt64/1_000_000)) <= 0
	}, 160)
	return new(big.Int).SetBytes(b).Int64(), ok
}

// refUptime: a counter of 32 bits of milliseconds, nearest to the export.
func refUptime(c refContext, fs refFields, ms int64) (int64, bool) {
	at := c.uptime
	if at < 0 { // IPFIX: the system's start (IE 160) and the export time say it
		init, ok := fs.systemInit()
		if !ok {
			init = c.domain.systemInit
		}
		if init == 0 {
			return 0, false
		}
		at = c.export/1e6 - init
	}
	const wrap = 1 << 32
	d := ((ms-at)%wrap + wrap) % wrap
	if d >= wrap/2 {
		d -= wrap
	}
	return c.export + d*1e6, true
}
