package inventory

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const yamlExample = "write a list of entries such as - {prefix: 198.18.0.7/32, tenant: c-42, vds: vds-1001}; write [] for none"

// parseYAML reads a list of entries. Anchors, aliases and merge keys are
// refused: an inventory is generated or typed, and expanding them is how a
// small YAML file becomes a large one.
func parseYAML(r io.Reader, c *checker, emit func(*raw)) {
	dec := yaml.NewDecoder(r)
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		// An empty file is what an interrupted export leaves behind, so it
		// does not count as "there are no tenants".
		c.add(0, "", "is empty", yamlExample)
		return
	case err != nil:
		line, what := yamlError(err)
		c.add(line, "", "is not YAML: "+what, "check indentation, quotes and brackets around this line")
		return
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		c.add(0, "", "has more than one document", "write a single list, without ---")
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.SequenceNode {
		c.add(doc.Line, "", "is not a list", yamlExample)
		return
	}
	for _, n := range doc.Content[0].Content {
		if n.Kind != yaml.MappingNode {
			c.add(n.Line, "", "this item is not an entry", yamlExample)
			continue
		}
		if e, ok := yamlEntry(n, c); ok {
			emit(e)
		}
	}
}

func yamlEntry(n *yaml.Node, c *checker) (*raw, bool) {
	e := &raw{line: n.Line}
	good := true
	if n.Anchor != "" {
		c.add(n.Line, "", "anchors and aliases are not used here", "write the entry out")
		good = false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		f, ok := fieldByName(k.Value)
		if k.Kind != yaml.ScalarNode || !ok {
			c.add(k.Line, label(k.Value), "is not a key of an entry", "write one of "+knownFields())
			good = false
			continue
		}
		if e.lines[f] != 0 {
			c.add(k.Line, fieldNames[f], "stands there twice", "write it once")
			good = false
			continue
		}
		e.lines[f] = v.Line
		good = yamlValue(e, f, v, c) && good
	}
	return e, good
}

func yamlValue(e *raw, f field, v *yaml.Node, c *checker) bool {
	if f == fMACs || f == fTags {
		list, ok := yamlList(v)
		if !ok {
			c.add(v.Line, fieldNames[f], "is not a list of plain values", fmt.Sprintf("write %s: [first, second]", fieldNames[f]))
			return false
		}
		if f == fMACs {
			e.macs = list
		} else {
			e.tags = list
		}
		return true
	}
	s, ok := yamlText(v)
	if !ok {
		c.add(v.Line, fieldNames[f], "is not a plain value", "write one text after the colon")
		return false
	}
	e.text[f] = s
	return true
}

// yamlText gives the scalar as it was written, so that a MAC, a date or a
// number without quotes is not turned into something else.
func yamlText(v *yaml.Node) (string, bool) {
	if v.Kind != yaml.ScalarNode || v.Anchor != "" {
		return "", false
	}
	if v.ShortTag() == "!!null" {
		return "", true
	}
	return strings.TrimSpace(v.Value), true
}

// yamlList reads a sequence of scalars, or one scalar as a list of one.
func yamlList(v *yaml.Node) ([]string, bool) {
	if v.Kind != yaml.SequenceNode {
		s, ok := yamlText(v)
		if !ok || s == "" {
			return nil, ok
		}
		return []string{s}, true
	}
	if v.Anchor != "" {
		return nil, false
	}
	list := make([]string, 0, len(v.Content))
	for _, item := range v.Content {
		s, ok := yamlText(item)
		if !ok || s == "" {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// yamlError takes the line out of the library's message.
func yamlError(err error) (int, string) {
	msg := err.Error()
	m := yamlLine.FindStringSubmatch(msg)
	if m == nil {
		return 0, msg
	}
	line, _ := strconv.Atoi(m[1]) // no digits: 0, the whole file
	return line, msg[len(m[0]):]
}
