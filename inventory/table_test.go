package inventory

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowcordon/flowcordon/flow"
)

func mustParse(t testing.TB, name, text string) *Table {
	t.Helper()
	tab, err := Parse(name, strings.NewReader(text))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return tab
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

const sample = `
# who holds what
- {prefix: 198.18.0.0/24, tenant: pool, hypervisor: node1}
- prefix: 198.18.0.7/32
  tenant: c-1
  vds: vds-1
  to: 2026-03-01
- prefix: 198.18.0.7/32
  tenant: c-2
  vds: vds-2
  from: 2026-03-01
  to: 2026-04-01T12:00:00+03:00
- {ip: 198.18.0.8, tenant: c-3, vds: vds-3, macs: [52-54-00-AA-10-01], contact: a@example.net, language: ru, tags: [new, vip], from: 2026-03-01}
- {prefix: "2001:db8:0:100::/56", tenant: c-4, vds: vds-4}
- {prefix: "2001:db8:0:107::/64", tenant: c-5, vds: vds-5, from: 2026-03-01}
- {prefix: "2001:db8:0:107::5/128", tenant: c-6, vds: vds-6, from: 2026-05-01}
`

func TestHolder(t *testing.T) {
	tab := mustParse(t, "i.yaml", sample)
	if tab.Len() != 7 {
		t.Fatalf("Len = %d, want 7", tab.Len())
	}
	for _, tc := range []struct{ name, ip, at, want string }{
		{"wider prefix", "198.18.0.1", "2026-03-15T00:00:00Z", "pool"},
		{"more specific wins", "198.18.0.8", "2026-03-15T00:00:00Z", "c-3"},
		{"just before from", "198.18.0.8", "2026-02-28T23:59:59.999999999Z", "pool"},
		{"exactly at from", "198.18.0.8", "2026-03-01T00:00:00Z", "c-3"},
		{"recycled: last moment of the first holder", "198.18.0.7", "2026-02-28T23:59:59.999999999Z", "c-1"},
		{"recycled: exactly at the change", "198.18.0.7", "2026-03-01T00:00:00Z", "c-2"},
		{"zone of to is respected: just before", "198.18.0.7", "2026-04-01T08:59:59.999999999Z", "c-2"},
		{"expired entry does not hide the wider one", "198.18.0.7", "2026-04-01T09:00:00Z", "pool"},
		{"moment in another zone", "198.18.0.7", "2026-03-01T02:59:59+03:00", "c-1"},
		{"mapped address", "::ffff:198.18.0.8", "2026-03-15T00:00:00Z", "c-3"},
		{"outside", "198.18.1.8", "2026-03-15T00:00:00Z", ""},
		{"v6 /56", "2001:db8:0:1ff::9", "2026-03-15T00:00:00Z", "c-4"},
		{"v6 /64 inside the /56", "2001:db8:0:107::9", "2026-03-15T00:00:00Z", "c-5"},
		{"v6 /64 not yet valid", "2001:db8:0:107::9", "2026-02-15T00:00:00Z", "c-4"},
		{"v6 /128 not yet valid", "2001:db8:0:107::5", "2026-03-15T00:00:00Z", "c-5"},
		{"v6 two levels not yet valid", "2001:db8:0:107::5", "2026-02-15T00:00:00Z", "c-4"},
		{"v6 next /56", "2001:db8:0:200::1", "2026-03-15T00:00:00Z", ""},
		{"zone is no part of the address", "2001:db8:0:107::9%eth0", "2026-03-15T00:00:00Z", "c-5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, ok := tab.Holder(netip.MustParseAddr(tc.ip), at(tc.at))
			if h.Tenant != tc.want || ok != (tc.want != "") {
				t.Errorf("Holder(%s, %s) = %q, %v; want %q", tc.ip, tc.at, h.Tenant, ok, tc.want)
			}
		})
	}
	if h, ok := tab.Holder(netip.Addr{}, at("2026-03-15T00:00:00Z")); ok {
		t.Errorf("the invalid address is held by %q", h.Tenant)
	}
}

func TestHolderHasAllFields(t *testing.T) {
	tab := mustParse(t, "i.yaml", sample)
	got, _ := tab.Holder(netip.MustParseAddr("198.18.0.8"), at("2026-03-15T00:00:00Z"))
	want := flow.Holder{Prefix: netip.MustParsePrefix("198.18.0.8/32"), Tenant: "c-3", VDS: "vds-3",
		NICs: []string{"52:54:00:aa:10:01"}, Contact: "a@example.net", Language: "ru", Tags: []string{"new", "vip"},
		From: at("2026-03-01T00:00:00Z")}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("holder (-want +got):\n%s", diff)
	}
}

// The two formats say the same: each entry of one is found through the other.
func TestCSVEqualsYAML(t *testing.T) {
	const asCSV = "\ufeffvds,tenant,prefix,ip,macs,tags,contact,language,from,to,hypervisor\n" +
		",pool,198.18.0.0/24,,,,,,,,node1\n" +
		"vds-1,c-1,198.18.0.7/32,,,,,,,2026-03-01,\n" +
		"vds-2,c-2,198.18.0.7/32,,,,,,2026-03-01,2026-04-01T12:00:00+03:00,\n" +
		"# a comment\n\n" +
		"vds-3,c-3,,198.18.0.8,52:54:00:aa:10:01,new;vip,a@example.net,ru,2026-03-01,,\n" +
		"vds-4,c-4,2001:db8:0:100::/56,,,,,,,,\n" +
		"vds-5,c-5,2001:db8:0:107::/64,,,,,,2026-03-01,,\n" +
		"vds-6,\"c-6\",2001:db8:0:107::5/128,,, ,,,2026-05-01,,\n"
	y, c := dump(mustParse(t, "i.yaml", sample)), dump(mustParse(t, "i.csv", asCSV))
	if diff := cmp.Diff(y, c, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("CSV differs (-yaml +csv):\n%s", diff)
	}
}

func dump(t *Table) map[netip.Prefix][]flow.Holder {
	out := map[netip.Prefix][]flow.Holder{}
	for p, es := range t.byPrefix.All() {
		for _, e := range es {
			out[p] = append(out[p], *e.h)
		}
	}
	return out
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct {
		name, file, text string
		want             []string // each a part of one line, in order; no more, no fewer
	}{
		{"all at once", "i.yaml", "- {prefix: 198.18.0.7/24, tenant: a}\n- {ip: nonsense, tenant: b}\n- {ip: 198.18.0.9}\n", []string{
			`i.yaml:1: prefix: "198.18.0.7/24" has bits set behind its length; write 198.18.0.0/24 for the network or 198.18.0.7/32`,
			`i.yaml:2: ip: "nonsense" is not an address; write an IPv4`,
			`i.yaml:3: tenant: is missing; write the customer's id`}},
		{"several in one entry", "i.yaml", "- prefix: 198.18.0.7/32\n  tenant: a\n  macs: [zz, 01:00:5e:00:00:01]\n  language: de\n  contact: A <a@b>\n  from: yesterday\n", []string{
			`:3: macs: "zz" is not a MAC`, `:3: macs: "01:00:5e:00:00:01" is no single`, `:4: language: "de"`, `:5: contact: "A <a@b>"`, `:6: from: "yesterday" is not a time; write 2026-01-31`}},
		{"unknown key", "i.yaml", "- {prefix: 198.18.0.7/32, tenant: a, mac: x}\n", []string{`:1: mac: is not a key of an entry; write one of prefix, ip, tenant`}},
		{"unknown key with line breaks", "i.yaml", "- {prefix: 198.18.0.7/32, tenant: a, \"x\\ny\": x}\n", []string{`:1: "x\ny": is not a key`}},
		{"merge key", "i.yaml", "- &a {prefix: 198.18.0.7/32, tenant: a}\n- {<<: *a, vds: v}\n", []string{`:1: anchors and aliases`, `:2: <<: is not a key`}},
		{"alias as entry", "i.yaml", "- &a {prefix: 198.18.0.7/32, tenant: a}\n- *a\n", []string{`:1: anchors`, `:2: this item is not an entry`}},
		{"key twice", "i.yaml", "- {prefix: 198.18.0.7/32, tenant: a, tenant: b}\n", []string{`:1: tenant: stands there twice`}},
		{"nested value", "i.yaml", "- {prefix: 198.18.0.7/32, tenant: {a: b}}\n", []string{`:1: tenant: is not a plain value`}},
		{"nested list", "i.yaml", "- {prefix: 198.18.0.7/32, tenant: a, macs: [[x]]}\n", []string{`:1: macs: is not a list`}},
		{"not a list", "i.yaml", "entries: []\n", []string{`:1: is not a list; write a list of entries`}},
		{"not YAML", "i.yaml", "- {prefix: 198.18.0.7/32\n- x: [", []string{`i.yaml:1: is not YAML: `}},
		{"empty YAML", "i.yaml", "", []string{`i.yaml: is empty; write a list`}},
		{"two documents", "i.yaml", "[]\n---\n[]\n", []string{`more than one document`}},
		{"both", "i.yaml", "- {prefix: 198.18.0.7/32, ip: 198.18.0.7, tenant: a}\n", []string{`:1: ip: stands beside prefix; write one of the two`}},
		{"neither", "i.yaml", "- {tenant: a}\n", []string{`:1: prefix: is missing; write prefix: 198.18.0.0/29 or ip:`}},
		{"prefix as ip", "i.yaml", "- {ip: 198.18.0.0/24, tenant: a}\n", []string{`:1: ip: "198.18.0.0/24" is a prefix; write prefix: 198.18.0.0/24`}},
		{"mapped", "i.yaml", "- {prefix: '::ffff:198.18.0.0/120', tenant: a}\n", []string{`mapped into IPv6; write it as IPv4`}},
		{"whole Internet", "i.yaml", "- {prefix: 0.0.0.0/0, tenant: a}\n", []string{`whole Internet`}},
		{"zone", "i.yaml", "- {ip: 'fe80::1%eth0', tenant: a}\n", []string{`is not an address`}},
		{"header injection", "i.yaml", "- {ip: 198.18.0.7, tenant: \"a\\r\\nBcc: x\"}\n", []string{`tenant: contains the control character U+000D; write at most 200 printable`}},
		{"long name", "i.yaml", "- {ip: 198.18.0.7, tenant: a, vds: " + strings.Repeat("v", 201) + "}\n", []string{`vds: is 201 bytes long`}},
		{"to equals from", "i.yaml", "- {ip: 198.18.0.7, tenant: a, from: 2026-01-01, to: 2026-01-01}\n", []string{`to: 2026-01-01 is not after from 2026-01-01`}},
		{"duplicate", "i.yaml", "- {ip: 198.18.0.7, tenant: a}\n- {prefix: 198.18.0.7/32, tenant: b}\n", []string{`i.yaml:2: prefix: 198.18.0.7/32 stands in line 1 already`}},
		{"overlap by a second", "i.yaml", "- {ip: 198.18.0.7, tenant: a, from: '2026-01-31T23:59:59Z'}\n- {ip: 198.18.0.7, tenant: b, to: 2026-02-01}\n",
			[]string{`i.yaml:2: prefix: 198.18.0.7/32 is held by the entry of line 1 at the same time (2026-01-31T23:59:59Z to now on and always to 2026-02-01T00:00:00Z); end one of lines 1 and 2`}},
		{"overlap behind a short one", "i.yaml", "- {ip: 198.18.0.7, tenant: a, from: 2026-01-01, to: 2026-12-01}\n- {ip: 198.18.0.7, tenant: b, from: 2026-02-01, to: 2026-02-02}\n- {ip: 198.18.0.7, tenant: c, from: 2026-03-01}\n",
			[]string{`i.yaml:2: prefix: 198.18.0.7/32 is held by the entry of line 1`, `i.yaml:3: prefix: 198.18.0.7/32 is held by the entry of line 1`}},
		{"format", "i.json", "[]", []string{`i.json: the format is not known from the name; call it .yaml or .csv`}},

		{"CSV unknown column", "i.csv", "prefix,tenant,mac\n", []string{`i.csv:1: mac: is not a column of the inventory; write one of`}},
		{"CSV column twice", "i.csv", "prefix,tenant,tenant\n", []string{`:1: tenant: stands in the header twice`}},
		{"CSV semicolons", "i.csv", "prefix;tenant;vds\n", []string{`:1: columns are not separated by commas`}},
		{"CSV without prefix", "i.csv", "tenant,vds\n", []string{`:1: the header has neither prefix nor ip`}},
		{"CSV columns", "i.csv", "prefix,tenant\n198.18.0.7/32\n198.18.0.8/32,b,c\n", []string{`:2: has 1 columns, the header has 2`, `:3: has 3 columns`}},
		{"CSV quote", "i.csv", "prefix,tenant\n198.18.0.300,a\n198.18.0.8/32,\"b\"c\n", []string{`:2: prefix: "198.18.0.300"`, `:3: is not CSV`}},
		{"CSV empty", "i.csv", "", []string{`i.csv: is empty; begin with a header`}},
		{"CSV line after a quoted line break", "i.csv", "prefix,tenant\n198.18.0.7/32,\"a\nb\"\n198.18.0.8/32,\n", []string{`:2: tenant: contains the control`, `:4: tenant: is missing`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(tc.file, strings.NewReader(tc.text))
			var is Issues
			if !errors.As(err, &is) {
				t.Fatalf("error is %T (%v), want Issues", err, err)
			}
			if len(is) != len(tc.want) {
				t.Fatalf("%d issues, want %d:\n%v", len(is), len(tc.want), err)
			}
			for i, want := range tc.want {
				if got := is[i].String(); !strings.Contains(got, want) || strings.Contains(got, "\n") {
					t.Errorf("issue %d = %q, want it to contain %q", i, got, want)
				}
				if is[i].Fix == "" {
					t.Errorf("issue %d does not say what to write: %q", i, is[i])
				}
			}
		})
	}
}

func TestErrorIsBounded(t *testing.T) {
	_, err := Parse("i.csv", strings.NewReader("prefix,tenant\n"+strings.Repeat("x,y\n", 1000)))
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxShown+1 || lines[maxShown] != "and 800 more errors" {
		t.Errorf("%d lines, last %q", len(lines), lines[len(lines)-1])
	}
}

func TestAcceptedOddities(t *testing.T) {
	for _, tc := range []struct{ name, file, text, ip, want string }{
		{"empty list", "i.yaml", "[]\n", "198.18.0.7", ""},
		{"header only", "i.csv", "prefix,tenant\n", "198.18.0.7", ""},
		{"bare address as prefix", "i.yml", "- {prefix: 198.18.0.7, tenant: a}\n", "198.18.0.7", "a"},
		{"full length as ip", "i.yaml", "- {ip: 198.18.0.7/32, tenant: a}\n", "198.18.0.7", "a"},
		{"mapped ip", "i.yaml", "- {ip: '::ffff:198.18.0.7', tenant: a}\n", "198.18.0.7", "a"},
		{"null is absent", "i.yaml", "- {ip: 198.18.0.7, tenant: a, vds: ~, macs: , to: null}\n", "198.18.0.7", "a"},
		{"numbers and booleans stay text", "i.yaml", "- {ip: 198.18.0.7, tenant: 0042, vds: yes}\n", "198.18.0.7", "0042"},
		{"sexagesimal-looking MAC", "i.yaml", "- {ip: 198.18.0.7, tenant: a, macs: 52:54:00:12:10:01}\n", "198.18.0.7", "a"},
		{"upper case header, CRLF", "i.csv", "IP,Tenant\r\n198.18.0.7,a\r\n", "198.18.0.7", "a"},
		{"touching intervals", "i.yaml", "- {ip: 198.18.0.7, tenant: a, to: 2026-02-01}\n- {ip: 198.18.0.7, tenant: b, from: 2026-02-01}\n", "198.18.0.7", "b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, _ := mustParse(t, tc.file, tc.text).Holder(netip.MustParseAddr(tc.ip), at("2026-03-01T00:00:00Z"))
			if h.Tenant != tc.want {
				t.Errorf("tenant %q, want %q", h.Tenant, tc.want)
			}
		})
	}
}

func TestMACWarnings(t *testing.T) {
	const m = "macs: [52:54:00:aa:10:01]"
	for _, tc := range []struct{ name, text, want string }{
		{"two VDS at once", "- {ip: 198.18.0.7, tenant: a, vds: v1, " + m + "}\n- {ip: 198.18.0.8, tenant: a, vds: v2, " + m + "}\n",
			"i.yaml:2: macs: 52:54:00:aa:10:01 belongs to v2 here and to v1 in line 1 at the same time"},
		{"one VDS with two addresses", "- {ip: 198.18.0.7, tenant: a, vds: v1, " + m + "}\n- {ip: '2001:db8::7', tenant: a, vds: v1, " + m + "}\n", ""},
		{"one after the other", "- {ip: 198.18.0.7, tenant: a, vds: v1, to: 2026-02-01, " + m + "}\n- {ip: 198.18.0.8, tenant: b, vds: v2, from: 2026-02-01, " + m + "}\n", ""},
		{"one day too long", "- {ip: 198.18.0.7, tenant: a, vds: v1, to: 2026-02-02, " + m + "}\n- {ip: 198.18.0.8, tenant: b, vds: v2, from: 2026-02-01, " + m + "}\n", "at the same time"},
		{"hidden behind the own shorter entry", "- {ip: 198.18.0.7, tenant: a, vds: v1, from: 2026-01-01, to: 2026-12-01, " + m + "}\n" +
			"- {ip: 198.18.0.8, tenant: a, vds: v1, from: 2026-02-01, to: 2026-03-01, " + m + "}\n" +
			"- {ip: 198.18.0.9, tenant: b, vds: v2, from: 2026-06-01, " + m + "}\n", "i.yaml:3: macs: 52:54:00:aa:10:01 belongs to v2 here and to v1 in line 1"},
		{"returned to the first after a swap", "- {ip: 198.18.0.7, tenant: a, vds: v1, to: 2026-01-01, " + m + "}\n" +
			"- {ip: 198.18.0.8, tenant: b, vds: v2, from: 2026-01-01, to: 2026-03-01, " + m + "}\n" +
			"- {ip: 198.18.0.9, tenant: a, vds: v1, from: 2026-02-01, " + m + "}\n", "i.yaml:3: macs: 52:54:00:aa:10:01 belongs to v1 here and to v2 in line 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := mustParse(t, "i.yaml", tc.text).Warnings()
			switch {
			case tc.want == "" && len(w) > 0:
				t.Errorf("unexpected warning %q", w[0])
			case tc.want != "" && (len(w) != 1 || !strings.Contains(w[0].String(), tc.want)):
				t.Errorf("warnings %v, want one with %q", w, tc.want)
			}
		})
	}
}
