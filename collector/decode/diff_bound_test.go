package decode_test

import (
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
)

// What hostile datagrams may cost: bytes allocated for each byte received, over
// what a new decoder and exporter cost once, and time for 64 KiB.
const (
	boundPerByte = 64
	boundBase    = 64 << 10
	boundTime    = 500 * time.Millisecond // of the processor, the race detector's work included
)

// message9 and message10 are datagrams of NetFlow v9 and IPFIX.
func message9(seq, domain int, sets ...[]byte) []byte {
	return cat(be16(9), be16(len(sets)), be32(genUptime), be32(int(genNow/1e9)), be32(seq), be32(domain), cat(sets...))
}

func message10(seq, domain int, sets ...[]byte) []byte {
	body := cat(sets...)
	return cat(be16(10), be16(16+len(body)), be32(int(genNow/1e9)), be32(seq), be32(domain), body)
}

func oneSet(id int, body []byte) []byte { return cat(be16(id), be16(4+len(body)), body) }

// messageS is an sFlow datagram of one agent and sub-agent.
func messageS(agent, sub, seq int, samples ...[]byte) []byte {
	return cat(be32(5), be32(1), be32(agent), be32(sub), be32(seq), be32(1000), be32(len(samples)), cat(samples...))
}

// fill repeats what make gives until a datagram is full.
func fill(room int, make func(i int) []byte) []byte {
	var out []byte
	for i := 0; ; i++ {
		b := make(i)
		if len(out)+len(b) > room {
			return out
		}
		out = append(out, b...)
	}
}

// hostile are streams of datagrams that make a decoder remember, forget or hold
// back as much as their bytes can; n counts the datagrams.
var hostile = []struct {
	name string
	make func(n int) []byte
}{
	{"templates of one field, ever new ids", func(n int) []byte {
		return message9(n, 1, oneSet(0, fill(65000, func(i int) []byte {
			return cat(be16(256+(n*8125+i)%65000), be16(1), be16(4), be16(1))
		})))
	}},
	{"the same templates again", func(n int) []byte {
		return message9(n, 1, oneSet(0, fill(65000, func(i int) []byte { return cat(be16(256+i%5000), be16(1), be16(4), be16(1)) })))
	}},
	{"one template, redefined each time", func(n int) []byte {
		return message9(n, 1, oneSet(0, fill(65000, func(i int) []byte { return cat(be16(256), be16(1), be16(4), be16(1+i%2)) })))
	}},
	{"templates of all known elements, redefined each time", func(n int) []byte {
		return message10(n, 1, oneSet(2, fill(65000, func(i int) []byte {
			var fs []byte
			for _, e := range genKnown {
				if e.pen == 0 {
					fs = cat(fs, be16(int(e.id)), be16(1+i%2))
				}
			}
			return cat(be16(256), be16(len(fs)/4), fs)
		})))
	}},
	{"templates of variable-length fields, redefined each time", func(n int) []byte {
		return message10(n, 1, oneSet(2, fill(65000, func(i int) []byte {
			var fs []byte
			for j := range 500 {
				fs = cat(fs, be16(82+(i+j)%2), be16(0xffff))
			}
			return cat(be16(256), be16(500), fs)
		})))
	}},
	{"template, withdrawal, template", func(n int) []byte {
		return message10(n, 1, oneSet(2, fill(65000, func(int) []byte { return cat(be16(256), be16(1), be16(4), be16(1), be16(256), be16(0)) })))
	}},
	{"options templates", func(n int) []byte {
		return message10(n, 1, oneSet(3, fill(65000, func(i int) []byte {
			return cat(be16(256+i%60000), be16(1), be16(1), be16(149), be16(1+n%4))
		})))
	}},
	{"samplers, ever new", func(n int) []byte {
		return message9(n, 1, oneSet(1, cat(be16(256), be16(4), be16(8), be16(1), be16(1), be16(48), be16(4), be16(34), be16(2))),
			oneSet(256, fill(60000, func(i int) []byte { return cat([]byte{1}, be32(n*10000+i), be16(1+i%60000)) })))
	}},
	{"a domain for each message", func(n int) []byte { return message10(0, n) }},
	{"a domain for each message, with a record", func(n int) []byte {
		return message10(0, n, oneSet(2, cat(be16(256), be16(1), be16(4), be16(1))), oneSet(256, []byte{6}))
	}},
	{"data without template", func(n int) []byte {
		return message9(n, 1, fill(65000, func(i int) []byte { return oneSet(256+(n+i)%60000, []byte{1}) }))
	}},
	{"data without template, no bytes", func(n int) []byte {
		return message9(n, 1, fill(65000, func(i int) []byte { return oneSet(256+(n+i)%60000, nil) }))
	}},
	{"data, then its template", func(n int) []byte {
		return message10(n, 1, oneSet(256, []byte{6}), oneSet(2, cat(be16(256), be16(1), be16(4), be16(1), be16(256), be16(0))))
	}},
	{"records of one byte", func(n int) []byte {
		return message9(n, 1, oneSet(0, cat(be16(256), be16(1), be16(4), be16(1))), oneSet(256, make([]byte, 65000)))
	}},
	{"biflows of two bytes", func(n int) []byte {
		return message10(n, 1, oneSet(2, cat(be16(256), be16(2), be16(4), be16(1), be16(299), be16(1))), oneSet(256, fill(65000, func(int) []byte { return []byte{6, 1} })))
	}},
	{"running totals of ever new flows", func(n int) []byte {
		return message10(n, 1, oneSet(2, cat(be16(256), be16(3), be16(8), be16(4), be16(12), be16(4), be16(85), be16(1))),
			oneSet(256, fill(65000, func(i int) []byte { return cat(be32(n*10000+i), be32(1), []byte{9}) })))
	}},
	{"sampling rates, ever new", func(n int) []byte {
		return message9(n, 1, oneSet(0, cat(be16(256), be16(1), be16(34), be16(2))), oneSet(256, fill(65000, func(i int) []byte { return be16(1 + i%60000) })))
	}},
	{"sFlow samples without records", func(n int) []byte {
		return messageS(1, 0, n, repeat(1600, sflowSample)...)
	}},
	{"sFlow data sources, ever new", func(n int) []byte {
		return messageS(1, 0, n, repeat(1600, func(i int) []byte { return sflowSample(n*1600 + i) })...)
	}},
	{"sFlow agents, ever new", func(n int) []byte { return messageS(n, 0, 1) }},
	{"sFlow agents, ever new, with a sample", func(n int) []byte { return messageS(n, 0, 1, sflowSample(1)) }},
	{"sFlow flow records of no bytes", func(n int) []byte {
		recs := fill(8*1024, func(int) []byte { return cat(be32(1), be32(0)) })
		return messageS(1, 0, n, repeat(7, func(int) []byte {
			return cat(be32(1), be32(32+len(recs)), be32(1), be32(1), be32(1), be32(1), be32(0), be32(1), be32(1), be32(1024), recs)
		})...)
	}},
	{"v5, an engine for each datagram", func(n int) []byte {
		return cat(be16(5), be16(1), be32(genUptime), be32(int(genNow/1e9)), be32(0), be32(0), be16(n), be16(0), make([]byte, 48))
	}},
}

func repeat(n int, make func(i int) []byte) [][]byte {
	out := [][]byte{}
	for i := range n {
		out = append(out, make(i))
	}
	return out
}

func sflowSample(source int) []byte {
	return cat(be32(1), be32(32), be32(1), be32(source), be32(1), be32(1), be32(0), be32(1), be32(1), be32(0))
}

// TestHostileBound: whatever is sent, for long, costs at most 64 bytes for each
// byte received, and never more than boundTime of the processor at a time. Both
// at best of three runs: the runtime allocates too, and the machine has other
// work, which is also why the thread's own clock is read and not the wall's.
func TestHostileBound(t *testing.T) {
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			var payloads [][]byte
			received := 0
			for n := 0; n < 2000 && received < 512<<10; n++ {
				payloads = append(payloads, h.make(n))
				received += len(payloads[n])
			}
			used := uint64(1 << 62)
			took := make([]time.Duration, len(payloads))
			for run := range 3 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				d := decode.New(decode.Config{}, decode.Deps{})
				for i, p := range payloads {
					start := threadTime(t)
					d.Decode(decode.Datagram{Exporter: netip.MustParseAddrPort("192.0.2.9:1"), Received: genNow, Payload: p}, func([]flow.Record) {})
					if one := threadTime(t) - start; run == 0 || one < took[i] {
						took[i] = one
					}
				}
				runtime.ReadMemStats(&after)
				used = min(used, after.TotalAlloc-before.TotalAlloc)
			}
			t.Logf("%d datagrams, %d bytes: %.1f bytes allocated for each, slowest %v", len(payloads), received, float64(used)/float64(received), slices.Max(took))
			if used > uint64(boundBase+boundPerByte*received) {
				t.Errorf("over %d", boundPerByte)
			}
			if slices.Max(took) > boundTime {
				t.Errorf("a datagram took %v", slices.Max(took))
			}
		})
	}
}

// threadTime is what the calling thread has had of the processors.
func threadTime(t testing.TB) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
