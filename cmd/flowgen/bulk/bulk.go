package bulk

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/flowcordon/flowcordon/cmd/flowgen/export"
	"github.com/flowcordon/flowcordon/flow"
)

// Run sends cfg.Records records and returns their totals. When ctx ends it
// stops between two datagrams and returns the truth of what was sent together
// with ctx's error.
func Run(ctx context.Context, cfg Config) (Truth, error) {
	if err := cfg.check(); err != nil {
		return Truth{}, fmt.Errorf("bulk: %w", err)
	}
	out := output{cfg: &cfg, done: ctx.Done(), started: time.Now()}
	agent := cfg.Source
	if !agent.IsValid() {
		agent = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if cfg.Write == nil {
		udp, err := export.DialUDP(netip.AddrPortFrom(cfg.Source, 0), cfg.Target)
		if err != nil {
			return Truth{}, err
		}
		defer func() { _ = udp.Close() }() // flushed by finish
		out.udp = udp
	}
	start := cfg.Now()
	enc, err := export.New(export.Config{
		Protocol: cfg.Protocol, Domain: cfg.Domain, SamplingRate: 1, Agent: agent,
		Boot: start.Add(-13 * time.Hour), LegacySampling: cfg.LegacySampling,
	}, out.emit)
	if err != nil {
		return Truth{}, err
	}
	gen := newGenerator(&cfg)
	if err := send(ctx, &cfg, gen, enc); err != nil {
		return out.truth(gen), err
	}
	if err := enc.Flush(cfg.Now().UnixNano()); err != nil {
		return out.truth(gen), err
	}
	if err := out.flush(); err != nil {
		return out.truth(gen), err
	}
	return out.truth(gen), nil
}

// clockEvery is how many records share one reading of the clock.
const clockEvery = 256

func send(ctx context.Context, cfg *Config, gen *generator, enc export.Encoder) error {
	var f export.Flow
	now := cfg.Now().UnixNano()
	for i := uint64(0); i < cfg.Records; i++ {
		if i%clockEvery == 0 {
			if err := ctx.Err(); err != nil {
				// What was generated must also be sent: the truth has it.
				if ferr := enc.Flush(now); ferr != nil {
					return ferr
				}
				return err
			}
			now = cfg.Now().UnixNano()
		}
		gen.next(&f, now)
		if err := enc.Add(&f, now); err != nil {
			return err
		}
	}
	return nil
}

// output counts, paces and sends datagrams.
type output struct {
	cfg       *Config
	done      <-chan struct{}
	udp       *export.UDP
	started   time.Time
	records   uint64
	datagrams uint64
	bytes     uint64
}

func (o *output) emit(datagram []byte, records int) error {
	o.records += uint64(records)
	o.datagrams++
	o.bytes += uint64(len(datagram))
	var err error
	if o.udp != nil {
		err = o.udp.Send(datagram)
	} else {
		err = o.cfg.Write(datagram)
	}
	if err != nil {
		return err
	}
	if o.cfg.Pace != nil && o.datagrams%uint64(o.cfg.PaceEvery) == 0 {
		if err := o.flush(); err != nil {
			return err
		}
		o.cfg.Pace(o.records)
	}
	if o.cfg.Rate > 0 {
		return o.keepRate()
	}
	return nil
}

// keepRate sleeps as long as the records sent are ahead of the rate.
func (o *output) keepRate() error {
	due := o.started.Add(time.Duration(float64(o.records) / float64(o.cfg.Rate) * float64(time.Second)))
	wait := time.Until(due)
	if wait < 200*time.Microsecond { // below the kernel's timer slack a sleep would only add delay
		return nil
	}
	if err := o.flush(); err != nil {
		return err
	}
	select {
	case <-o.done: // send looks at the context next
	case <-time.After(wait):
	}
	return nil
}

func (o *output) flush() error {
	if o.udp == nil {
		return nil
	}
	return o.udp.Flush()
}

func (o *output) truth(g *generator) Truth {
	_ = o.flush() // after an error; otherwise nothing is left to send
	t := Truth{
		Hosts: make(map[netip.Addr]flow.Counts, len(g.hosts)), Records: o.records, Datagrams: o.datagrams,
		Bytes: o.bytes, Elapsed: time.Since(o.started), First: time.Unix(0, g.first).UTC(), Last: time.Unix(0, g.last).UTC(),
	}
	for i, c := range g.counts {
		if c != (flow.Counts{}) {
			t.Hosts[g.hosts[i]] = c
			t.Total.Add(c)
		}
	}
	return t
}
