package inventory

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// big has n entries: half IPv4 addresses in 198.18.0.0/15, each recycled once
// (two entries), half IPv6 /64.
func big(n int, csv bool) string {
	var b strings.Builder
	if csv {
		b.WriteString("prefix,tenant,vds,hypervisor,macs,contact,language,tags,from,to\n")
	}
	line := func(i int, prefix, from, to string) {
		mac := fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", i>>24, i>>16&255, i>>8&255, i&255)
		if csv {
			fmt.Fprintf(&b, "%s,c-%d,vds-%d,node%d,%s,c%d@example.net,en,new;vip,%s,%s\n", prefix, i, i, i%100, mac, i, from, to)
			return
		}
		fmt.Fprintf(&b, "- {prefix: '%s', tenant: c-%d, vds: vds-%d, hypervisor: node%d, macs: ['%s'], contact: c%d@example.net, language: en, tags: [new, vip], from: %s, to: %s}\n",
			prefix, i, i, i%100, mac, i, from, to)
	}
	base := netip.MustParseAddr("198.18.0.0").As4()
	for i := 0; i < n; i += 4 {
		a := base
		a[1] += byte(i / 4 >> 16 & 1)
		a[2], a[3] = byte(i/4>>8), byte(i/4)
		p := netip.AddrFrom4(a).String() + "/32"
		line(i, p, "", "2026-01-01")
		line(i+1, p, "2026-01-01", "")
		line(i+2, fmt.Sprintf("2001:db8:%x:%x::/64", i>>16, i&0xffff), "", "")
		line(i+3, fmt.Sprintf("2001:db8:%x:%x::/64", i>>16, i&0xffff|1), "", "")
	}
	return b.String()
}

func BenchmarkLoad100k(b *testing.B) {
	for _, name := range []string{"i.csv", "i.yaml"} {
		text := big(100_000, name == "i.csv")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if t := mustParse(b, name, text); t.Len() != 100_000 {
					b.Fatal(t.Len())
				}
			}
		})
	}
}

func BenchmarkHolder100k(b *testing.B) {
	tab := mustParse(b, "i.csv", big(100_000, true))
	now, then := at("2026-03-01T00:00:00Z"), at("2025-03-01T00:00:00Z")
	for _, tc := range []struct {
		name, ip string
		at       time.Time
		want     bool
	}{
		{"v4", "198.18.9.7", now, true},
		{"v4 earlier holder", "198.18.9.7", then, true},
		{"v6", "2001:db8:1:1004::9", now, true},
		{"miss", "203.0.113.9", now, false},
	} {
		ip := netip.MustParseAddr(tc.ip)
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := tab.Holder(ip, tc.at); ok != tc.want {
					b.Fatal(ok)
				}
			}
		})
	}
	wide := mustParse(b, "i.csv", "prefix,tenant,to\n198.18.0.0/15,pool,\n198.18.9.0/24,net,2020-01-01\n198.18.9.7/32,c,2020-01-01\n")
	ip := netip.MustParseAddr("198.18.9.7")
	b.Run("v4 two expired above", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if h, _ := wide.Holder(ip, now); h.Tenant != "pool" {
				b.Fatal(h)
			}
		}
	})
}
