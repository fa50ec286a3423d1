package pvetest

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// withDigest is PVE::Firewall::copy_opject_with_digest.
func withDigest(m map[string]string) map[string]any {
	h := sha1.New()
	out := map[string]any{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		_, _ = fmt.Fprintf(h, "%s:%s\n", k, m[k])
		out[k] = m[k]
		if n, err := strconv.Atoi(m[k]); err == nil {
			out[k] = n
		}
	}
	out["digest"] = hex.EncodeToString(h.Sum(nil))
	return out
}

func rulesDigest(rules []map[string]string) string {
	h := sha1.New()
	for _, r := range rules {
		for _, k := range slices.Sorted(maps.Keys(r)) {
			_, _ = fmt.Fprintf(h, "%s:%s\n", k, r[k])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

const modified = "detected modified configuration - file changed by other user? Try again."

// firewall is PVE::API2::Firewall::VM and Rules. A guest's lock does not hold
// it.
func (s *Sim) firewall(g *Guest, where, method, sub string, p map[string]string) (any, *failure) {
	if method != "GET" {
		if fail := s.may("VM.Config.Network", where); fail != nil {
			return nil, fail
		}
	}
	digest := p["digest"]
	delete(p, "digest")
	if name, ok := strings.CutPrefix(sub, "/firewall/ipset/"); ok && method == "GET" {
		if g.IPSets[name] == nil {
			return nil, die("no such IPSet '" + name + "'")
		}
		return g.IPSets[name], nil
	}
	switch method + " " + numbers(sub) {
	case "GET /firewall/ipset":
		out := []map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(g.IPSets)) {
			out = append(out, map[string]any{"name": name, "digest": "0"})
		}
		return out, nil
	case "GET /firewall/options":
		return withDigest(g.FwOptions), nil
	case "PUT /firewall/options":
		if digest != "" && digest != withDigest(g.FwOptions)["digest"] {
			return nil, die(modified)
		}
		if g.FwOptions == nil {
			g.FwOptions = map[string]string{}
		}
		for k := range strings.SplitSeq(p["delete"], ",") {
			delete(g.FwOptions, k)
		}
		delete(p, "delete")
		maps.Copy(g.FwOptions, p)
		return nil, nil
	case "GET /firewall/rules":
		out := []map[string]any{}
		for i, r := range g.FwRules {
			m := map[string]any{"pos": i, "digest": rulesDigest(g.FwRules)}
			for k, v := range r {
				m[k] = v
			}
			if n, err := strconv.Atoi(r["enable"]); err == nil {
				m["enable"] = n
			}
			out = append(out, m)
		}
		return out, nil
	case "POST /firewall/rules":
		if fail := verifyRule(p); fail != nil {
			return nil, fail
		}
		if p["enable"] == "" {
			p["enable"] = "0"
		}
		g.FwRules = slices.Insert(g.FwRules, 0, p) // unshift; a position is not looked at
		return nil, nil
	case "DELETE /firewall/rules/{pos}":
		if digest != "" && digest != rulesDigest(g.FwRules) {
			return nil, die(modified)
		}
		n, _ := strconv.Atoi(sub[strings.LastIndex(sub, "/")+1:])
		if n >= len(g.FwRules) {
			return nil, die(fmt.Sprintf("no rule at position %d", n))
		}
		g.FwRules = slices.Delete(g.FwRules, n, n+1)
		return nil, nil
	}
	return nil, &failure{code: 501, text: "Method '" + method + " " + sub + "' not implemented"}
}

var (
	ifaceRE = regexp.MustCompile(`^net\d+$`)
	// /etc/protocols, as far as tests go.
	protoRE = regexp.MustCompile(`^(tcp|udp|icmp|ipv6-icmp|sctp|dccp|udplite|gre|\d{1,3})$`)
	portsRE = regexp.MustCompile(`^\d{1,5}(:\d{1,5})?(,\d{1,5}(:\d{1,5})?)*$`)
)

// verifyRule is PVE::Firewall::verify_rule; that a multiport match takes 15
// ports is iptables', and the compiled rule would not load.
func verifyRule(p map[string]string) *failure {
	switch {
	case p["type"] != "in" && p["type"] != "out" && p["type"] != "group":
		return badParam("type", "unknown rule type")
	case !slices.Contains([]string{"ACCEPT", "DROP", "REJECT"}, p["action"]):
		return badParam("action", "unknown action '"+p["action"]+"'")
	case p["iface"] != "" && !ifaceRE.MatchString(p["iface"]):
		return badParam("iface", `value does not match the regex pattern 'net\d+'`)
	case p["proto"] != "" && !protoRE.MatchString(p["proto"]):
		return badParam("proto", "unknown protocol '"+p["proto"]+"'")
	case p["dport"] != "" && (!portsRE.MatchString(p["dport"]) || strings.Count(p["dport"], ",") > 14):
		return badParam("dport", "invalid port '"+p["dport"]+"'")
	case p["dport"] != "" && !slices.Contains([]string{"tcp", "udp", "sctp", "dccp", "udplite"}, p["proto"]):
		return badParam("proto", "missing property - 'dport' requires this property")
	case strings.ContainsAny(p["comment"], "\n\r"):
		return badParam("comment", "more than one line")
	}
	return nil
}
