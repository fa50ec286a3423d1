package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRunStatus(t *testing.T) {
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 2, "usage"},
		{[]string{"help"}, 0, "compare"},
		{[]string{"nothing"}, 2, `no command "nothing"`},
		{[]string{"load", "--protocol", "v8"}, 2, "v5, v9, ipfix or sflow"},
		{[]string{"load", "--duration", "long"}, 2, "router"},
		{[]string{"load", "--target", "192.0.2.1:2055"}, 1, "127.0.0.0/8"},
		{[]string{"load", "extra"}, 2, "unexpected"},
		{[]string{"compare", "--protocols", "v9,v8"}, 2, `"v8" is none of`},
		{[]string{"compare", "--only", "nobody"}, 2, "no such collector"},
		{[]string{"compare", "--cpu", "9999"}, 1, "CPU 9999"},
		{[]string{"scale", "--protocol", "v8"}, 2, "v5, v9, ipfix or sflow"},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), tc.args, &out, &errs); code != tc.code || !strings.Contains(out.String()+errs.String(), tc.says) {
			t.Errorf("%q: exit %d, want %d\n%s%s", tc.args, code, tc.code, &out, &errs)
		}
	}
}
