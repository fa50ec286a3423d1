// Package measure asks two things of a collector under a load that can be
// turned up and down: what a million records cost at a rate, and what rate it
// takes without loss. What comes in are an Offer and a Subject, what goes out
// are figures. It starts no goroutine and imports nothing of the project.
package measure

import (
	"context"
	"fmt"
	"time"
)

// Offer is a generator that runs.
type Offer interface {
	// SetRate sets the records per second; 0 stops them.
	SetRate(recordsPerSecond float64)
	// Sent counts the records and datagrams since it began.
	Sent() (records, datagrams uint64)
}

// Subject is a collector that runs.
type Subject interface {
	// CPU is what the collector has used so far, and apart from it its database.
	CPU() (collector, engine time.Duration, err error)
	// Lost counts datagrams that did not reach it or that it gave up.
	Lost() (uint64, error)
	// Queued is how many bytes wait in its sockets.
	Queued() (int64, error)
	// Memory is the resident bytes of the collector now, and of its database.
	Memory() (collector, engine int64)
}

// Figures are what one stretch of time showed.
type Figures struct {
	Seconds float64 `json:"seconds"`
	Records uint64  `json:"records"`
	Rate    float64 `json:"records_per_second"`
	Lost    uint64  `json:"lost_datagrams"`
	// CPU seconds for a million records.
	CPU    float64 `json:"cpu_seconds_per_million"`
	Engine float64 `json:"engine_cpu_seconds_per_million"`
	// Most memory seen, in bytes.
	Memory       int64 `json:"memory_bytes"`
	EngineMemory int64 `json:"engine_memory_bytes"`
}

// memoryEvery is how often memory is looked at.
const memoryEvery = 500 * time.Millisecond

// Stretch measures for a while at the rate that is set. When ctx ends, it
// returns its error.
func Stretch(ctx context.Context, o Offer, s Subject, long time.Duration) (Figures, error) {
	var f Figures
	lost, err := s.Lost()
	if err != nil {
		return f, err
	}
	cpu, engine, err := s.CPU()
	if err != nil {
		return f, err
	}
	records, _ := o.Sent()
	began := time.Now()
	for left := long; left > 0; left = long - time.Since(began) {
		if err := sleep(ctx, min(left, memoryEvery)); err != nil {
			return f, err
		}
		m, em := s.Memory()
		f.Memory, f.EngineMemory = max(f.Memory, m), max(f.EngineMemory, em)
	}
	f.Seconds = time.Since(began).Seconds()
	recordsNow, _ := o.Sent()
	cpuNow, engineNow, err := s.CPU()
	if err != nil {
		return f, err
	}
	lostNow, err := s.Lost()
	if err != nil {
		return f, err
	}
	f.Records, f.Lost = recordsNow-records, lostNow-lost
	if f.Records == 0 {
		return f, fmt.Errorf("nothing was sent in %v", long)
	}
	f.Rate = float64(f.Records) / f.Seconds
	f.CPU = (cpuNow - cpu).Seconds() * 1e6 / float64(f.Records)
	f.Engine = (engineNow - engine).Seconds() * 1e6 / float64(f.Records)
	return f, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
