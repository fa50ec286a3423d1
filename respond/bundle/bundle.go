// Package bundle puts together what proves an incident: the frozen logs, the
// flows, the findings with everything needed to compute them again, the state
// of the exporters, pictures, and XARF reports for others. In comes what the
// store and the controller know, out go files with their hashes, and a zip of
// them whose bytes depend on the input only. It does no I/O, starts no
// goroutine and imports flow only.
package bundle

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// Audience is who gets a bundle.
type Audience string

// The audiences. Outside is for the customer and for other networks: it leaves
// out who the customer is, what our routers are called, and how we act.
const (
	Staff   Audience = "staff"
	Outside Audience = "outside"
)

// Input is what a bundle is made from. Only Incident must be set.
type Input struct {
	Incident flow.Incident
	Evidence []flow.Evidence // the frozen stages, oldest first
	// Flows are the rows behind the findings. Rows of other tenants are left
	// out, whatever is given.
	Flows     []flow.FlowRow
	Truncated bool // more rows matched than were given
	// Series is the tenant's traffic before and after the act, in steps of Step;
	// without it, the picture is drawn from Flows.
	// What it leaves out within Shown was nothing.
	Series    []flow.SeriesPoint
	Step      time.Duration
	Shown     flow.Range            // zero: from the first point or row to a minute after the act
	Exporters []flow.ExporterHealth // all; those that saw the tenant are kept
	Reporter  Reporter              // of XARF; zero: no report is made
	Version   string                // of flowcordon
	For       Audience              // Staff
}

// Part is one file of a bundle.
type Part struct {
	Name string // path in the zip
	Type string // MIME type
	Data []byte
}

// entry is a part in the manifest.
type entry struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Parts makes the files, by name, the manifest last. The same input gives the
// same bytes.
func Parts(in Input) ([]Part, error) {
	if in.For == "" {
		in.For = Staff
	}
	if in.For != Staff && in.For != Outside {
		return nil, fmt.Errorf("bundle for %q: write staff or outside", in.For)
	}
	if !in.Incident.Tenant.IsValid() {
		return nil, fmt.Errorf("bundle of %q: an incident without a tenant's address has no evidence", in.Incident.ID)
	}
	in.Flows = own(in)
	routers := routersOf(in)
	var parts []Part
	add := func(name, kind string, data []byte) { parts = append(parts, Part{name, kind, data}) }
	logs, err := logParts(in)
	if err != nil {
		return nil, err
	}
	parts = append(parts, logs...)
	for name, v := range map[string]any{"incident.json": incidentOf(in), "findings.json": findingsOf(in), "exporters.json": exportersOf(in, routers)} {
		b, err := pretty(v)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		add(name, "application/json", b)
	}
	rows, err := flowParts(in, routers)
	if err != nil {
		return nil, err
	}
	parts = append(parts, rows...)
	add("recompute.sql", "application/sql", []byte(recompute(in)))
	add("packets.svg", "image/svg+xml", []byte(packetsSVG(in)))
	add("destinations.svg", "image/svg+xml", []byte(destinationsSVG(in)))
	reports, err := XARF(in)
	if err != nil {
		return nil, err
	}
	for _, r := range reports {
		b, err := pretty(r)
		if err != nil {
			return nil, fmt.Errorf("write report %s: %w", r.Name(), err)
		}
		add("xarf/"+r.Name()+".json", "application/json", b)
	}
	add("README.txt", "text/plain; charset=utf-8", []byte(readme(in)))
	slices.SortFunc(parts, func(a, b Part) int { return cmp.Compare(a.Name, b.Name) })
	m, err := manifest(in, parts)
	if err != nil {
		return nil, err
	}
	return append(parts, m), nil
}

// own are the incident's rows by time: neighbours are nobody's business.
func own(in Input) []flow.FlowRow {
	rows := slices.DeleteFunc(slices.Clone(in.Flows), func(r flow.FlowRow) bool { return r.Tenant != in.Incident.Tenant })
	slices.SortStableFunc(rows, func(a, b flow.FlowRow) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Start, b.Start), a.Remote.Compare(b.Remote), cmp.Compare(a.RemotePort, b.RemotePort),
			cmp.Compare(a.HostPort, b.HostPort), a.Host.Compare(b.Host), cmp.Compare(a.IPProto, b.IPProto), cmp.Compare(a.Dir, b.Dir),
			cmp.Compare(a.Packets, b.Packets), cmp.Compare(a.Bytes, b.Bytes), a.Exporter.Compare(b.Exporter))
	})
	return rows
}

// routersOf names the exporters that saw the tenant, for those who must not
// learn their addresses.
func routersOf(in Input) map[netip.Addr]string {
	var list []netip.Addr
	for _, r := range in.Flows {
		if !slices.Contains(list, r.Exporter) {
			list = append(list, r.Exporter)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	names := map[netip.Addr]string{}
	for i, a := range list {
		if names[a] = a.String(); in.For == Outside {
			names[a] = fmt.Sprintf("exporter-%d", i+1)
		}
	}
	return names
}

// logParts are the frozen texts, with their hashes held against what was stored.
func logParts(in Input) ([]Part, error) {
	var parts []Part
	for _, e := range in.Evidence {
		for _, l := range e.Logs {
			sum := sha256.Sum256([]byte(l.Text))
			if got := hex.EncodeToString(sum[:]); l.SHA256 != "" && l.SHA256 != got {
				return nil, fmt.Errorf("log %s of %s: its SHA-256 is %s, %s was frozen: the stored text has changed", l.Name, e.Incident, got, l.SHA256)
			}
			name := path.Join("logs", safe(e.Incident), safe(l.Name))
			if slices.ContainsFunc(parts, func(p Part) bool { return p.Name == name }) {
				return nil, fmt.Errorf("two logs are called %s", name)
			}
			parts = append(parts, Part{name, "text/plain; charset=utf-8", []byte(l.Text)})
		}
	}
	return parts, nil
}

// safe keeps what is harmless in a path.
func safe(s string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, s)
	if clean = strings.TrimLeft(strings.ReplaceAll(clean, "..", "_"), "."); clean == "" {
		return "unnamed"
	}
	return clean
}

func manifest(in Input, parts []Part) (Part, error) {
	m := struct {
		Incident string    `json:"incident"`
		For      Audience  `json:"for"`
		Made     time.Time `json:"made"`
		By       string    `json:"by"`
		Parts    []entry   `json:"parts"`
	}{in.Incident.ID, in.For, made(in), "flowcordon " + in.Version, nil}
	for _, p := range parts {
		sum := sha256.Sum256(p.Data)
		m.Parts = append(m.Parts, entry{p.Name, p.Type, len(p.Data), hex.EncodeToString(sum[:])})
	}
	b, err := pretty(m)
	if err != nil {
		return Part{}, fmt.Errorf("write manifest: %w", err)
	}
	return Part{"manifest.json", "application/json", b}, nil
}

// made is the time that a bundle carries: when the incident last changed, so
// that asking twice gives the same bytes.
func made(in Input) time.Time {
	at := in.Incident.Updated
	for _, e := range in.Evidence {
		if e.Frozen.After(at) {
			at = e.Frozen
		}
	}
	return at.UTC().Truncate(time.Second)
}

func pretty(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Zip writes the parts as a zip, in a folder named after the incident.
func Zip(w io.Writer, in Input) error {
	parts, err := Parts(in)
	if err != nil {
		return err
	}
	z := zip.NewWriter(w)
	for _, p := range parts {
		f, err := z.CreateHeader(&zip.FileHeader{Name: safe(in.Incident.ID) + "/" + p.Name, Method: zip.Deflate, Modified: zipTime(made(in))})
		if err != nil {
			return fmt.Errorf("zip %s: %w", p.Name, err)
		}
		if _, err := f.Write(p.Data); err != nil {
			return fmt.Errorf("zip %s: %w", p.Name, err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("zip: %w", err)
	}
	return nil
}

// zipTime keeps a time to what the format holds (APPNOTE 4.4.6: 1980 to 2107).
func zipTime(t time.Time) time.Time {
	if t.Year() < 1980 || t.Year() > 2107 {
		return time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return t
}
