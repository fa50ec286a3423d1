package parse

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// defanged are the ways in which people keep addresses from being clicked.
var defanged = strings.NewReplacer("[.]", ".", "(.)", ".", "{.}", ".", "[dot]", ".", "(dot)", ".", "[DOT]", ".", "[:]", ":", "hxxp", "http", "hXXp", "http",
	"\u00a0", " ", "&gt;", ">", "&lt;", "<", "&quot;", `"`, "→", "->", "\u2212", "-")

// refang undoes them.
func refang(s string) string {
	if !strings.ContainsAny(s, "[({&") && !strings.Contains(s, "xxp") && !strings.Contains(s, "XXp") && !hasHigh(s) {
		return s
	}
	return defanged.Replace(s)
}

func hasHigh(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return true
		}
	}
	return false
}

// found is an endpoint and where it stands in a line.
type found struct {
	Endpoint
	hidden   bool // an address stands here, masked by the reporter
	bad      bool // the shape of an address with a number above 255
	from, to int  // with its port
	addrTo   int  // without
}

var masked = regexp.MustCompile(`^(?:(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(?:[xX]{1,3}|\*{1,3})|(?:[xXyYzZ]{1,3}|\*)(?:\.(?:[xXyYzZ]{1,3}|\*)){3})`)

// findAddrs finds the addresses of a line, from left to right, with the ports
// that stand with them.
func findAddrs(s string) []found {
	var out []found
	for i := 0; i < len(s) && len(out) < maxAddrs; {
		c := s[i]
		if !isHex(c) && c != ':' && c != 'x' && c != 'X' && c != 'y' && c != '*' {
			i++
			continue
		}
		if i > 0 && (isWord(s[i-1]) || s[i-1] == '.' && c != ':' || s[i-1] == ':' && c == ':') {
			i++
			continue
		}
		f, n := addrAt(s, i)
		if n == 0 {
			if end := groups(s, i); end > i {
				i = end
				continue
			}
			i++
			for i < len(s) && (isHex(s[i])) { // the rest of this token cannot begin one
				i++
			}
			continue
		}
		out = append(out, f)
		i = f.to
	}
	return out
}

// groups finds the end of a run of groups with colons that is no address, such
// as a MAC address, so that no part of it is taken for one.
func groups(s string, i int) int {
	j, colons := i, 0
	for j < len(s) && (isHex(s[j]) || s[j] == ':') {
		if s[j] == ':' {
			colons++
		}
		j++
	}
	if colons < 3 || j < len(s) && s[j] == '.' {
		return i
	}
	return j
}

func isHex(c byte) bool  { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
func isWord(c byte) bool { return isDigit(c) || isLetter(c) || c == '_' }

// addrAt reads an address at i; n is 0 where there is none.
func addrAt(s string, i int) (f found, n int) {
	f.from = i
	near := s[i:min(len(s), i+24)]
	if strings.ContainsAny(near, "xXyYzZ*") {
		if m := masked.FindStringSubmatch(near); m != nil {
			return f.hide(s, i, m)
		}
	}
	j := i
	colons, dots := 0, 0
	for j < len(s) && j-i < 64 && (isHex(s[j]) || s[j] == ':' || s[j] == '.') {
		switch s[j] {
		case ':':
			colons++
		case '.':
			dots++
		}
		j++
	}
	if colons >= 2 {
		if n = f.v6(s, i, j); n > 0 {
			f.port(s)
			return f, n
		}
	}
	if dots < 3 {
		return f, 0
	}
	if n = f.v4(s, i); n > 0 {
		f.port(s)
	}
	return f, n
}

// hide takes an address whose last part, or all of it, the reporter masked.
func (f found) hide(s string, i int, m []string) (found, int) {
	n := len(m[0])
	if i+n < len(s) && (isWord(s[i+n]) || s[i+n] == '*') {
		return f, 0
	}
	f.hidden = true
	if m[1] != "" {
		if a, err := netip.ParseAddr(m[1] + "." + m[2] + "." + m[3] + ".0"); err == nil {
			f.Prefix = netip.PrefixFrom(a, 24)
		}
	}
	f.addrTo = i + n
	f.port(s)
	return f, n
}

// v4 reads a dotted quad that is not part of something longer.
func (f *found) v4(s string, i int) int {
	j, parts, big := i, 0, false
	for parts < 4 {
		k := j
		for k < len(s) && isDigit(s[k]) && k-j < 4 {
			k++
		}
		if k == j || k-j > 3 {
			return 0
		}
		if v, _ := strconv.Atoi(s[j:k]); v > 255 {
			big = true
		}
		parts++
		j = k
		if parts < 4 {
			if j >= len(s) || s[j] != '.' {
				return 0
			}
			j++
		}
	}
	if j < len(s) && (isLetter(s[j]) || s[j] == '_') || versionLike.MatchString(s[j:min(len(s), j+16)]) {
		return 0
	}
	text := strings.Split(s[i:j], ".")
	var b [4]byte
	for k, t := range text {
		v, _ := strconv.Atoi(t) // three digits at most
		b[k] = byte(v)
	}
	f.bad = big
	if !big {
		f.Addr = netip.AddrFrom4(b) // leading zeros are decimal in logs that have them
	}
	f.addrTo = j
	return j - i
}

// v6 reads an IPv6 address that is the whole of s[i:j], but for what ends a
// sentence, and for tcpdump's port behind a dot. Part of a longer run of groups
// is none: a MAC address of the kernel's firewall has fourteen.
func (f *found) v6(s string, i, j int) int {
	for j > i && (s[j-1] == '.' || s[j-1] == ':' && !strings.HasSuffix(s[i:j], "::")) {
		j--
	}
	if j < len(s) && isWord(s[j]) || strings.Trim(s[i:j], ":.0") == "" {
		return 0
	}
	a, err := netip.ParseAddr(s[i:j])
	if k := i + strings.LastIndexByte(s[i:j], '.'); err != nil && k > i && strings.Count(s[i:j], ".") == 1 {
		a, err = netip.ParseAddr(s[i:k])
		j = k
	}
	if err != nil {
		return 0
	}
	f.Addr, f.addrTo = a.Unmap().WithZone(""), j
	return j - i
}

// versionLike are two more numbers: no address and port, but a version.
var versionLike = regexp.MustCompile(`^\.\d{1,5}\.\d`)

var behindPort = regexp.MustCompile(`^(?:\]?[:#](\d{1,5})|\]?\s?\((\d{1,5})\)|\]? (?:port|порт) ?(\d{1,5})(?::\d{1,2}:)?|\.(\d{1,5}))(?:$|[^\d.:/]|[.:](?:$|\D))`)

// port reads the port, or the length of a network, that stands with the address.
func (f *found) port(s string) {
	f.to = f.addrTo
	rest := s[f.addrTo:min(len(s), f.addrTo+24)]
	if rest == "" {
		return
	}
	if rest[0] == '/' {
		p := scanner{rest, 1}
		n, ok := p.number(1, 5)
		if !ok || isLetter(p.peek()) || p.peek() == '.' && isDigit(p.at(1)) {
			return
		}
		f.to = f.addrTo + p.i
		f.slash(n)
		return
	}
	m := behindPort.FindStringSubmatch(rest)
	if m == nil {
		return
	}
	for _, g := range m[1:] {
		if g == "" {
			continue
		}
		if g == m[4] && m[4] != "" && f.Addr.IsValid() && f.Addr.Is6() && f.addrTo > 0 && s[f.addrTo] != '.' {
			return
		}
		if n, _ := strconv.Atoi(g); n <= 65535 {
			f.Port = uint16(n)
			f.to = f.addrTo + strings.Index(rest, g) + len(g)
			if f.to < len(s) && s[f.to] == ')' {
				f.to++
			}
		}
		return
	}
}

// slash is what stands behind a slash: the length of a network if the address
// has nothing behind that many bits, else a port.
func (f *found) slash(n int) {
	if f.Addr.IsValid() && n <= f.Addr.BitLen() {
		p := netip.PrefixFrom(f.Addr, n)
		if p == p.Masked() && n < f.Addr.BitLen() && n >= 8 {
			f.Prefix, f.Addr = p, netip.Addr{}
			return
		}
		if n == f.Addr.BitLen() {
			return
		}
	}
	if n <= 65535 {
		f.Port = uint16(n)
	}
}

// parseEndpoint reads a field that holds an address, maybe with a port, and
// nothing else.
func parseEndpoint(s string) (found, bool) {
	s = strings.Trim(strings.TrimSpace(s), `"'`)
	s = refang(s)
	if len(s) > 80 {
		return found{}, false
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return found{Endpoint: Endpoint{Addr: a.Unmap().WithZone("")}, to: len(s)}, true
	}
	l := findAddrs(s)
	if len(l) != 1 || strings.Trim(s[:l[0].from]+s[l[0].to:], "[]:/ ") != "" {
		return found{}, false
	}
	return l[0], true
}
