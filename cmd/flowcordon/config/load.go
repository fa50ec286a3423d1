package config

import (
	"cmp"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/flowcordon/flowcordon/detect"
)

// Default is the configuration that an empty file means.
func Default() Config {
	c := Config{
		DataDir: "/var/lib/flowcordon",
		ClickHouse: ClickHouse{Database: "flowcordon", User: "default", MaxMemory: 4 << 30,
			Retention: Retention{Minutes: 183 * 24 * time.Hour, Hours: 731 * 24 * time.Hour}},
		Store: Store{
			FlowPolicy:    "all",
			FlowTTL:       7 * 24 * time.Hour,
			WindowTTL:     14 * 24 * time.Hour,
			SpoolMaxBytes: 8 << 30,
		},
		HTTP: HTTP{Address: "127.0.0.1:8080"},
		Collector: Collector{
			ReadBuffer:    32 << 20,
			FlushInterval: 2500 * time.Millisecond,
			Lateness:      5 * time.Second,
			MaxAge:        time.Hour,
			MaxKeys:       2_000_000,
		},
		Detect: detect.Defaults(),
		Respond: Respond{
			MaxPerHour:      10,
			CallTimeout:     10 * time.Second,
			ApprovalTimeout: 24 * time.Hour,
			VerifyAfter:     10 * time.Second,
			VerifyFor:       20 * time.Second,
			VerifyDeadline:  3 * time.Minute,
			EvidenceRows:    10_000,
			NotifyAfter:     2 * time.Minute,
			Policy:          defaultPolicy(),
			Notify:          Notify{Digest: Digest{Max: 10, Window: 10 * time.Minute}},
		},
		Log: Log{Level: "info"},
	}
	c.Networks.IPv6TenantPrefix = 64
	return c
}

// Load reads the file, lays the environment over it, reads the secret files
// and checks the whole. The error is Problems where the content is at fault.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	return Parse(path, b)
}

// Parse is Load for a file that is already read; file is its name in messages.
func Parse(file string, text []byte) (Config, error) {
	c := Default()
	d := &decoder{file: file, lines: map[string]int{}}
	var doc yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return c, Problems{{File: file, Text: "no YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	v := reflect.ValueOf(&c).Elem()
	if doc.Kind == yaml.DocumentNode {
		d.node(doc.Content[0], v, "")
	}
	d.env(v, "", "FLOWCORDON")
	c.check(d)
	if len(d.problems) > 0 {
		slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return c, d.problems
	}
	return c, nil
}

// secret reads a file whose first line is a secret, without the line end.
func (d *decoder) secret(path, file string) string {
	if file == "" {
		return ""
	}
	b, err := os.ReadFile(file)
	if err != nil {
		d.fail(d.line(path), path, "%v; write the secret into that file, mode 0600", err)
		return ""
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" {
		d.fail(d.line(path), path, "%s is empty; write the secret into it", file)
	}
	return s
}

// line is where path stands, or the nearest part of it that stands somewhere.
func (d *decoder) line(path string) int {
	for {
		if l, ok := d.lines[path]; ok {
			return l
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return 0
		}
		path = path[:cut]
	}
}
