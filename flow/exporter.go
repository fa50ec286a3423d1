package flow

import (
	"net/netip"
	"time"
)

// ExporterHealth is what the collector knows of one exporter.
type ExporterHealth struct {
	Exporter  netip.Addr        `json:"exporter"`
	Protocols []string          `json:"protocols"`
	FirstSeen time.Time         `json:"first_seen"`
	LastSeen  time.Time         `json:"last_seen"`
	Datagrams uint64            `json:"datagrams"`
	Records   uint64            `json:"records"`
	Lost      uint64            `json:"lost"` // datagrams or records missing by sequence number
	Templates uint64            `json:"templates"`
	Dropped   map[string]uint64 `json:"dropped"` // reason → count
	Samplers  []SamplerHealth   `json:"samplers"`
	MaxDelayS float64           `json:"max_delay_s"` // longest of received − end over the last minutes
	Problems  []string          `json:"problems"`    // one line each, with what to do
}

// SamplerHealth is a sampling rate in force.
type SamplerHealth struct {
	Domain  uint32 `json:"domain"`
	Rate    uint32 `json:"rate"` // 0: unknown
	Source  string `json:"source"`
	Records uint64 `json:"records"`
}
