package flow

import (
	"net/netip"
	"time"
)

// Resolution is that of the stored sums which answered a question.
type Resolution string

// The resolutions, finest first. ResolutionAuto lets the store choose.
const (
	ResolutionAuto   Resolution = ""
	ResolutionWindow Resolution = "10s"
	ResolutionMinute Resolution = "1m"
	ResolutionHour   Resolution = "1h"
)

// Length is how much time one stored sum covers; 0 for an unknown name.
func (r Resolution) Length() time.Duration {
	switch r {
	case ResolutionWindow:
		return WindowSeconds * time.Second
	case ResolutionMinute:
		return time.Minute
	case ResolutionHour:
		return time.Hour
	}
	return 0
}

// SeriesQuery asks for a tenant's time series.
type SeriesQuery struct {
	Tenant netip.Addr
	Range  Range
	// Step is a multiple of the resolution; 0: chosen by the range's length, 10 s
	// up to two hours, a minute up to three days, an hour up to 120 days, else a day.
	Step       time.Duration
	Resolution Resolution // ResolutionAuto: the coarsest that fits Step
}

// Series is a tenant's time series and what it was read from.
type Series struct {
	// Range is what was asked for; its ends are moved outwards to whole steps of
	// Resolution where nothing finer is stored any more.
	Range      Range
	Step       time.Duration
	Resolution Resolution
	Points     []SeriesPoint
}

// TopQuery asks for the tenants with the most traffic.
type TopQuery struct {
	Range      Range
	By         string // out_bytes, out_packets, in_bytes, in_packets, syn
	Limit      int    // 0: 20
	Resolution Resolution
}

// TopList is the answer and what it was read from; Range as in Series.
type TopList struct {
	Range      Range
	Resolution Resolution
	Rows       []TopRow
}

// PairHour is the sum of one pair's windows in an hour, which Start begins.
type PairHour struct {
	PairWindow            // Counts, SYNOut, EstOut, SYNACKIn, RSTIn and Ports (64 at most) are filled
	First, Last time.Time // the first and the last window with packets
}

// ServiceHours is the sum of one service of a tenant over whole hours.
type ServiceHours struct {
	IPProto       uint8  `json:"ip_proto"`
	Role          Role   `json:"role"`
	SvcPort       uint16 `json:"svc_port"`
	EstOutPackets uint64 `json:"est_out_packets"`
	EstInPackets  uint64 `json:"est_in_packets"`
	EstOutBytes   uint64 `json:"est_out_bytes"`
	EstInBytes    uint64 `json:"est_in_bytes"`
	Records       uint64 `json:"records"` // both ways, not scaled
	Attempts      uint64 `json:"attempts"`
	Distinct      uint64 `json:"distinct"` // destinations of the attempts, not scaled; above 256 an estimate, 6 % off as a rule
}
