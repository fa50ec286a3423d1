package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/flowcordon/flowcordon/flow"
)

// schema is what XARF asks for: testdata/xarf/README.md.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.AssertContent()
	s, err := c.Compile("testdata/xarf/xarf-4.2.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// allRules is an incident with a finding of each rule and protocol.
func allRules() Input {
	in := scanned()
	in.Incident.Findings = nil
	for _, r := range []flow.Rule{
		flow.RuleNetscan, flow.RulePortscan, flow.RuleBlockscan, flow.RuleUDPSweep, flow.RuleICMPSweep, flow.RuleSYNFlood, flow.RuleUDPFlood, flow.RuleICMPFlood,
		flow.RulePacketFlood, flow.RuleReflector, flow.RuleSpam, flow.RuleBruteforce, flow.RuleBlockedPort, flow.RuleSpoofed, "a rule of tomorrow",
	} {
		for _, proto := range []uint8{flow.ProtoTCP, flow.ProtoUDP, flow.ProtoICMP, flow.ProtoICMPv6, 47, 132} {
			f := scanned().Incident.Findings[0]
			f.Rule, f.IPProto = r, proto
			in.Incident.Findings = append(in.Incident.Findings, f)
			f.Remote, f.Port, f.EstRate, f.To = netip.MustParseAddr("2608::1%eth0"), 0, 0, f.From
			f.Reason = strings.Repeat("very long \x00 ж", 200)
			in.Incident.Findings = append(in.Incident.Findings, f)
		}
	}
	return in
}

func instance(t *testing.T, v any) map[string]any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return doc.(map[string]any)
}

func TestXARFIsValid(t *testing.T) {
	s := schema(t)
	reports, err := XARF(allRules())
	if err != nil {
		t.Fatal(err)
	}
	ids, types := map[string]bool{}, map[string]int{}
	for _, r := range reports {
		doc := instance(t, r)
		if err := s.Validate(doc); err != nil {
			t.Errorf("%s: %v", r.Name(), err)
		}
		ids[r.ID] = true
		types[r.Type]++
	}
	// 13 rules of those have a type, with 5 of 6 protocols, twice.
	if len(reports) != 130 || len(ids) != 130 || types["port_scan"] != 60 || types["ddos"] != 60 || types["login_attack"] != 10 {
		t.Errorf("%d reports, %d ids, %v", len(reports), len(ids), types)
	}
	again, err := XARF(allRules())
	if err != nil || again[7].ID != reports[7].ID {
		t.Errorf("a finding that is reported again has another id: %v", err)
	}
	r := instance(t, reports[0])
	ev := r["evidence"].([]any)[0].(map[string]any)
	text, err := base64.StdEncoding.DecodeString(ev["payload"].(string))
	if err != nil || string(text) != "the frozen log\n22.1.0.1\n" || ev["hash"] != "sha256:"+scanned().Evidence[0].Logs[0].SHA256 {
		t.Errorf("evidence %v, %q", err, text)
	}
	if r["source_identifier"] != "11.2.3.4" || r["destination_port"] != json.Number("22") || r["timestamp"] != "2026-11-22T06:53:00Z" || r["first_seen"] != "2026-11-22T06:52:00Z" {
		t.Errorf("%v", r)
	}
	flood, err := XARF(scanned())
	if err != nil {
		t.Fatal(err)
	}
	if f := instance(t, flood[1]); f["attack_vector"] != "udp_flood" || f["peak_pps"] != json.Number("5000") || f["duration_seconds"] != json.Number("60") || f["mitigation_applied"] != true || f["destination_ip"] != "22.0.0.9" {
		t.Errorf("%v", f)
	}
}

// The schema does refuse what is wrong; else the test above would say nothing.
func TestXARFSchemaRefuses(t *testing.T) {
	s := schema(t)
	for name, spoil := range map[string]func(r map[string]any){
		"no sender":        func(r map[string]any) { delete(r, "sender") },
		"no protocol":      func(r map[string]any) { delete(r, "protocol") },
		"no first_seen":    func(r map[string]any) { delete(r, "first_seen") },
		"id":               func(r map[string]any) { r["report_id"] = "FC-1" },
		"time":             func(r map[string]any) { r["timestamp"] = "yesterday" },
		"version":          func(r map[string]any) { r["xarf_version"] = "3" },
		"category":         func(r map[string]any) { r["category"] = "messaging" },
		"type":             func(r map[string]any) { r["type"] = "netscan" },
		"port":             func(r map[string]any) { r["destination_port"] = 0 },
		"address":          func(r map[string]any) { r["destination_ip"] = "2608::1%eth0" },
		"contact":          func(r map[string]any) { r["reporter"].(map[string]any)["contact"] = "nobody" },
		"domain":           func(r map[string]any) { r["reporter"].(map[string]any)["domain"] = "no domain" },
		"party's field":    func(r map[string]any) { r["sender"].(map[string]any)["type"] = "automated" },
		"hash":             func(r map[string]any) { r["evidence"].([]any)[0].(map[string]any)["hash"] = "c0ffee" },
		"payload":          func(r map[string]any) { r["evidence"].([]any)[0].(map[string]any)["payload"] = "%%%" },
		"tag":              func(r map[string]any) { r["tags"] = []any{"Rule: x"} },
		"description":      func(r map[string]any) { r["description"] = strings.Repeat("x", 1001) },
		"a slip":           func(r map[string]any) { r["destinationip"] = "22.0.0.9" },
		"flood's in scans": func(r map[string]any) { r["peak_pps"] = 5 },
	} {
		reports, err := XARF(scanned())
		if err != nil {
			t.Fatal(err)
		}
		doc := instance(t, reports[0])
		if err := s.Validate(doc); err != nil {
			t.Fatal(err)
		}
		if spoil(doc); s.Validate(doc) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The specification's own schemas, where they lie beside the checkout.
func TestXARFByTheSpecification(t *testing.T) {
	dir, err := filepath.Abs("../../../shared/xarf/schemas/v4")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "xarf-core.json")); err != nil {
		t.Skipf("the XARF specification's schemas are not in %s; testdata/xarf has their rules in our words", dir)
	}
	reports, err := XARF(allRules())
	if err != nil {
		t.Fatal(err)
	}
	compiled := map[string]*jsonschema.Schema{}
	for _, r := range reports {
		file := "connection-" + strings.ReplaceAll(r.Type, "_", "-") + ".json"
		if compiled[file] == nil {
			c := jsonschema.NewCompiler()
			c.AssertFormat()
			c.UseLoader(local(dir))
			if compiled[file], err = c.Compile("https://xarf.org/schemas/v4/types/" + file); err != nil {
				t.Fatal(err)
			}
		}
		if err := compiled[file].Validate(instance(t, r)); err != nil {
			t.Errorf("%s: %v", r.Name(), err)
		}
	}
}

// local serves the addresses of the specification from a directory.
type local string

func (l local) Load(url string) (any, error) {
	f, err := os.Open(filepath.Join(string(l), filepath.FromSlash(strings.TrimPrefix(url, "https://xarf.org/schemas/v4/"))))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return jsonschema.UnmarshalJSON(f)
}

func TestReporter(t *testing.T) {
	for name, r := range map[string]Reporter{
		"no org": {Contact: "abuse@example.net"}, "no contact": {Org: "x"}, "bad contact": {Org: "x", Contact: "abuse"}, "bad domain": {Org: "x", Contact: "abuse@example.net", Domain: "a b"},
		"long org": {Org: strings.Repeat("x", 201), Contact: "abuse@example.net"},
	} {
		if _, err := r.party(); err == nil || !strings.Contains(err.Error(), "xarf reporter") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, err := (Reporter{Org: "x", Contact: "Abuse desk <abuse@example.net>"}).party(); err != nil || p != (party{"x", "abuse@example.net", "example.net"}) {
		t.Errorf("%+v, %v", p, err)
	}
}
