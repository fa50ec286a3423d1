package httpjson

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/itchyny/gojq"
)

// expression is a compiled jq expression. It sees its input alone: no
// environment, no files, no modules.
type expression struct {
	name string
	code *gojq.Code
}

func compile(name, text string) (expression, error) {
	q, err := gojq.Parse(text)
	if err != nil {
		return expression{}, fmt.Errorf("%s: %s%w", name, where(text, err), err)
	}
	code, err := gojq.Compile(q)
	if err != nil {
		return expression{}, fmt.Errorf("%s: %s%w", name, where(text, err), err)
	}
	return expression{name, code}, nil
}

// where says at which line and column of the expression the error is; both
// count from 1.
func where(text string, err error) string {
	at := -1
	var pe *gojq.ParseError
	if errors.As(err, &pe) {
		at = pe.Offset - len(pe.Token)
	} else if _, name, ok := strings.Cut(err.Error(), "not defined: "); ok {
		// The compiler does not say where: it is the first place of the name.
		name, _, _ = strings.Cut(name, "/")
		at = strings.Index(text, name)
	}
	if at < 0 || at > len(text) {
		return ""
	}
	before := text[:at]
	line := strings.Count(before, "\n") + 1
	col := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	if line == 1 {
		return fmt.Sprintf("column %d: ", col)
	}
	return fmt.Sprintf("line %d, column %d: ", line, col)
}

// run calls fn with each value that the expression yields.
func (e expression) run(ctx context.Context, in any, fn func(any) error) error {
	iter := e.code.RunWithContext(ctx, in)
	for {
		v, ok := iter.Next()
		if !ok {
			return nil
		}
		if err, ok := v.(error); ok {
			var halt *gojq.HaltError
			if errors.As(err, &halt) && halt.Value() == nil {
				return nil
			}
			return fmt.Errorf("%s: %w", e.name, err)
		}
		if err := fn(v); err != nil {
			return err
		}
	}
}
