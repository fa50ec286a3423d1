package api

import (
	"net/http"
	"path"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// RuleShapes are empty answers of Rules: the OpenAPI document is made of their
// types, which are other packages'.
type RuleShapes struct {
	Policy    any // of Explain
	Precision any // an entry of Precisions
	Proposal  any // an entry of Proposals
	Case      any // an entry of Cases, and what SetMark answers
}

// shapes describes answers whose types other packages have, under names that
// do not meet those of this one's: a type of the package ledger begins with it.
type shapes struct{ own, all huma.Registry }

func newShapes(all huma.Registry) shapes {
	return shapes{own: huma.NewMapRegistry("#/components/schemas/", foreignName), all: all}
}

func foreignName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	switch pkg := path.Base(t.PkgPath()); pkg {
	case "ledger":
		return "Ledger" + name
	default:
		return name
	}
}

// one describes v itself.
func (s shapes) one(v any) *huma.Schema {
	out := s.own.Schema(reflect.TypeOf(v), true, "")
	for name, schema := range s.own.Map() {
		if s.all.Map()[name] == nil { // else it is the vocabulary, described already
			s.all.Map()[name] = schema
		}
	}
	return out
}

// list describes an object with a list of v under name.
func (s shapes) list(name string, v any) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Required: []string{name},
		Properties: map[string]*huma.Schema{name: {Type: huma.TypeArray, Items: s.one(v)}}}
}

// answers gives op an answer in JSON of a known shape.
func answers(op huma.Operation, schema *huma.Schema) huma.Operation {
	op.Responses = map[string]*huma.Response{strconv.Itoa(http.StatusOK): {Description: http.StatusText(http.StatusOK),
		Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}}
	return op
}
