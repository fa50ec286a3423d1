package httpjson

import (
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/mail"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/flowcordon/flowcordon/inventory/discover"
)

const (
	knownKeys = "prefix, prefixes, ip, ips, tenant, vds, hypervisor, mac, contact, language, tags, valid_from, valid_to"
	// maxText bounds a name or a tag, as in the inventory's file: they travel
	// into ticket subjects.
	maxText = 200
	maxList = 1024 // of one entry's prefixes or tags
)

// entry makes an Entry of an object that the expression yielded.
func entry(v any) (discover.Entry, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return discover.Entry{}, fmt.Errorf("%.60s is not an object; let the expression yield {ip: …, tenant: …}", show(v))
	}
	var e discover.Entry
	var errs []error
	for _, k := range sorted(m) {
		if m[k] == nil {
			continue // jq gives null for what the source lacks
		}
		if err := set(&e, k, m[k]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k, err))
		}
	}
	if len(errs) > 0 {
		return discover.Entry{}, errors.Join(errs...)
	}
	if len(e.Prefixes) == 0 {
		return discover.Entry{}, errors.New("ip: missing; every entry needs an address or a prefix")
	}
	if e.Tenant == "" && e.VDS == "" {
		return discover.Entry{}, errors.New("tenant, vds: both missing; whose address is it?")
	}
	if !e.ValidFrom.IsZero() && !e.ValidTo.IsZero() && !e.ValidFrom.Before(e.ValidTo) {
		return discover.Entry{}, errors.New("valid_to: is not after valid_from")
	}
	return e, nil
}

func set(e *discover.Entry, key string, v any) (err error) {
	switch key {
	case "prefix", "prefixes", "ip", "ips":
		var list []string
		if list, err = texts(v); err != nil {
			return err
		}
		for _, s := range list {
			p, err := parsePrefix(s)
			if err != nil {
				return err
			}
			if !slices.Contains(e.Prefixes, p) {
				e.Prefixes = append(e.Prefixes, p)
			}
		}
	case "tenant":
		e.Tenant, err = text(v)
	case "vds":
		e.VDS, err = text(v)
	case "hypervisor":
		e.Hypervisor, err = text(v)
	case "mac":
		e.MAC, err = mac(v)
	case "contact":
		if e.Contact, err = text(v); err == nil && e.Contact != "" {
			if a, perr := mail.ParseAddress(e.Contact); perr != nil || a.Address != e.Contact {
				err = fmt.Errorf("%.80q is not a mail address", e.Contact)
			}
		}
	case "language":
		if e.Language, err = text(v); err == nil && e.Language != "" && e.Language != "en" && e.Language != "ru" {
			err = fmt.Errorf("%.20q is not a language we write in; en or ru", e.Language)
		}
	case "tags":
		e.Tags, err = texts(v)
		for _, t := range e.Tags {
			if t == "" || strings.ContainsAny(t, " ,;") {
				err = fmt.Errorf("%.80q is not a tag; single words", t)
			}
		}
	case "valid_from":
		e.ValidFrom, err = moment(v)
	case "valid_to":
		e.ValidTo, err = moment(v)
	default:
		err = fmt.Errorf("is no key of an entry; the keys are %s", knownKeys)
	}
	return err
}

// parsePrefix reads an address or a prefix. Panels write the length of the
// network beside the address of the host, so address/length with bits behind
// the length is the one address.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%.60q is not an address", s)
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%.60q is not a prefix", s)
	}
	if p != p.Masked() {
		return netip.PrefixFrom(p.Addr(), p.Addr().BitLen()), nil
	}
	if p.Bits() == 0 {
		return netip.Prefix{}, fmt.Errorf("%.60q is the whole Internet", s)
	}
	return p, nil
}

// text takes numbers too: ids are often written as such.
func text(v any) (string, error) {
	var s string
	switch x := v.(type) {
	case string:
		s = strings.TrimSpace(x)
	case int:
		s = strconv.Itoa(x)
	case *big.Int:
		s = x.String()
	case float64:
		if x != float64(int64(x)) {
			return "", fmt.Errorf("%v is not a text", x)
		}
		s = strconv.FormatInt(int64(x), 10)
	default:
		return "", fmt.Errorf("%.60s is not a text", show(v))
	}
	if len(s) > maxText {
		return "", fmt.Errorf("is %d bytes long, %d are allowed", len(s), maxText)
	}
	// It ends up in logs, tickets and mail headers: a line break in it would be
	// a header of its own.
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		return "", fmt.Errorf("%.80q has a character that cannot be printed", s)
	}
	return s, nil
}

// texts takes one text or a list of them.
func texts(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if len(list) > maxList {
		return nil, fmt.Errorf("has %d elements, %d are allowed", len(list), maxList)
	}
	var out []string
	for _, x := range list {
		s, err := text(x)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func mac(v any) (string, error) {
	s, err := text(v)
	if err != nil || s == "" {
		return "", err
	}
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
		return "", fmt.Errorf("%.60q is not a MAC address of one interface", s)
	}
	return hw.String(), nil
}

// moment reads RFC 3339, a date (its midnight in UTC) or Unix seconds.
func moment(v any) (time.Time, error) {
	s, err := text(v)
	if err != nil || s == "" {
		return time.Time{}, err
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && !t.IsZero() {
			return t.UTC(), nil
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 && n < 1<<33 {
		return time.Unix(n, 0).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%.60q is not a time; 2026-01-31, 2026-01-31T15:04:05Z or Unix seconds", s)
}
