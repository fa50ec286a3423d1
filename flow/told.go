package flow

import (
	"fmt"
	"strconv"
	"strings"
)

// Told is a sentence of ours as a program needs it to say it in another language,
// or to branch on it; the sentence itself stands beside it in English.
type Told struct {
	Code   string   `json:"code"`             // from a closed list
	Values []string `json:"values,omitempty"` // what is put into the sentence, in its order
	Detail string   `json:"detail,omitempty"` // what follows it: the words of an adapter or a person
}

// Forms are the sentences of a package in English, by their code; {0}, {1}, …
// stand for the values.
type Forms map[string]string

// Say gives the sentence of a code with its values, and both as a program needs
// them. A code that is not among the forms is a mistake of ours: it panics.
func (f Forms) Say(code string, values ...any) (string, Told) {
	form, ok := f[code]
	if !ok {
		panic("flow: no sentence for the code " + code)
	}
	t := Told{Code: code}
	pairs := make([]string, 0, 2*len(values))
	for i, v := range values {
		t.Values = append(t.Values, fmt.Sprint(v))
		pairs = append(pairs, "{"+strconv.Itoa(i)+"}", t.Values[i])
	}
	return strings.NewReplacer(pairs...).Replace(form), t
}
