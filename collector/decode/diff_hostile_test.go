package decode_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/flowcordon/flowcordon/collector/decode"
)

// fieldList is a template's fields: id, length, id, length, …
func fieldList(v ...int) []byte {
	var out []byte
	for _, x := range v {
		out = append(out, be16(x)...)
	}
	return out
}

// tmpl is a template record of so many fields.
func tmpl(id int, fields ...int) []byte {
	return cat(be16(id), be16(len(fields)/2), fieldList(fields...))
}

// many are n fields of one kind.
func many(n, id, length int) []int { return slices.Repeat([]int{id, length}, n) }

// TestDiffHostile are datagrams that lie. What must come of them is written
// here; decoder and reference must besides agree on each, cut at any byte too.
func TestDiffHostile(t *testing.T) {
	v5 := func(count int, recs int) []byte {
		return cat(be16(5), be16(count), be32(genUptime), be32(int(genNow/1e9)), be32(0), be32(7), be16(0x0102), be16(100), make([]byte, 48*recs))
	}
	raw := func(expanded bool, records int) []byte {
		if expanded {
			return messageS(1, 0, 1, cat(be32(3), be32(44), be32(1), be32(0), be32(1), be32(1000), be32(5), be32(0), be32(0), be32(1), be32(0), be32(2), be32(records)))
		}
		return messageS(1, 0, 1, cat(be32(1), be32(32), be32(1), be32(1), be32(1000), be32(5), be32(0), be32(1), be32(2), be32(records)))
	}
	basic := []int{8, 4, 12, 4, 4, 1}
	for _, tt := range []struct {
		name    string
		packets [][]byte
		records int
		reasons []string // counted at least once
	}{
		{"a record of 65535 bytes", [][]byte{message9(0, 1, oneSet(0, tmpl(256, 4, 1, 99, 65534)), oneSet(256, make([]byte, 100)))}, 0, []string{decode.ReasonDataBad}},
		{"a record of 65536 bytes", [][]byte{message9(0, 1, oneSet(0, tmpl(256, 4, 2, 99, 65534)))}, 0, []string{decode.ReasonTemplateBad}},
		{"lengths whose sum is 1 in 16 bits", [][]byte{message9(0, 1, oneSet(0, tmpl(256, 4, 1, 99, 32768, 99, 32768)))}, 0, []string{decode.ReasonTemplateBad}},
		{"512 fields", [][]byte{message9(0, 1, oneSet(0, tmpl(256, many(512, 4, 1)...)), oneSet(256, make([]byte, 512)))}, 1, nil},
		{"513 fields", [][]byte{message9(0, 1, oneSet(0, tmpl(256, many(513, 4, 1)...)))}, 0, []string{decode.ReasonTemplateBad}},
		{"513 fields cost the templates behind them", [][]byte{message9(0, 1, oneSet(0, cat(tmpl(256, many(513, 4, 1)...), tmpl(257, 4, 1))), oneSet(257, make([]byte, 1)))}, 0, []string{decode.ReasonTemplateUnknown}},
		{"a template of reserved id does not", [][]byte{message9(0, 1, oneSet(0, cat(tmpl(255, 4, 1), tmpl(257, 4, 1))), oneSet(257, make([]byte, 1)))}, 1, []string{decode.ReasonTemplateBad}},
		{"variable length 255 and then 0", [][]byte{message10(0, 1, oneSet(2, tmpl(256, 82, 65535, 4, 1)), oneSet(256, []byte{255, 0, 0, 6}))}, 1, nil},
		{"variable length 255 with its 2 bytes cut", [][]byte{message10(0, 1, oneSet(2, tmpl(256, 82, 65535, 4, 1)), oneSet(256, []byte{255, 0}))}, 0, []string{decode.ReasonRecordTruncated}},
		{"variable length that runs over the end", [][]byte{message10(0, 1, oneSet(2, tmpl(256, 82, 65535, 4, 1)), oneSet(256, []byte{0, 6, 9, 1, 2, 3}))}, 1, []string{decode.ReasonRecordTruncated}},
		{"a record of nothing but empty variable fields", [][]byte{message10(0, 1, oneSet(2, tmpl(256, 82, 65535, 83, 65535)), oneSet(256, make([]byte, 8)))}, 4, nil},
		{"512 variable fields", [][]byte{message10(0, 1, oneSet(2, tmpl(256, many(512, 82, 65535)...)), oneSet(256, make([]byte, 1024)))}, 2, nil},
		{"a number of variable length, then one of fixed", [][]byte{message10(0, 1, oneSet(2, tmpl(256, 2, 65535, 4, 1, 1, 65535)), oneSet(256, []byte{3, 0, 0, 9, 6, 1, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 0}))}, 2, nil},
		{"length 65535 is no variable length in v9", [][]byte{message9(0, 1, oneSet(0, tmpl(256, 82, 65535)), oneSet(256, make([]byte, 100)))}, 0, []string{decode.ReasonDataBad}},
		{"options with scopes only", [][]byte{message10(0, 1, oneSet(3, cat(be16(256), be16(1), be16(1), be16(149), be16(4))), oneSet(256, make([]byte, 8)))}, 0, nil},
		{"options with more scopes than fields", [][]byte{message10(0, 1, oneSet(3, cat(be16(256), be16(1), be16(2), be16(149), be16(4))))}, 0, []string{decode.ReasonTemplateBad}},
		{"options of v9 whose lengths are no multiples of 4", [][]byte{message9(0, 1, oneSet(1, cat(be16(256), be16(3), be16(5), be16(1), be16(4), be16(34), be16(2))))}, 0, []string{decode.ReasonTemplateBad}},
		{"empty sets", [][]byte{message9(0, 1, oneSet(0, nil), oneSet(1, nil), oneSet(0, tmpl(256, basic...)), oneSet(256, nil))}, 0, nil},
		{"sets of length 0 to 3", [][]byte{
			message9(0, 1, be16(256), be16(0), []byte{1}), message9(0, 1, be16(256), be16(1), []byte{1}),
			message10(0, 1, be16(2), be16(2), []byte{1}), message10(0, 1, be16(3), be16(3), []byte{1}),
		}, 0, []string{decode.ReasonSetLength}},
		{"a field of no bytes", [][]byte{message9(0, 1, oneSet(0, tmpl(256, 8, 4, 7, 0, 4, 1)), oneSet(256, make([]byte, 10)))}, 2, nil},
		{"fields of no bytes only", [][]byte{message9(0, 1, oneSet(0, tmpl(256, many(400, 8, 0)...)), oneSet(256, make([]byte, 10)))}, 0, []string{decode.ReasonTemplateBad, decode.ReasonTemplateUnknown}},
		{"IPFIX, bytes behind the message", [][]byte{append(message10(0, 1, oneSet(2, tmpl(256, basic...)), oneSet(256, make([]byte, 9))), oneSet(256, make([]byte, 9))...)}, 1, []string{decode.NoteTrailing}},
		{"IPFIX, a message that ends within its last set", [][]byte{func() []byte {
			b := message10(0, 1, oneSet(2, tmpl(256, basic...)), oneSet(256, make([]byte, 9)))
			b[3] -= 5
			return b
		}()}, 1, []string{decode.NoteTrailing}},
		{"IPFIX, lengths below the header, and over the datagram", [][]byte{
			cat(be16(10), be16(0), make([]byte, 12)), cat(be16(10), be16(15), make([]byte, 12)), cat(be16(10), be16(17), make([]byte, 12)),
		}, 0, []string{decode.ReasonIPFIXLength}},
		{"withdrawal of all among templates", [][]byte{message10(0, 1, oneSet(2, cat(tmpl(256, basic...), be16(2), be16(0), tmpl(257, basic...))), oneSet(257, make([]byte, 9)), oneSet(256, make([]byte, 9)))}, 1, []string{decode.NoteTemplateWithdrawn, decode.ReasonTemplateUnknown}},
		{"withdrawal of what is not known, and of no template at all", [][]byte{message10(0, 1, oneSet(2, cat(be16(999), be16(0), be16(4), be16(0))))}, 0, []string{decode.NoteTemplateWithdrawn, decode.ReasonTemplateBad}},
		{"enterprise number 0", [][]byte{message10(0, 1, oneSet(2, cat(be16(256), be16(2), be16(0x8000|4), be16(1), be32(0), be16(7), be16(2))), oneSet(256, []byte{6, 1, 2}))}, 1, nil},
		{"enterprise number cut off", [][]byte{message10(0, 1, oneSet(2, cat(be16(256), be16(1), be16(0x8000|4), be16(1), be16(0))))}, 0, []string{decode.ReasonTemplateBad}},
		{"ends just believed, and just not", [][]byte{message10(0, 1, oneSet(2, tmpl(256, 151, 4)), oneSet(256, cat(be32(int(genNow/1e9)+300), be32(int(genNow/1e9)+301))))}, 2, []string{decode.NoteTimesClamped}},
		{"v5 of no, of too many and of 65535 records", [][]byte{v5(0, 30), v5(31, 30), v5(65535, 30), v5(2, 1)}, 0, []string{decode.ReasonV5Count}},
		{"v5 of 31 records, and with bytes behind", [][]byte{v5(31, 31), append(v5(1, 1), make([]byte, 47)...)}, 32, []string{decode.NoteTrailing}},
		{"sFlow, 4 billion records", [][]byte{raw(true, 1<<32-1), raw(false, 1<<32-1), raw(true, 1), raw(false, 1)}, 0, []string{decode.ReasonSampleBad}},
		{"sFlow, 4 billion samples", [][]byte{cat(be32(5), be32(1), be32(1), be32(0), be32(1), be32(1000), be32(1<<32-1), sflowSample(1))}, 1, []string{decode.ReasonSampleLength}},
		{"sFlow, agents of no known kind", [][]byte{cat(be32(5), be32(3), make([]byte, 40)), cat(be32(5), be32(1<<32-1), make([]byte, 40))}, 0, []string{decode.ReasonSFlowHeader}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t, tt.name, decode.Config{})
			got := 0
			for _, b := range tt.packets {
				got += len(p.decode(hostileDatagram(b)))
			}
			p.end()
			if got != tt.records {
				t.Errorf("%d records, want %d", got, tt.records)
			}
			for _, r := range tt.reasons {
				if p.counts()[r] == 0 {
					t.Errorf("%s is not counted: %v", r, p.counts())
				}
			}
			for i, b := range tt.packets {
				for n := range len(b) {
					if n > 200 && n < len(b)-200 && n%17 != 0 {
						continue
					}
					cut := newPair(t, tt.name+", cut", decode.Config{})
					cut.decode(hostileDatagram(b[:n]))
					cut.decode(hostileDatagram(tt.packets[(i+1)%len(tt.packets)]))
					cut.end()
				}
			}
		})
	}
}

func hostileDatagram(b []byte) decode.Datagram {
	return decode.Datagram{Exporter: netip.MustParseAddrPort("192.0.2.9:1"), Received: genNow, Payload: b}
}

// TestDiffHeaders are sampled headers that are built to mislead, read by decoder
// and reference with and without the inner packet, whole and cut at each byte.
func TestDiffHeaders(t *testing.T) {
	d := newDice(99)
	mac := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	tcp := cat(be16(4000), be16(22), make([]byte, 8), []byte{0x50, 2}, make([]byte, 6))
	ip4 := func(proto, frag int, options int, body []byte) []byte {
		return cat([]byte{byte(0x45 + options), 0}, be16(20+4*options+len(body)), be16(1), be16(frag), []byte{64, byte(proto)}, be16(0),
			[]byte{192, 0, 2, 1, 198, 51, 100, 1}, make([]byte, 4*options), body)
	}
	ip6 := func(next int, body []byte) []byte {
		return cat([]byte{0x60, 0, 0, 0}, be16(len(body)), []byte{byte(next), 64}, d.bytes(32), body)
	}
	eth := func(typ int, body []byte) []byte { return cat(mac, be16(typ), body) }
	udp := func(port int, body []byte) []byte {
		return cat(be16(50000), be16(port), be16(8+len(body)), be16(0), body)
	}
	vxlan := func(frame []byte) []byte { return udp(4789, cat([]byte{8, 0, 0, 0, 0, 0, 7, 0}, frame)) }
	chain := func(n int, typ byte) []byte {
		b, next := tcp, byte(6)
		for range n {
			b, next = cat([]byte{next, 0}, make([]byte, 6), b), typ
		}
		return ip6(int(next), b)
	}
	nest := func(n int) []byte {
		f := eth(0x0800, ip4(6, 0, 0, tcp))
		for range n {
			f = eth(0x0800, ip4(17, 0, 0, vxlan(f)))
		}
		return f
	}
	tags := func(n int) []byte {
		b := cat(be16(0x0800), ip4(6, 0, 0, tcp))
		for i := range n {
			b = cat(be16(0x8100), be16(i), b)
		}
		return cat(mac, b)
	}
	labels := func(n int, bottom bool) []byte {
		var b []byte
		for i := range n {
			s := byte(0)
			if bottom && i == n-1 {
				s = 1
			}
			b = cat(b, []byte{0, 1, s, 64})
		}
		return eth(0x8847, cat(b, ip4(6, 0, 0, tcp)))
	}
	short := ip4(6, 0, 0, tcp)
	copy(short[2:], be16(22)) // ends within the ports
	for name, h := range map[string][]byte{
		"options cut": eth(0x0800, ip4(6, 0, 10, tcp)), "header length 0": eth(0x0800, append([]byte{0x40}, ip4(6, 0, 0, tcp)[1:]...)),
		"total length before the flags": eth(0x0800, cat(short, make([]byte, 26))),
		"first fragment":                eth(0x0800, ip4(6, 0x2000, 0, tcp)), "second fragment": eth(0x0800, ip4(6, 0x2001, 0, tcp)), "last fragment": eth(0x0800, ip4(17, 100, 0, tcp)),
		"9 extension headers": eth(0x86dd, chain(9, 60)), "10 extension headers": eth(0x86dd, chain(10, 60)), "11 extension headers": eth(0x86dd, chain(11, 0)),
		"ESP and no next": eth(0x86dd, chain(1, 50)), "authentication": eth(0x86dd, chain(2, 51)), "IPv6 first fragment": eth(0x86dd, chain(1, 44)),
		"3 tags": tags(3), "4 tags": tags(4), "5 tags": tags(5),
		"16 labels": labels(16, true), "17 labels": labels(17, true), "labels without end": labels(8, false),
		"VXLAN": nest(1), "VXLAN in VXLAN": nest(2), "VXLAN 4 deep": nest(4), "VXLAN 5 deep": nest(5), "VXLAN 6 deep": nest(6),
		"VXLAN without its flag": eth(0x0800, ip4(17, 0, 0, udp(4789, cat(make([]byte, 8), nest(0))))),
		"GRE":                    eth(0x0800, ip4(47, 0, 0, cat(be16(0), be16(0x0800), ip4(6, 0, 0, tcp)))),
		"GRE with all options":   eth(0x0800, ip4(47, 0, 0, cat(be16(0xb000), be16(0x86dd), make([]byte, 12), chain(0, 6)))),
		"GRE with source routes": eth(0x0800, ip4(47, 0, 0, cat(be16(0x4000), be16(0x0800), make([]byte, 4), ip4(6, 0, 0, tcp)))),
		"GRE says source routes": eth(0x0800, ip4(47, 0, 0, cat(be16(0x4000), be16(0x0800), ip4(6, 0, 0, tcp)))),
		"GRE of version 1":       eth(0x0800, ip4(47, 0, 0, cat(be16(1), be16(0x0800), ip4(6, 0, 0, tcp)))),
		"GRE of PPTP":            eth(0x0800, ip4(47, 0, 0, cat(be16(0x3001), be16(0x880b), make([]byte, 8), ip4(6, 0, 0, tcp)))),
		"GRE within GRE":         eth(0x0800, ip4(47, 0, 0, cat(be16(0), be16(0x0800), ip4(47, 0, 0, cat(be16(0x2000), be16(0x6558), be32(1), nest(1)))))),
		"IPv6 in IPv4":           eth(0x0800, ip4(41, 0, 0, chain(2, 60))), "IPv4 in IPv4, says IPv6": eth(0x0800, ip4(41, 0, 0, ip4(6, 0, 0, tcp))),
	} {
		for _, inner := range []bool{false, true} {
			for n := range len(h) + 1 {
				p := newPair(t, name, decode.Config{Inner: inner})
				body := cat(be32(1), be32(1500), be32(4), be32(n), h[:n], make([]byte, -n&3))
				p.decode(hostileDatagram(messageS(1, 0, 1, cat(be32(1), be32(40+len(body)), be32(1), be32(1), be32(1000), be32(5), be32(0), be32(1), be32(2), be32(1),
					be32(1), be32(len(body)), body))))
				if n > 0 {
					p.decode(hostileDatagram(message10(0, 1, oneSet(2, tmpl(256, 315, n, 312, 2)), oneSet(256, cat(h[:n], be16(1500))))))
				}
				p.end()
			}
		}
	}
}
