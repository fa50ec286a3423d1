package flow

// Told is a sentence of ours as a program needs it to say it in another language,
// or to branch on it; the sentence itself stands beside it in English.
type Told struct {
	Code   string   `json:"code"`             // from a closed list
	Values []string `json:"values,omitempty"` // what is put into the sentence, in its order
	Detail string   `json:"detail,omitempty"` // what follows it: the words of an adapter or a person
}
