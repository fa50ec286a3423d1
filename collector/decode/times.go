package decode

import "github.com/flowcordon/flowcordon/flow"

// times sets a record's start and end. Where the export has none, both are the
// time of receipt and HasTimes is not set.
func (d *Decoder) times(o *origin, f *fields, r *flow.Record) {
	start, okStart := o.moment(f, fStart, f.start, fStartUptime, f.startUptime, fStartDelta, f.startDelta)
	end, okEnd := o.moment(f, fEnd, f.end, fEndUptime, f.endUptime, fEndDelta, f.endDelta)
	if !okEnd && f.has&fObserved != 0 {
		end, okEnd = f.observed, true // an event, as in Cisco NSEL
	}
	if f.has&fDuration != 0 && f.duration < 1<<62 {
		switch {
		case okEnd && !okStart:
			start, okStart = end-int64(f.duration), true
		case okStart && !okEnd:
			end, okEnd = start+int64(f.duration), true
		}
	}
	switch {
	case okStart && okEnd:
	case okStart:
		end = start
	case okEnd:
		start = end
	default:
		r.Start, r.End = r.Received, r.Received
		return
	}
	if end <= 0 || !d.cfg.TrustClock && end-r.Received > int64(maxFuture) {
		o.exporter.count(d, nTimesClamped)
		r.Start, r.End = r.Received, r.Received
		return
	}
	if start > end || start <= 0 {
		o.exporter.count(d, nTimesClamped)
		start = end
	}
	r.Start, r.End = start, end
	r.Has |= flow.HasTimes
}

// moment resolves one end of a flow from its absolute time, its uptime or its
// distance to the export time.
func (o *origin) moment(f *fields, abs present, at int64, up present, uptime uint32, delta present, us uint64) (int64, bool) {
	switch {
	case f.has&abs != 0:
		return at, true
	case f.has&up != 0:
		return o.fromUptime(f, uptime)
	case f.has&delta != 0 && us < maxDelta:
		return o.export - int64(us)*1e3, true
	}
	return 0, false
}

// maxDelta is the longest distance to the export time taken: 35 years of µs.
const maxDelta = 1 << 50

// fromUptime turns milliseconds of uptime into a time. The counter has 32 bits
// and wraps after 49.7 days (RFC 3954 §5.1), so it is read as a distance to the
// header's uptime. IPFIX headers have none: there the start of the system (IE
// 160, in the record or in options) is the base, and the multiple of the wrap
// that lies nearest to the export time is taken.
func (o *origin) fromUptime(f *fields, uptime uint32) (int64, bool) {
	init := o.domain.systemInit
	if f.has&fSystemInit != 0 {
		init = f.systemInit
	}
	now, ok := o.uptimeAt(init)
	return o.export + int64(int32(uptime-now))*1e6, ok
}

// uptimeAt is the uptime that belongs to the export time; init is the start of
// the system where it is known.
func (o *origin) uptimeAt(init int64) (ms uint32, ok bool) {
	switch {
	case o.uptimeKnown:
		return o.uptime, true
	case init == 0:
		return 0, false
	}
	return uint32(o.export/1e6 - init), true // what the counter shows then
}
