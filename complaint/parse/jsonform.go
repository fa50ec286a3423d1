package parse

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// jsonLine reads one JSON object on a line: eve.json of Suricata, honeypots'
// logs, exports of log stores.
func (l *line) jsonLine() outcome {
	dec := json.NewDecoder(strings.NewReader(l.raw))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		if strings.Contains(err.Error(), "unexpected EOF") {
			return halfLine("a JSON object that ends in the middle")
		}
		return outcome{}
	}
	if out, ok := l.xarf(m, piece{depth: l.p.depth, name: "XARF"}); ok {
		return out
	}
	return l.object(m)
}

// object reads the fields of an object by their names, with those of objects in
// it under names that are put together.
func (l *line) object(m map[string]any) outcome {
	var f fields
	flatten(m, "", 0, func(name, value string) {
		k := column(name)
		if k == fAny && f[fSrc] != "" || k == fWhat && strings.Contains(name, ".") {
			return
		}
		f.set(k, value)
	})
	if f[fSrc] == "" && f[fAny] == "" {
		return no(NoAddress, "the object has no source address under a name that is known, such as src_ip")
	}
	return l.structured(&f, ShapeJSON, nil)
}

func flatten(m map[string]any, prefix string, depth int, emit func(name, value string)) {
	for k, v := range m {
		name := k
		if prefix != "" {
			name = prefix + "." + k
		}
		switch v := v.(type) {
		case string:
			emit(name, v)
		case json.Number:
			emit(name, v.String())
		case map[string]any:
			if depth < 3 {
				flatten(v, name, depth+1, emit)
			}
		}
	}
}

// xarf reads a report of XARF v4 (xarf.org, source_identifier) or v3 (Report
// with SourceIp). Its evidence becomes pieces of its own.
func (l *line) xarf(m map[string]any, q piece) (outcome, bool) {
	if text(m, "source_identifier") != "" && (text(m, "xarf_version") != "" || text(m, "category") != "") {
		return l.xarf4(m, q), true
	}
	rep, ok := m["Report"].(map[string]any)
	if !ok || text(m, "Version") == "" {
		return outcome{}, false
	}
	var f fields
	for name, k := range map[string]field{"SourceIp": fSrc, "SourcePort": fSrcPort, "DestinationIp": fDst, "DestinationPort": fDstPort, "Protocol": fProto,
		"Date": fTime, "EndDate": fEnd, "ReportType": fWhat, "ReportClass": fWhat, "AttackCount": fCount} {
		f.set(k, text(rep, name))
	}
	l.evidence(rep["Samples"], q)
	l.reportID(text(rep, "ReportID"))
	return l.report(&f), true
}

func (l *line) xarf4(m map[string]any, q piece) outcome {
	var f fields
	f.set(fSrc, text(m, "source_identifier"))
	for _, n := range []struct {
		name string
		k    field
	}{{"first_seen", fTime}, {"timestamp", fTime}, {"last_seen", fEnd}, {"source_port", fSrcPort}, {"destination_ip", fDst}, {"target_ip", fDst},
		{"destination_port", fDstPort}, {"target_port", fDstPort}, {"protocol", fProto}, {"attempt_count", fCount}, {"packet_count", fCount},
		{"connection_count", fCount}, {"category", fWhat}, {"type", fWhat}, {"service_type", fWhat}} {
		f.set(n.k, text(m, n.name))
	}
	l.evidence(m["evidence"], q)
	l.reportID(text(m, "report_id"))
	out := l.report(&f)
	if out.obs != nil && text(m, "first_seen") == "" {
		out.obs.Assumed = append(out.obs.Assumed, "the report has no first_seen; the time of the report itself was taken")
	}
	return out
}

func (l *line) reportID(id string) {
	if l.r.c.ReportID == "" {
		l.r.c.ReportID = clip(id, 120)
	}
}

func (l *line) report(f *fields) outcome {
	if f[fSrc] == "" {
		return no(NotCovered, "the report has no source address")
	}
	if _, ok := parseEndpoint(f[fSrc]); !ok {
		return no(NotCovered, "the report is about "+clip(f[fSrc], 80)+", which is no address")
	}
	return l.structured(f, ShapeXARF, nil)
}

// evidence queues the payloads of a report.
func (l *line) evidence(v any, q piece) {
	list, _ := v.([]any)
	for i, e := range list {
		m, _ := e.(map[string]any)
		payload := text(m, "payload") + text(m, "Payload")
		if m == nil || payload == "" || q.depth >= maxDepth || i >= maxFiles {
			continue
		}
		data, err := base64.StdEncoding.DecodeString(payload)
		if err != nil {
			data = []byte(payload) // v3 allows plain text
		}
		name := fmt.Sprintf("%s: evidence %d", q.name, i+1)
		typ := text(m, "content_type") + text(m, "ContentType")
		l.r.unpack(name, typ, data, piece{mail: q.mail, depth: q.depth + 1})
	}
}

// text is a string or number of an object.
func text(m map[string]any, name string) string {
	switch v := m[name].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}
