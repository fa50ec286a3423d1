package config

import (
	"reflect"
	"slices"
)

// Secret is one secret of a configuration, read from its file.
type Secret struct {
	Field string // type and field that hold it: Email.Password
	Value string
}

// Secrets lists every secret that c holds, with empty ones left out. By
// convention a secret's field is one that no key of the file is read into
// (yaml "-") and that holds text.
func Secrets(c Config) []Secret {
	var out []Secret
	values(reflect.ValueOf(c), &out)
	return out
}

// SecretFields names every field that may hold a secret, in order; those of all
// types of suspenders and inventory sources are among them.
func SecretFields() []string {
	roots := []reflect.Type{reflect.TypeFor[Config]()}
	for _, mk := range specs {
		roots = append(roots, reflect.TypeOf(mk()))
	}
	for _, mk := range sourceSpecs {
		roots = append(roots, reflect.TypeOf(mk()))
	}
	seen := map[reflect.Type]bool{}
	var out []string
	for _, t := range roots {
		fields(t, seen, &out)
	}
	slices.Sort(out)
	return out
}

// isSecret reports whether a field is read from a file of its own.
func isSecret(f reflect.StructField) bool {
	t := f.Type
	if k := t.Kind(); k == reflect.Slice || k == reflect.Map {
		t = t.Elem()
	}
	return f.Tag.Get("yaml") == "-" && t.Kind() == reflect.String
}

func fields(t reflect.Type, seen map[reflect.Type]bool, out *[]string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Array:
		fields(t.Elem(), seen, out)
	case reflect.Struct:
		if seen[t] {
			return
		}
		seen[t] = true
		for i := range t.NumField() {
			f := t.Field(i)
			switch {
			case isSecret(f):
				*out = append(*out, t.Name()+"."+f.Name)
			case f.IsExported():
				fields(f.Type, seen, out)
			}
		}
	}
}

func values(v reflect.Value, out *[]Secret) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			values(v.Elem(), out)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			values(v.Index(i), out)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			values(it.Value(), out)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case isSecret(f):
				text(v.Field(i), v.Type().Name()+"."+f.Name, out)
			case f.IsExported():
				values(v.Field(i), out)
			}
		}
	}
}

func text(v reflect.Value, field string, out *[]Secret) {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			text(v.Index(i), field, out)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			text(it.Value(), field, out)
		}
	case reflect.String:
		if v.String() != "" {
			*out = append(*out, Secret{field, v.String()})
		}
	}
}
