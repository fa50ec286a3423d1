package config

import (
	"encoding"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing wrong with a configuration: where it is and what to
// write instead.
type Problem struct {
	File string
	Line int    // 0: not in the file (missing, or from the environment)
	Path string // detect.rules.netscan.mode
	Text string
}

// String is the line that check-config prints.
func (p Problem) String() string {
	where := p.File
	if p.Line > 0 {
		where += ":" + strconv.Itoa(p.Line)
	}
	if p.Path != "" {
		where += ": " + p.Path
	}
	return where + ": " + p.Text
}

// Problems are all of them at once.
type Problems []Problem

// Error lists the problems, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// decoder fills a struct from a YAML tree. Unlike the library's own decoding
// it goes on after an error, so that an operator sees all of them, and it
// remembers the line of every path for the checks that come later.
type decoder struct {
	file     string
	problems Problems
	lines    map[string]int
}

func (d *decoder) fail(line int, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.file, line, path, fmt.Sprintf(format, args...)})
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (d *decoder) node(n *yaml.Node, v reflect.Value, path string) {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	d.lines[path] = n.Line
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.node(n, v.Elem(), path)
		return
	}
	if v.Type() == durationType || reflect.PointerTo(v.Type()).Implements(textType) {
		d.scalar(n, v, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(n, v, path)
	case reflect.Map:
		d.dict(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, path, "expected keys and values, found %s; write it as {%s: …}", kindName(n), firstKey(v.Type()))
		return
	}
	fields := fieldsOf(v)
	if s, ok := v.Addr().Interface().(interface{ variant(typ string) any }); ok {
		if spec := s.variant(valueOf(n, "type")); spec != nil {
			for k, f := range fieldsOf(reflect.ValueOf(spec).Elem()) {
				fields[k] = f
			}
		}
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		at := join(path, k.Value)
		if l, dup := seen[k.Value]; dup {
			d.fail(k.Line, at, "is written twice, first in line %d; keep one", l)
			continue
		}
		seen[k.Value] = k.Line
		f, ok := fields[k.Value]
		if !ok {
			d.fail(k.Line, at, "unknown key; %s", suggest(k.Value, keysOf(fields)))
			continue
		}
		d.node(val, f, at)
	}
}

// valueOf is the scalar under a key of a mapping, or "".
func valueOf(n *yaml.Node, key string) string {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1].Value
		}
	}
	return ""
}

func (d *decoder) dict(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fail(n.Line, path, "expected keys and values, found %s", kindName(n))
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		key := reflect.New(v.Type().Key()).Elem()
		key.SetString(k.Value)
		e := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(key); old.IsValid() {
			e.Set(old)
		}
		d.node(val, e, join(path, k.Value))
		v.SetMapIndex(key, e)
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n.Line, path, "expected a list, found %s; write it as [%s]", kindName(n), n.Value)
		return
	}
	s := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		d.node(c, s.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(s)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.fail(n.Line, path, "expected %s, found %s", typeName(v.Type()), kindName(n))
		return
	}
	if err := setScalar(v, n.Value); err != nil {
		d.fail(n.Line, path, "%v", err)
	}
}

// setScalar parses text into v, which is a duration, a TextUnmarshaler, a
// string, a bool or a number.
func setScalar(v reflect.Value, text string) error {
	if v.Type() == durationType {
		t, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is no duration; write for example 5s, 10m or 168h", text)
		}
		v.SetInt(int64(t))
		return nil
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%q is no %s", text, typeName(v.Type()))
		}
		return nil
	}
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		var b bool
		if b, err = strconv.ParseBool(text); err == nil {
			v.SetBool(b)
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		var i int64
		if i, err = strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, v.Type().Bits()); err == nil {
			v.SetInt(i)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		var u uint64
		if u, err = strconv.ParseUint(strings.ReplaceAll(text, "_", ""), 10, v.Type().Bits()); err == nil {
			v.SetUint(u)
		}
	case reflect.Float64:
		var f float64
		if f, err = strconv.ParseFloat(text, 64); err == nil {
			v.SetFloat(f)
		}
	default:
		panic("config: no scalar: " + v.Type().String())
	}
	if err != nil {
		return fmt.Errorf("%q is no %s", text, typeName(v.Type()))
	}
	return nil
}

// env applies FLOWCORDON_HTTP_ADDRESS and the like: the path of a scalar or of
// a list of scalars, upper case, joined by underscores. Lists are split at commas.
func (d *decoder) env(v reflect.Value, path, name string) {
	if v.Kind() == reflect.Struct && !reflect.PointerTo(v.Type()).Implements(textType) {
		for key, f := range fieldsOf(v) {
			d.env(f, join(path, key), name+"_"+strings.ToUpper(key))
		}
		return
	}
	text, ok := os.LookupEnv(name)
	if !ok {
		return
	}
	save := d.file
	d.file = "environment variable " + name
	defer func() { d.file = save }()
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	switch {
	case v.Kind() == reflect.Slice:
		n = &yaml.Node{Kind: yaml.SequenceNode}
		for p := range strings.SplitSeq(text, ",") {
			if p = strings.TrimSpace(p); p != "" {
				n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: p})
			}
		}
	case v.Kind() == reflect.Map:
		d.fail(0, path, "cannot be set from the environment; write it in the file")
		return
	}
	d.node(n, v, path)
}

func fieldsOf(v reflect.Value) map[string]reflect.Value {
	m := map[string]reflect.Value{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			for k, e := range fieldsOf(v.Field(i)) {
				m[k] = e
			}
			continue
		}
		if tag, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); tag != "" && tag != "-" {
			m[tag] = v.Field(i)
		}
	}
	return m
}

func keysOf(m map[string]reflect.Value) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	sort.Strings(ks)
	return ks
}

func firstKey(t reflect.Type) string {
	if ks := keysOf(fieldsOf(reflect.New(t).Elem())); len(ks) > 0 {
		return ks[0]
	}
	return "key"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys and values"
	case yaml.SequenceNode:
		return "a list"
	}
	return strconv.Quote(n.Value)
}

func typeName(t reflect.Type) string {
	switch t.String() {
	case "config.Prefix", "netip.Prefix":
		return "prefix; write for example 192.0.2.0/24 or 2001:db8::/32"
	case "netip.Addr":
		return "IP address; write for example 192.0.2.1"
	case "time.Duration":
		return "duration"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "yes-or-no value; write true or false"
	case reflect.String:
		return "text"
	case reflect.Float64:
		return "number"
	}
	return "whole number in its range"
}

// suggest names the known key nearest to key, or all of them.
func suggest(key string, known []string) string {
	best, least := "", 4
	for _, k := range known {
		if n := distance(key, k); n < least {
			best, least = k, n
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known here: " + strings.Join(known, ", ")
}

// distance is the Levenshtein distance between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cur := row[j+1]
			cost := prev
			if a[i] != b[j] {
				cost++
			}
			row[j+1] = min(cost, cur+1, row[j]+1)
			prev = cur
		}
	}
	return row[len(b)]
}
