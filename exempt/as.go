package exempt

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/gaissmai/bart"
)

// maxASFile: the whole routing table of both families takes 30 MB.
const maxASFile = 256 << 20

// LoadAS reads a table of AS numbers: a line for each prefix, as "203.0.113.0/24
// 64500", with a tab, a blank or a comma between, or as "203.0.113.0 24 64500",
// which is CAIDA's form. Of several origins (64500_64501 or 64500,64501) the first
// counts. Lines that begin with # are left out; the error names the first that is wrong.
func LoadAS(path string) (ASOf, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	of, err := readAS(io.LimitReader(f, maxASFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return of, nil
}

func readAS(r io.Reader) (ASOf, error) {
	var t bart.Table[uint32]
	sc := bufio.NewScanner(r)
	for line := 1; sc.Scan(); line++ {
		text := strings.TrimSpace(sc.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		p, as, err := asLine(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w; write for example 203.0.113.0/24 64500", line, err)
		}
		t.Insert(p, as)
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if t.Size() == 0 {
		return nil, fmt.Errorf("holds no prefix; write lines such as 203.0.113.0/24 64500")
	}
	return func(a netip.Addr) (uint32, bool) { return t.Lookup(a.Unmap()) }, nil
}

func asLine(text string) (netip.Prefix, uint32, error) {
	f := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
	if len(f) >= 3 && !strings.Contains(f[0], "/") {
		f = append([]string{f[0] + "/" + f[1]}, f[2:]...)
	}
	if len(f) < 2 {
		return netip.Prefix{}, 0, fmt.Errorf("%.60q is no prefix and AS", text)
	}
	p, err := netip.ParsePrefix(f[0])
	if err != nil {
		return p, 0, err
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(strings.ToUpper(f[1]), "AS"), "_")
	as, err := strconv.ParseUint(first, 10, 32)
	if err != nil {
		return p, 0, fmt.Errorf("%.20q is no AS number", f[1])
	}
	return p.Masked(), uint32(as), nil
}
