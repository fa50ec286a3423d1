package inventory

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

const csvExample = "begin with a header such as prefix,tenant,vds,hypervisor,macs,contact,language,tags,from,to"

// parseCSV reads a header and one entry a line. Columns may come in any order.
func parseCSV(r io.Reader, c *checker, emit func(*raw)) {
	br := bufio.NewReader(r)
	if bom, _ := br.Peek(3); string(bom) == "\ufeff" {
		_, _ = br.Discard(3) // spreadsheets write it; three bytes were just seen
	}
	cr := csv.NewReader(br)
	cr.FieldsPerRecord = -1 // counted here, to go on and to name the line
	cr.TrimLeadingSpace = true
	cr.ReuseRecord = true
	cr.Comment = '#'

	head, err := cr.Read()
	if errors.Is(err, io.EOF) {
		c.add(0, "", "is empty", csvExample)
		return
	}
	if err != nil {
		csvError(err, c)
		return
	}
	cols, ok := csvHeader(cr, head, c)
	if !ok {
		return
	}
	for {
		rec, err := cr.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			// After a quote that never closes nothing behind it can be trusted.
			csvError(err, c)
			return
		}
		line, _ := cr.FieldPos(0)
		if len(rec) != len(cols) {
			c.add(line, "", fmt.Sprintf("has %d columns, the header has %d", len(rec), len(cols)),
				"write every column (empty between two commas) and quote a value that contains a comma")
			continue
		}
		e := &raw{line: line}
		for i, f := range cols {
			e.lines[f] = line
			switch v := strings.TrimSpace(rec[i]); f {
			case fMACs:
				e.macs = csvList(v)
			case fTags:
				e.tags = csvList(v)
			default:
				e.text[f] = v
			}
		}
		emit(e)
	}
}

func csvHeader(cr *csv.Reader, head []string, c *checker) ([]field, bool) {
	line, _ := cr.FieldPos(0)
	good := true
	var seen [numFields]bool
	cols := make([]field, 0, len(head))
	for _, h := range head {
		name := strings.ToLower(strings.TrimSpace(h))
		f, ok := fieldByName(name)
		switch {
		case !ok && strings.ContainsAny(name, ";\t"):
			c.add(line, "", "columns are not separated by commas", "write commas; semicolons stand between several macs or tags")
			return nil, false
		case !ok:
			c.add(line, label(name), "is not a column of the inventory", "write one of "+knownFields())
			good = false
		case seen[f]:
			c.add(line, name, "stands in the header twice", "write it once")
			good = false
		default:
			seen[f] = true
		}
		cols = append(cols, f)
	}
	if good && !seen[fPrefix] && !seen[fIP] {
		c.add(line, "", "the header has neither prefix nor ip", csvExample)
		good = false
	}
	return cols, good
}

func csvList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ';' || r == ' ' })
}

func csvError(err error, c *checker) {
	var pe *csv.ParseError
	if errors.As(err, &pe) {
		c.add(pe.Line, "", "is not CSV: "+pe.Err.Error(), `write quotes around the whole value and double those inside it ("a ""b""")`)
		return
	}
	c.add(0, "", "cannot be read: "+err.Error(), "")
}
