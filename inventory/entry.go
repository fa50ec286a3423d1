package inventory

import (
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/flowcordon/flowcordon/flow"
)

// field is one key of an entry, the same in YAML and CSV.
type field uint8

const (
	fPrefix field = iota
	fIP
	fTenant
	fVDS
	fHypervisor
	fMACs
	fContact
	fLanguage
	fTags
	fFrom
	fTo
	numFields
)

var fieldNames = [numFields]string{"prefix", "ip", "tenant", "vds", "hypervisor", "macs", "contact", "language", "tags", "from", "to"}

// fieldByName finds a key; exact, because a near miss ("mac") would otherwise
// lose data in silence.
func fieldByName(name string) (field, bool) {
	for f, n := range fieldNames {
		if n == name {
			return field(f), true
		}
	}
	return 0, false
}

func knownFields() string { return strings.Join(fieldNames[:], ", ") }

// raw is an entry as the file has it.
type raw struct {
	line  int
	lines [numFields]int // line of the value; 0 where the key is absent
	text  [numFields]string
	macs  []string
	tags  []string
}

// checker turns raw entries into holders and gathers what is wrong.
type checker struct {
	file   string
	issues Issues
	intern map[string]string // hypervisors, languages and tags repeat in every line
}

func (c *checker) add(line int, f, problem, fix string) {
	c.issues = append(c.issues, Issue{File: c.file, Line: line, Field: f, Problem: problem, Fix: fix})
}

func (c *checker) bad(r *raw, f field, problem, fix string) {
	line := r.lines[f]
	if line == 0 {
		line = r.line
	}
	c.add(line, fieldNames[f], problem, fix)
}

func (c *checker) same(s string) string {
	if v, ok := c.intern[s]; ok {
		return v
	}
	s = strings.Clone(s)
	c.intern[s] = s
	return s
}

// check gives the holder of r, and whether it had no error.
func (c *checker) check(r *raw) (flow.Holder, bool) {
	before := len(c.issues)
	h := flow.Holder{
		Prefix:     c.prefix(r),
		Tenant:     c.name(r, fTenant),
		VDS:        c.name(r, fVDS),
		Hypervisor: c.same(c.name(r, fHypervisor)),
		NICs:       c.macs(r),
		Contact:    c.contact(r),
		Language:   c.language(r),
		Tags:       c.tags(r),
		From:       c.time(r, fFrom),
		To:         c.time(r, fTo),
	}
	if r.text[fTenant] == "" {
		c.bad(r, fTenant, "is missing", "write the customer's id, for example tenant: c-42")
	}
	if !h.From.IsZero() && !h.To.IsZero() && !h.From.Before(h.To) {
		c.bad(r, fTo, fmt.Sprintf("%s is not after from %s, so the entry is never valid", r.text[fTo], r.text[fFrom]),
			"write a later time; to itself is the first moment that no longer belongs to the entry")
	}
	if len(c.issues) > before {
		return flow.Holder{}, false
	}
	return h, true
}

func (c *checker) prefix(r *raw) netip.Prefix {
	f, s := fPrefix, r.text[fPrefix]
	switch {
	case s != "" && r.text[fIP] != "":
		c.bad(r, fIP, "stands beside prefix", "write one of the two")
		return netip.Prefix{}
	case s == "" && r.text[fIP] == "":
		c.bad(r, fPrefix, "is missing", "write prefix: 198.18.0.0/29 or ip: 198.18.0.7")
		return netip.Prefix{}
	case s == "":
		f, s = fIP, r.text[fIP]
	}
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			c.bad(r, f, fmt.Sprintf("%q is not an address", s), "write an IPv4 or IPv6 address such as 198.18.0.7 or 2001:db8::7")
			return netip.Prefix{}
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		c.bad(r, f, fmt.Sprintf("%q is not a prefix", s), "write address/length such as 198.18.0.0/29 or 2001:db8:0:1::/64")
		return netip.Prefix{}
	}
	if p.Addr().Is4In6() {
		c.bad(r, f, fmt.Sprintf("%q is an IPv4 address mapped into IPv6", s), "write it as IPv4, for example 198.18.0.7/32")
		return netip.Prefix{}
	}
	if f == fIP && p.Bits() != p.Addr().BitLen() {
		c.bad(r, f, fmt.Sprintf("%q is a prefix", s), "write prefix: "+p.Masked().String())
		return netip.Prefix{}
	}
	if p != p.Masked() {
		c.bad(r, f, fmt.Sprintf("%q has bits set behind its length", s),
			fmt.Sprintf("write %s for the network or %s for the one address", p.Masked(), netip.PrefixFrom(p.Addr(), p.Addr().BitLen())))
		return netip.Prefix{}
	}
	if p.Bits() == 0 {
		c.bad(r, f, fmt.Sprintf("%q is the whole Internet", s), "write your own prefix")
		return netip.Prefix{}
	}
	return p
}

// name checks a text that ends up in logs, tickets and mail headers: a line
// break in it would be a header of its own.
func (c *checker) name(r *raw, f field) string {
	s := r.text[f]
	if why := unfit(s); why != "" {
		c.bad(r, f, why, fmt.Sprintf("write at most %d printable characters on one line", maxText))
		return ""
	}
	return s
}

func unfit(s string) string {
	if len(s) > maxText {
		return fmt.Sprintf("is %d bytes long", len(s))
	}
	if !utf8.ValidString(s) {
		return "is not UTF-8"
	}
	for _, ch := range s {
		if !unicode.IsPrint(ch) {
			return fmt.Sprintf("contains the control character %U", ch)
		}
	}
	return ""
}

func (c *checker) macs(r *raw) []string {
	if len(r.macs) > maxList {
		c.bad(r, fMACs, fmt.Sprintf("has %d addresses", len(r.macs)), fmt.Sprintf("write at most %d: those that own this prefix", maxList))
		return nil
	}
	var out []string
	for _, s := range r.macs {
		hw, err := net.ParseMAC(s)
		switch {
		case err != nil || len(hw) != 6:
			c.bad(r, fMACs, fmt.Sprintf("%q is not a MAC address", s), "write six pairs such as 52:54:00:aa:10:01")
			continue
		case hw[0]&1 != 0 || string(hw) == "\x00\x00\x00\x00\x00\x00":
			c.bad(r, fMACs, fmt.Sprintf("%q is no single interface's address", s), "write the MAC of the VDS's NIC")
			continue
		}
		m := hw.String()
		for _, have := range out {
			if have == m {
				c.bad(r, fMACs, fmt.Sprintf("%q stands there twice", s), "write it once")
			}
		}
		out = append(out, m)
	}
	return out
}

func (c *checker) contact(r *raw) string {
	s := r.text[fContact]
	if s == "" {
		return ""
	}
	// Only the bare form: "Name <a@b>" would be accepted by the parser, and the
	// mailer would then quote it differently than it was written.
	if a, err := mail.ParseAddress(s); err != nil || a.Address != s || unfit(s) != "" {
		c.bad(r, fContact, fmt.Sprintf("%q is not a mail address", s), "write one address such as abuse@example.net")
		return ""
	}
	return s
}

func (c *checker) language(r *raw) string {
	switch s := r.text[fLanguage]; s {
	case "", "en", "ru":
		return c.same(s)
	default:
		c.bad(r, fLanguage, fmt.Sprintf("%q is not a language we write in", s), "write en or ru, or leave it out")
		return ""
	}
}

func (c *checker) tags(r *raw) []string {
	if len(r.tags) > maxList {
		c.bad(r, fTags, fmt.Sprintf("has %d tags", len(r.tags)), fmt.Sprintf("write at most %d", maxList))
		return nil
	}
	var out []string
	for _, t := range r.tags {
		if why := unfit(t); why != "" || strings.ContainsAny(t, " ,;") {
			c.bad(r, fTags, fmt.Sprintf("%q is not a tag", t), "write single words such as new or vip")
			continue
		}
		out = append(out, c.same(t))
	}
	return out
}

// time reads RFC 3339 or a date, which is its midnight in UTC.
func (c *checker) time(r *raw, f field) time.Time {
	s := r.text[f]
	if s == "" {
		return time.Time{}
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && !t.IsZero() {
			return t.UTC()
		}
	}
	c.bad(r, f, fmt.Sprintf("%q is not a time", s), "write 2026-01-31 (midnight UTC) or 2026-01-31T15:04:05Z, or leave it out")
	return time.Time{}
}
