package inventory

import (
	"fmt"
	"strings"
)

// Issue is one thing that is wrong with an inventory file and how to mend it.
type Issue struct {
	File    string
	Line    int    // 1-based; 0 when it concerns the whole file
	Field   string // key or column; empty when it concerns the entry
	Problem string // what is wrong
	Fix     string // what to write instead
}

// String gives "file:line: field: problem; fix" on one line.
func (i Issue) String() string {
	var b strings.Builder
	b.WriteString(i.File)
	if i.Line > 0 {
		fmt.Fprintf(&b, ":%d", i.Line)
	}
	b.WriteString(": ")
	if i.Field != "" {
		b.WriteString(i.Field + ": ")
	}
	b.WriteString(i.Problem)
	if i.Fix != "" {
		b.WriteString("; " + i.Fix)
	}
	return b.String()
}

// Issues are all the errors of one file, in the order of its lines.
type Issues []Issue

// Error gives one line for each issue, at most maxShown of them, and says how
// many more there are.
func (is Issues) Error() string {
	var b strings.Builder
	for n, i := range is {
		if n == maxShown {
			fmt.Fprintf(&b, "\nand %d more errors", len(is)-n)
			break
		}
		if n > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(i.String())
	}
	return b.String()
}

// label makes a key that we do not know fit for one line of a message.
func label(s string) string {
	if s == "" || unfit(s) != "" {
		return fmt.Sprintf("%.60q", s)
	}
	return s
}
