package execute

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/respond/suspendertest"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func schema(t *testing.T, file string) func(text string) error {
	t.Helper()
	s, err := jsonschema.NewCompiler().Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return err
		}
		return s.Validate(v)
	}
}

// What is written to a command and what the example answers is what the schemas
// say, for every action; and what is not is refused by them.
func TestSchemas(t *testing.T) {
	request, answer := schema(t, "request.schema.json"), schema(t, "answer.schema.json")
	a, _ := example(t)
	log := t.TempDir()
	a.cfg.Command = append([]string{"/bin/sh", "-c", `in=$(cat); echo "$in" >>$LOG/in; out=$(echo "$in" | "$@") || exit $?; echo "$out" | tee -a $LOG/out`, "x"}, a.cfg.Command...)
	a.cfg.Env["LOG"] = log
	m := suspendertest.Mark("inc-1")
	for _, me := range []flow.Measure{
		{Kind: flow.MeasureBlockPort, Ports: []flow.PortRule{{Proto: 6, Port: 22}, {Proto: 1}}}, {Kind: flow.MeasureLimit, KbitS: 8000},
	} {
		r, err := a.Restrict(t.Context(), testNIC, me, m)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := a.Lift(t.Context(), testNIC, me.Kind, m, r); err != nil {
				t.Error(err)
			}
		}()
	}
	r, err := a.Cut(t.Context(), testNIC, m)
	if err == nil {
		_, err = a.Marked(t.Context())
	}
	if err == nil {
		r.Undo = []byte(`{"any": ["thing"]}`)
		err = a.Restore(t.Context(), testNIC, m, r)
	}
	if err == nil {
		err = a.Lift(t.Context(), testNIC, flow.MeasureLimit, m, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	for file, valid := range map[string]func(string) error{"in": request, "out": answer} {
		text, err := os.ReadFile(filepath.Join(log, file))
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		if len(lines) < 10 {
			t.Errorf("%s: only %d objects", file, len(lines))
		}
		for _, l := range lines {
			if err := valid(string(l)); err != nil {
				t.Errorf("%s: %s\n%v", file, l, err)
			}
		}
	}
	for text, valid := range map[string]func(string) error{
		`{"version":2,"action":"list","adapter":"p"}`:                                                  request,
		`{"version":1,"action":"status","adapter":"p"}`:                                                request,
		`{"version":1,"action":"cut","adapter":"p","nic":{"vds":"","hypervisor":"","mac":"","ip":""}}`: request,
		`{"live":"up","config":"maybe","running":true}`:                                                answer,
		`{"live":"up","config":"up"}`:                                                                  answer,
		`{"live":"up","config":"up","running":true,"mark":{}}`:                                         answer,
	} {
		if valid(text) == nil {
			t.Errorf("passed: %s", text)
		}
	}
}
