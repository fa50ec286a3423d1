package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// terminal is what an output is written to. The zero value is a file or a pipe:
// lines as long as they are, no colours.
type terminal struct {
	is    bool
	width int // columns; 0: without end
	color bool
}

// terminalOf asks the system what w is. NO_COLOR (no-color.org) and TERM=dumb
// turn colours off.
func terminalOf(w io.Writer) terminal {
	f, ok := w.(*os.File)
	if !ok {
		return terminal{}
	}
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return terminal{}
	}
	t := terminal{is: true, width: int(ws.Col), color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if t.width == 0 { // a serial line, say, that does not know
		t.width = 80
	}
	return t
}

// Colours of cells, as SGR parameters (ECMA-48 §8.3.117).
const (
	plain  = ""
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
	bold   = "1"
)

func (t terminal) paint(s, color string) string {
	if !t.color || color == plain || s == "" {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// cell is a text in a table.
type cell struct{ text, color string }

// column is a column of a table. Where the terminal is too narrow, those with
// room are cut, down to room columns, and extra ones are left out where that is
// not enough: the more extra first, of these the last.
type column struct {
	head  string
	right bool
	room  int // least width that still tells something; 0: never cut
	extra int // may be left out
}

// table is written with a line for each row.
type table struct {
	cols []column
	rows [][]cell
}

// newTable reads columns from their heads: "NAME" as it is, ">NAME" to the
// right, "NAME~20" may be cut to 20, "NAME?" may be left out, "NAME??"
// before it.
func newTable(heads ...string) *table {
	t := &table{}
	for _, h := range heads {
		c := column{}
		h, c.right = strings.CutPrefix(h, ">")
		for strings.HasSuffix(h, "?") {
			h, c.extra = h[:len(h)-1], c.extra+1
		}
		if name, room, ok := strings.Cut(h, "~"); ok {
			h = name
			c.room, _ = strconv.Atoi(room) // of our own texts
		}
		c.head = h
		t.cols = append(t.cols, c)
	}
	return t
}

// add adds a row of texts and cells.
func (t *table) add(cells ...any) {
	row := make([]cell, len(t.cols))
	for i, c := range cells {
		switch c := c.(type) {
		case cell:
			row[i] = cell{clean(c.text), c.color}
		case string:
			row[i].text = clean(c)
		default:
			row[i].text = clean(fmt.Sprint(c))
		}
		if row[i].text == "" {
			row[i].text = "-"
		}
	}
	t.rows = append(t.rows, row)
}

const gap = 2 // between columns

// layout gives the widths of the columns; 0 is one that is left out.
func (t *table) layout(limit int) []int {
	widths := make([]int, len(t.cols))
	for i, c := range t.cols {
		widths[i] = width(c.head)
		for _, r := range t.rows {
			widths[i] = max(widths[i], width(r[i].text))
		}
	}
	if limit == 0 {
		return widths
	}
	least, total := -gap, -gap // with every column cut, and with none
	room := func(i int) int {
		if c := t.cols[i]; c.room > 0 {
			return min(widths[i], max(c.room, width(c.head)))
		}
		return widths[i]
	}
	for i, w := range widths {
		least, total = least+room(i)+gap, total+w+gap
	}
	for extra := 2; extra > 0; extra-- {
		for i := len(t.cols) - 1; i >= 0 && least > limit; i-- {
			if t.cols[i].extra == extra {
				least, total, widths[i] = least-room(i)-gap, total-widths[i]-gap, 0
			}
		}
	}
	for i := len(t.cols) - 1; i >= 0 && total > limit; i-- {
		cut := min(total-limit, widths[i]-room(i))
		widths[i], total = widths[i]-cut, total-cut
	}
	return widths
}

// write writes the table, its head first.
func (t *table) write(w io.Writer, term terminal) error {
	widths := t.layout(term.width)
	var b strings.Builder
	head := make([]cell, len(t.cols))
	for i, c := range t.cols {
		head[i] = cell{c.head, bold}
	}
	last := 0
	for i, n := range widths {
		if n > 0 {
			last = i
		}
	}
	for _, r := range append([][]cell{head}, t.rows...) {
		for i, c := range r {
			if widths[i] == 0 {
				continue
			}
			text := shorten(c.text, widths[i])
			pad := strings.Repeat(" ", widths[i]-width(text))
			switch {
			case t.cols[i].right:
				b.WriteString(pad + term.paint(text, c.color))
			case i == last:
				b.WriteString(term.paint(text, c.color))
			default:
				b.WriteString(term.paint(text, c.color) + pad)
			}
			if i != last {
				b.WriteString(strings.Repeat(" ", gap))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// width is how many columns a text takes, counting each character as one:
// addresses, names and our own sentences are not written in wide ones.
func width(s string) int { return utf8.RuneCountInString(s) }

func shorten(s string, n int) string {
	if width(s) <= n {
		return s
	}
	r := []rune(s)
	return string(r[:max(n-1, 0)]) + "…"
}

// clean makes a text safe for a terminal: names and reasons are written by
// customers and attackers. What is not printed as itself becomes a question
// mark; line ends become spaces.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unsafeRune(r):
			return r
		}
		return '?'
	}, s)
}

// unsafeRune: control characters, and those that turn the direction of writing
// or have no width (UAX #9, Unicode category Cf).
func unsafeRune(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == utf8.RuneError || unicode.In(r, unicode.Zl, unicode.Zp)
}

// cleanText is clean for a text of several lines.
func cleanText(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unsafeRune(r) {
			return '?'
		}
		return r
	}, s)
}

// wrap breaks a text into lines of at most n columns, between words where it
// can; 0 breaks nothing.
func wrap(s string, n int) []string {
	s = clean(s)
	if n <= 0 || width(s) <= n {
		return []string{s}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(s) {
		for width(word) > n {
			if line != "" {
				lines, line = append(lines, line), ""
			}
			r := []rune(word)
			lines, word = append(lines, string(r[:n])), string(r[n:])
		}
		switch {
		case line == "":
			line = word
		case width(line)+1+width(word) > n:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// pairs are names with their values, and the values' colours, below each other;
// those without a value are left out.
type pairs [][3]string

func (p pairs) write(w io.Writer, term terminal) error {
	longest := 0
	for _, kv := range p {
		if kv[1] != "" {
			longest = max(longest, width(kv[0]))
		}
	}
	var b strings.Builder
	for _, kv := range p {
		if kv[1] == "" {
			continue
		}
		room := 0
		if term.width > longest+gap+20 {
			room = term.width - longest - gap
		}
		for i, line := range wrap(kv[1], room) {
			name := kv[0]
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(&b, "%s%s%s\n", term.paint(name, bold), strings.Repeat(" ", longest+gap-width(name)), term.paint(line, kv[2]))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// stamp writes a moment in UTC; the zero time is a hyphen.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateTime)
}

// span writes a length of time with its two largest units.
func span(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// metric writes a number with three digits and a decimal prefix: 48.1M.
func metric[N ~int64 | ~uint64 | ~float64](n N) string {
	x := float64(n)
	if x < 1000 {
		return strconv.FormatFloat(x, 'f', precision(x), 64)
	}
	for _, unit := range "kMGTP" {
		if x /= 1000; x < 999.5 {
			return strconv.FormatFloat(x, 'f', precision(x), 64) + string(unit)
		}
	}
	return strconv.FormatFloat(x/1000, 'f', 0, 64) + "E"
}

func precision(x float64) int {
	switch {
	case x == float64(int64(x)) && x < 1000, x >= 99.95:
		return 0
	case x >= 9.995:
		return 1
	}
	return 2
}
